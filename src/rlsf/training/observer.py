"""What is told about a training while it runs, and the probes that the selection reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, TrainerCallback, TrainerState

from rlsf.training.cut_models import is_cut, whole_policy
from rlsf.training.guard import Guard
from rlsf.training.selection import Probe, Selection

Record = Callable[[dict[str, Any]], None]
#: Told (steps done, steps in all) at the start and after every optimiser step.
Progress = Callable[[int, int], None]


#: What a probe says of its own cost: how many tokens it wrote.
WRITTEN = "written_tokens"
#: Before the names of the vital signs of rollouts in a trainer's metrics.
ROLLOUTS = "rollouts/"


def ignore(*_: Any) -> None:
    """For those who want to hear nothing."""


class TrainingObserver(TrainerCallback):
    """Reports every step, probes the policy for the selection, and lets a guard watch the rollouts."""

    def __init__(
        self,
        trainer: Any,
        selection: Selection | None,
        probe: Probe | None,
        record: Record,
        progress: Progress,
    ) -> None:
        self.trainer = trainer
        self.selection = selection
        self.probe = probe
        # What one process tells is told; the others know the same.
        first = trainer.is_world_process_zero()
        self.record = record if first else ignore
        self.progress = progress if first else ignore

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)
        affordable = self.trainer.spending.affords_probe(last=False)
        if self.selection is not None and not self.selection.probes and affordable:
            self._probe(self.selection, state.global_step)
            # The start may turn out to be the best; the weights in memory are about to change.
            with _weights_alone(self.trainer):
                self.trainer._save_checkpoint(self.trainer.model, None)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)
        spending, step, selection = self.trainer.spending, state.global_step, self.selection
        spending.note_step(self.trainer)
        last = step >= state.max_steps
        lacking = None if last else spending.lacks(self.trainer)
        end = step if lacking else state.max_steps
        if selection is not None and selection.due(step, end) and spending.affords_probe(last=step >= end):
            improved = self._probe(selection, step)
            control.should_save = control.should_save or improved or selection.stopped
            control.should_training_stop = control.should_training_stop or selection.stopped
            lacking = lacking or (None if last else spending.lacks(self.trainer))
        if lacking and not control.should_training_stop:
            spending.ended_by = lacking
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            spent = self.trainer.spending.tokens
            self.record({"event": "training", "step": state.global_step, **logs, **spent})
            self._watch(state, control, logs)

    def _watch(self, state: TrainerState, control: Any, logs: dict[str, Any]) -> None:
        """Tell a guard the vital signs of the rollouts; where it stops the training, this step is probed as well."""
        signs = {name.removeprefix(ROLLOUTS): value for name, value in logs.items() if name.startswith(ROLLOUTS)}
        guard, step = self.selection, state.global_step
        if not signs or not isinstance(guard, Guard) or guard.stopped:
            return
        guard.watch(step, {**signs, "reward": logs["reward"], "zero_variance": logs["frac_reward_zero_std"]})
        if guard.stopped:
            if not guard.probes or guard.probes[-1]["step"] < step:
                self._probe(guard, step)
            control.should_save = control.should_training_stop = True

    def _probe(self, selection: Selection, step: int) -> bool:
        # One process measures: weights are the same in all, but rounding need not be, and they must decide the same.
        with whole_policy(self.trainer) as policy:
            told = [{} if policy is None else self._measure(policy, step)]
        (measured,) = broadcast_object_list(told)
        measured = dict(measured)
        tokens = measured.pop(WRITTEN, 0)
        self.trainer.spending.note_probe(tokens)
        improved = selection.add(step, measured)
        self.record({"event": "probe", "step": step, **measured, WRITTEN: tokens})
        return improved

    def _measure(self, policy: PreTrainedModel, step: int) -> dict[str, float]:
        assert self.probe is not None
        with _undisturbed(policy):
            return dict(self.probe(policy, step))


@contextmanager
def _weights_alone(trainer: Any) -> Iterator[None]:
    """Leave out the optimiser, which has no state yet, where a model is cut: to gather it torch would take a step."""
    kept = trainer.args.save_only_model
    trainer.args.save_only_model = kept or is_cut(trainer)
    try:
        yield
    finally:
        trainer.args.save_only_model = kept


@contextmanager
def _undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; random number generators continue afterwards as if nothing had happened."""
    training, python, numpy_ = model.training, random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            yield
    finally:
        model.train(training)
        random.setstate(python)
        np.random.set_state(numpy_)
