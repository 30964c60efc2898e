"""Label-free choice of the checkpoint: keep the step whose policy agrees best with the confident answers.

Plain preference optimisation can lower the likelihood of what it prefers, and its accuracy then rises and falls again
within one run. Without labels that is not seen in accuracy, but in agreement: the share of held-out unlabelled prompts
whose greedy answer equals the answer the sampling policy was surest of. The start counts as step 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rlsf.errors import InputError
from rlsf.files import read_json, write_json
from rlsf.training.config import SelectionConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Measures a policy at a step; ``agreement`` in [0, 1] is what selection reads.
Probe = Callable[["PreTrainedModel", int], Mapping[str, float]]

SELECTION_STATE = "selection.json"


@dataclass
class Selection:
    """Probes so far and the best of them; ties go to the earlier step, which has moved less from the start."""

    #: The recipe's table that configures it, for messages.
    table: ClassVar[str] = "training.selection"

    config: SelectionConfig
    probes: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False

    @property
    def most_agreeing(self) -> dict[str, float] | None:
        """The probe with the best agreement, None before the first."""
        return max(self.probes, key=lambda probe: probe["agreement"], default=None)

    @property
    def best(self) -> dict[str, float] | None:
        """The probe whose policy is kept, None before the first."""
        return self.most_agreeing

    @property
    def best_step(self) -> int | None:
        """The step of that probe."""
        return None if self.best is None else int(self.best["step"])

    @property
    def steps_to_hold(self) -> set[int]:
        """The steps whose checkpoints may still be kept as the result."""
        return {int(probe["step"]) for probe in (self.best, self.most_agreeing) if probe is not None}

    def due(self, step: int, last_step: int) -> bool:
        """Whether this step is probed: every ``every`` steps and the last one."""
        return step % self.config.every == 0 or step >= last_step

    def add(self, step: int, measured: Mapping[str, float]) -> bool:
        """Note a probe; True where it is the best so far. ``stopped`` tells whether patience has run out."""
        agreement = measured.get("agreement", math.nan)
        if not math.isfinite(agreement):
            raise InputError(
                f"the probe at step {step} has no agreement to select by (got {agreement}): hold out prompts with an"
                f" answer, or set {self.table}.enabled=false"
            )
        self.probes.append({"step": step, **measured})
        improved = self.best_step == step
        if self.config.patience is not None:
            self.stopped = self._probes_since_best() >= self.config.patience
        return improved

    def _probes_since_best(self) -> int:
        return sum(probe["step"] > (self.best_step or 0) for probe in self.probes)

    def explain(self) -> str:
        """Why this step's policy was kept, in one line."""
        if self.best is None:
            return "no probe: the last step is kept"
        agreement = (
            f"agreement {self.best['agreement']:.3f}, {self._choice()} of {len(self.probes)} probes{self._ending()}"
        )
        if self.best_step == 0:
            return f"no step was better than the start, which is kept: {agreement}"
        return agreement

    def _choice(self) -> str:
        return "the best"

    def _ending(self) -> str:
        return f"; stopped after {self.config.patience} probes without a better one" if self.stopped else ""

    def save(self, folder: Path) -> None:
        """Write the state beside a checkpoint."""
        write_json(folder / SELECTION_STATE, {"probes": self.probes, "stopped": self.stopped})

    @classmethod
    def load(cls, config: SelectionConfig, checkpoint: Path | None) -> Selection:
        """The state of a checkpoint, or a fresh one."""
        if checkpoint is None or not (checkpoint / SELECTION_STATE).exists():
            return cls(config)
        state = read_json(checkpoint / SELECTION_STATE)
        return cls(config, probes=state["probes"], stopped=state["stopped"])
