"""What every training does around TRL's loop: where it starts, how it runs, which step's policy is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerState

from rlsf.errors import InputError, ResourceError
from rlsf.training.checkpoints import TRAINER_STATE, checkpoint_path, latest_checkpoint
from rlsf.training.cut_models import is_cut, kept_model, require_same_way
from rlsf.training.policy import no_progress_bars, save_policy
from rlsf.training.selection import Selection


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came out of training: ``best_step`` is the step whose policy was saved, ``reason`` says why in one line."""

    steps: int
    best_step: int
    reason: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last step's metrics, under TRL's names."""
    probes: tuple[Mapping[str, float], ...] = ()
    """Every probe of the selection, in the order of steps."""
    learning_rate: float = 0.0
    """The peak learning rate used, also where the configuration says ``auto``."""
    pairs: int = 0
    examples: int = 0
    """What was trained on where it is not pairs."""
    too_long: int = 0
    """Pairs or examples left out because a trace does not fit the model's context."""
    training_tokens: int = 0
    generated_tokens: int = 0
    """Of completions that were sampled while it trained, and of probes."""
    completions: int = 0


def starting_point(folder: Path, *, resume: bool) -> Path | None:
    """The last whole checkpoint; raises ``InputError`` where there is one and ``resume`` is off."""
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None and not resume:
        raise InputError(
            f"{folder} already holds {checkpoint.name}: continue with --resume, or choose another --output"
        )
    return checkpoint


def train_to_the_best(trainer: Any, start: Path | None) -> TrainingResult:
    """Train to the end from ``start``; the trainer then holds the policy of the step that its selection keeps."""
    selection: Selection | None = trainer.selection
    with no_progress_bars():
        state = _run(trainer, start, selection)
        best_step = state.global_step if selection is None or selection.best_step is None else selection.best_step
        trainer.kept_step = best_step
        if not is_cut(trainer) and (best_step != trainer.state.global_step or not trainer.state.global_step):
            trainer._load_from_checkpoint(str(checkpoint_path(trainer.folder, best_step)))
    return TrainingResult(
        steps=state.global_step,
        best_step=best_step,
        reason=_reason(trainer),
        metrics=_last_metrics(state),
        probes=tuple(selection.probes) if selection else (),
        learning_rate=trainer.args.learning_rate,
        completions=trainer.spending.completions,
        **trainer.spending.tokens,
    )


def keep_policy(
    trainer: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype | None = None
) -> None:
    """Save the policy that the trainer holds; the first process writes, the others wait."""
    if trainer.is_world_process_zero():
        with no_progress_bars():
            save_policy(kept_model(trainer), tokenizer, folder, dtype=dtype)
    trainer.accelerator.wait_for_everyone()


def _run(trainer: Any, start: Path | None, selection: Selection | None) -> TrainerState:
    """Train to the end, unless the checkpoint already is the end; the state reached."""
    if start is not None:
        state = TrainerState.load_from_json(str(start / TRAINER_STATE))
        stopped = trainer.spending.ended_by is not None or (selection is not None and selection.stopped)
        if state.global_step >= state.max_steps or stopped:
            return state
        require_same_way(trainer, start)
        if is_cut(trainer) and not state.global_step:
            start = None  # its checkpoint holds weights alone, which are those at hand
    try:
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"out of memory while training: lower {trainer.section}.device_batch_size (gradients accumulate), or set"
            f" {trainer.section}.trainer.gradient_checkpointing=true"
        ) from error
    return trainer.state


def _reason(trainer: Any) -> str:
    kept = trainer.selection.explain() if trainer.selection else "no selection: the last step is kept"
    cap = trainer.spending.ended_by
    return kept if cap is None else f"{kept}; the next one might have gone beyond budget.{cap}"


def _last_metrics(state: TrainerState) -> dict[str, float]:
    steps = [entry for entry in state.log_history if "loss" in entry]
    return {name: float(value) for name, value in steps[-1].items()} if steps else {}
