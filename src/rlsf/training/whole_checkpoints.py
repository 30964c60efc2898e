"""What every trainer of ours adds to TRL's, whatever it optimises: whole checkpoints, finite numbers, no telemetry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import register_package
from transformers.utils import SAFE_WEIGHTS_NAME

from rlsf.errors import ModelError
from rlsf.training.checkpoints import prune_checkpoints, staged_checkpoint, staging_folder
from rlsf.training.cut_models import is_cut
from rlsf.training.selection import Selection
from rlsf.training.spending import Spending

if TYPE_CHECKING:
    _Trainer = Any  # whichever it is mixed into
else:
    _Trainer = object


def _from_numbered_cpu(storage: Any, location: str) -> Any:
    """accelerate numbers the one CPU by process, and torch then does not know where an optimiser's state belongs."""
    return storage if location.startswith("cpu:") else None


register_package(100, lambda storage: None, _from_numbered_cpu)


class WholeCheckpoints(_Trainer):
    """Mix into a TRL trainer, to the left of it: checkpoints appear in ``folder`` whole or not at all.

    The state of the ``selection`` and of the ``spending`` is saved with each, and the best step's checkpoint is never
    deleted. Raises ``ModelError`` for a loss or a gradient that is not a number.
    """

    #: The section of the recipe that the options stand in, for messages.
    section = "training"

    def __init__(self, *args: Any, folder: Path, selection: Selection | None = None, **kwargs: Any) -> None:
        self.folder = folder
        self.selection = selection
        self.spending = Spending()
        self._staging: Path | None = None
        #: The step whose policy is kept, once training is over.
        self.kept_step: int | None = None
        super().__init__(*args, **kwargs)
        # FSDP changes the class of what it cuts.
        self.model_class = type(self.accelerator.unwrap_model(self.model))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or self.folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write the checkpoint aside, with the state of the selection, and rename it when it is whole."""
        if not self.is_world_process_zero():
            self._save_beside_the_first_process(model, trial)
            return
        with staged_checkpoint(self.folder, self.state.global_step) as self._staging:
            try:
                self.accelerator.wait_for_everyone()
                super()._save_checkpoint(model, trial)
                written = self._staging / f"checkpoint-{self.state.global_step}"
                self.spending.save(written)
                if self.selection is not None:
                    self.selection.save(written)
                self.accelerator.wait_for_everyone()
            finally:
                self._staging = None
        held = set() if self.selection is None else self.selection.steps_to_hold
        if self.args.save_total_limit:  # transformers takes none, and 0, for all
            prune_checkpoints(self.folder, keep=self.args.save_total_limit, protected=held)
        self.accelerator.wait_for_everyone()

    def _save_beside_the_first_process(self, model: Any, trial: Any) -> None:
        """Other processes add their random states to the folder that the first one makes and renames."""
        self._staging = staging_folder(self.folder)
        try:
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As transformers does; a policy that training in pieces has kept is read where models are whole, too."""
        weights = Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME
        if is_cut(self) or not weights.is_file():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        loaded = (model or self.model).load_state_dict(load_file(weights), strict=False)
        self._issue_warnings_after_load(loaded)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Silent about tied weights, which a checkpoint holds once; anything else missing is damage."""
        tied = getattr(self.model, "all_tied_weights_keys", {})
        wrong = sorted({*load_result.missing_keys} - {*tied}) + load_result.unexpected_keys
        if wrong:
            raise ModelError(
                f"the checkpoint in {self.folder} does not belong to this model ({wrong[0]} and {len(wrong) - 1} more):"
                " train into a new --output"
            )

    def _require_finite(self, value: Tensor, name: str) -> None:
        if not torch.isfinite(value).all():
            raise ModelError(
                f"the {name} is not a number at training step {self.state.global_step + 1}: lower"
                f" {self.section}.learning_rate (now {self.args.learning_rate:g}); earlier checkpoints in"
                f" {self.folder} are intact"
            )

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        # Under float16 the loss scaler meets infinities by design and skips those steps; DeepSpeed may not know a norm.
        if self.accelerator.scaler is None and norm is not None:
            self._require_finite(torch.as_tensor(norm), "gradient")
        return norm

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the card of a run is written from the run, not from a checkpoint."""

    def _send_telemetry(self) -> None:
        """Nothing: training reports to nobody."""
