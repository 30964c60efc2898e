"""Models that FSDP and DeepSpeed cut into pieces over processes: what needs them whole, and how they become whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from accelerate.utils import DistributedType
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from rlsf.errors import InputError
from rlsf.training.checkpoints import checkpoint_path

#: Ways of cutting a model into pieces of which one process alone cannot run a forward pass.
_CUT = {DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM}
#: What their checkpoints hold beside the policy.
_TRACES = {DistributedType.FSDP: "pytorch_model_fsdp*", DistributedType.DEEPSPEED: "global_step*"}


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


def require_same_way(trainer: Any, checkpoint: Path) -> None:
    """Raise ``InputError`` for a checkpoint that training cut in another way has written: its optimiser cannot be read.

    One from before the first step has none, and serves all.
    """
    cut_by = next((kind for kind, pattern in _TRACES.items() if any(checkpoint.glob(pattern))), None)
    own = trainer.accelerator.distributed_type if is_cut(trainer) else None
    if cut_by != own and checkpoint != checkpoint_path(trainer.folder, 0):
        raise InputError(
            f"{checkpoint} was written {_way(cut_by)}, and training would go on {_way(own)}: launch it as before"
        )


def _way(cut_by: DistributedType | None) -> str:
    return "with whole models" if cut_by is None else f"by {cut_by.value}"


def kept_model(trainer: Any) -> Any:
    """The model that a trainer holds, on the first process; in place of pieces, the checkpoint of the step kept."""
    if not is_cut(trainer):
        return trainer.accelerator.unwrap_model(trainer.model)
    unset_hf_deepspeed_config()  # or transformers would cut what it loads, and wait for processes that do not
    return trainer.model_class.from_pretrained(checkpoint_path(trainer.folder, trainer.kept_step))


@contextmanager
def whole_policy(trainer: Any) -> Iterator[PreTrainedModel | None]:
    """The policy as it is, to look at: on the first process, None on the others. All processes enter.

    Pieces are gathered in memory; the copy is let go of with the block.
    """
    first = trainer.is_world_process_zero()
    if not is_cut(trainer):
        policy: Any = trainer.model
        base: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        yield base if first else None
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
