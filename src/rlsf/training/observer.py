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
        if self.selection is not None and not self.selection.probes:
            self._probe(self.selection, state.global_step)
            # The start may turn out to be the best; the weights in memory are about to change.
            with _weights_alone(self.trainer):
                self.trainer._save_checkpoint(self.trainer.model, None)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)
        selection = self.selection
        if selection is None or not selection.due(state.global_step, state.max_steps):
            return
        improved = self._probe(selection, state.global_step)
        control.should_save = control.should_save or improved or selection.stopped
        control.should_training_stop = control.should_training_stop or selection.stopped

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.record({"event": "training", "step": state.global_step, **logs})
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
        improved = selection.add(step, measured)
        self.record({"event": "probe", "step": step, **measured})
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
