"""Train a policy on preference pairs: resumable, with the step to keep chosen without labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerState

from rlsf.errors import InputError, ResourceError
from rlsf.models.facts import context_length
from rlsf.training.checkpoints import TRAINER_STATE, checkpoint_path, latest_checkpoint
from rlsf.training.collator import PairCollator
from rlsf.training.config import TrainingConfig
from rlsf.training.observer import Progress, Record, TrainingObserver
from rlsf.training.options import lora_config, objective, trainer_arguments
from rlsf.training.pairs import Pairs, prepare_pairs
from rlsf.training.policy import low_precision, no_progress_bars, save_policy, special_tokens_kept
from rlsf.training.preference_trainer import PreferenceTrainer
from rlsf.training.selection import Probe, Selection


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
    too_long: int = 0
    """Pairs left out because a trace does not fit the model's context."""


def train_preferences(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    preferences: pa.Table,
    config: TrainingConfig,
    folder: Path,
    policy_folder: Path,
    seed: int,
    probe: Probe | None = None,
    record: Record | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> TrainingResult:
    """Direct preference optimisation on ranked pairs; saves the policy of the chosen step to ``policy_folder``.

    ``model`` is the reference policy at the start and is trained in place; pass a fresh one. Checkpoints and reference
    log-probabilities go to ``folder``. With ``resume``, training goes on from the last whole checkpoint there, or
    starts where there is none; on CPU the weights are then those of a run that was never interrupted, bit for bit.
    ``record`` receives one event an optimiser step (``training``) and one a probe (``probe``).

    Raises ``InputError`` for unusable pairs or options, ``ModelError`` when the loss or gradient is not a number, and
    ``ResourceError`` when disk or memory runs out; finished checkpoints are kept in every case.
    """
    start = _starting_point(folder, resume=resume)
    arguments = trainer_arguments(config, model, folder, seed)
    pairs = prepare_pairs(
        preferences,
        config,
        vocabulary_size=_vocabulary_size(model),
        max_length=arguments.max_length or context_length(model),
    )
    arguments.max_length = None
    selection = Selection.load(config.selection, start) if probe and config.selection.enabled else None
    dtype = low_precision(model)
    trainer = build_trainer(model, tokenizer, pairs, config, arguments, selection)
    trainer.add_callback(TrainingObserver(trainer, selection, probe, record or _ignore, progress or _ignore))
    with no_progress_bars():
        state = _run(trainer, start, selection)
        best_step = state.global_step if selection is None or selection.best_step is None else selection.best_step
        if best_step != trainer.state.global_step or not trainer.state.global_step:
            trainer._load_from_checkpoint(str(checkpoint_path(folder, best_step)))
        save_policy(trainer.model, tokenizer, policy_folder, dtype=dtype)
    return TrainingResult(
        steps=state.global_step,
        best_step=best_step,
        reason=selection.explain() if selection else "no selection: the last step is kept",
        metrics=_last_metrics(state),
        probes=tuple(selection.probes) if selection else (),
        learning_rate=arguments.learning_rate,
        pairs=len(pairs),
        too_long=pairs.too_long,
    )


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    config: TrainingConfig,
    arguments: Any,
    selection: Selection | None = None,
) -> PreferenceTrainer:
    """The trainer for one model and data set; full weights of low precision are held in float32 while they train."""
    adapted = isinstance(model, PeftModel)
    if adapted and not arguments.precompute_ref_log_probs:
        raise InputError("training an adapter further needs training.precompute_reference=true")
    lora = lora_config(config.lora) if config.lora and not adapted else None
    if adapted:
        model.set_adapter("default")
    elif lora is None and low_precision(model) is not None:
        model = model.float()
    reference = None if arguments.precompute_ref_log_probs or adapted or lora else copy.deepcopy(model)
    with special_tokens_kept(model, tokenizer):
        try:
            trainer = PreferenceTrainer(
                model,
                reference,
                arguments,
                PairCollator(pad_token_id=_pad_id(tokenizer)),
                pairs.dataset,
                processing_class=tokenizer,
                peft_config=lora,
                objective=objective(config, arguments),
                folder=Path(arguments.output_dir),
                pairs_digest=pairs.digest,
                selection=selection,
            )
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"training: {error}") from error
    # With a tokenizer at hand the transformers trainer would align the model's special tokens with it.
    trainer.processing_class = None
    trainer.remove_callback(PrinterCallback)
    if adapted:
        # The reference is computed; a second adapter would be saved and loaded in place of the one that trains.
        model.delete_adapter("ref")
    if lora is not None and config.lora is not None:
        _restore_lora_dropout(trainer.model, config.lora.dropout)
    return trainer


def _starting_point(folder: Path, *, resume: bool) -> Path | None:
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None and not resume:
        raise InputError(
            f"{folder} already holds {checkpoint.name}: continue with --resume, or choose another --output"
        )
    return checkpoint


def _run(trainer: PreferenceTrainer, start: Path | None, selection: Selection | None) -> TrainerState:
    """Train to the end, unless the checkpoint already is the end; the state reached."""
    if start is not None:
        state = TrainerState.load_from_json(str(start / TRAINER_STATE))
        if state.global_step >= state.max_steps or (selection is not None and selection.stopped):
            return state
    try:
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            "out of memory while training: lower training.device_batch_size (gradients accumulate up to batch_size),"
            " or set training.trainer.gradient_checkpointing=true"
        ) from error
    return trainer.state


def _last_metrics(state: TrainerState) -> dict[str, float]:
    steps = [entry for entry in state.log_history if "loss" in entry]
    return {name: float(value) for name, value in steps[-1].items()} if steps else {}


def _vocabulary_size(model: Any) -> int:
    return model.get_input_embeddings().weight.shape[0]


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any id serves: padded positions are masked out of attention and loss."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in known if isinstance(token, int)), 0)


def _restore_lora_dropout(model: Any, dropout: float) -> None:
    """TRL switches all dropout off; the adapters' own was asked for."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and ".lora_dropout." in f"{name}.":
            module.p = dropout


def _ignore(*_: Any) -> None:
    pass
