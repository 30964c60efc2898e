"""Models that FSDP and DeepSpeed cut into pieces over processes: what needs them whole, and how they become whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import init_empty_weights
from accelerate.utils import DistributedType
from peft import PeftModel
from transformers import PreTrainedModel

from rlsf.errors import InputError
from rlsf.training.checkpoints import checkpoint_path

#: Ways of cutting a model into pieces of which one process alone cannot run a forward pass.
_CUT = {DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM}


def is_cut(trainer: Any) -> bool:
    """Whether a trainer may cut its model over processes."""
    return trainer.accelerator.distributed_type in _CUT


def fsdp_asked_for() -> bool:
    """Whether ``accelerate launch`` started this process to train by FSDP; known before there is a trainer."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def require_whole_models(trainer: Any, reason: str) -> None:
    """Raise ``InputError`` where a trainer may cut models over processes, so that one alone cannot run them."""
    if is_cut(trainer):
        raise InputError(
            f"{reason} need whole models, and {trainer.accelerator.distributed_type} cuts them over processes: train"
            " with DDP or in one process"
        )


def require_trainable_in_pieces(section: str, *, adapters: bool, second_model: bool = False) -> None:
    """Raise ``InputError`` for what a model in pieces cannot do; ``section`` names where the recipe asks for it."""
    if adapters:
        raise InputError(
            f"{section}.lora: adapters are trained on whole models, which FSDP and DeepSpeed cut over processes: train"
            " with DDP or in one process, or all weights"
        )
    if second_model:
        raise InputError(
            f"{section}.precompute_reference=false holds a second model, which FSDP and DeepSpeed would have to cut as"
            f" well: set {section}.precompute_reference=true"
        )


def kept_model(trainer: Any) -> Any:
    """The model that a trainer holds, on the first process; in place of pieces, the checkpoint of the step kept."""
    if not is_cut(trainer):
        return trainer.accelerator.unwrap_model(trainer.model)
    return trainer.model_class.from_pretrained(checkpoint_path(trainer.folder, trainer.kept_step))


@contextmanager
def whole_policy(trainer: Any) -> Iterator[PreTrainedModel | None]:
    """The policy as it is, to look at: on the first process, None on the others. All processes enter.

    Pieces are gathered in memory; the copy is let go of with the block.
    """
    first = trainer.is_world_process_zero()
    if not is_cut(trainer):
        policy = trainer.model
        yield (policy.get_base_model() if isinstance(policy, PeftModel) else policy) if first else None
        return
    weights = trainer.accelerator.get_state_dict(trainer.deepspeed or trainer.model)
    yield _whole(trainer, weights) if first else None


def _whole(trainer: Any, weights: dict[str, Any]) -> PreTrainedModel:
    """A model of the trainer's architecture that takes ``weights`` over."""
    with init_empty_weights(include_buffers=False):
        model = trainer.model_class(trainer.model.config)
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    model.generation_config = trainer.model.generation_config
    return model.to(trainer.accelerator.device)
