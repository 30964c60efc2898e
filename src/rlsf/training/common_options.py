"""Options of the trainer that do not depend on what is optimised: precision, memory, seeds, logging, adapters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from rlsf.errors import InputError, near_names
from rlsf.training.config import LoraSection
from rlsf.training.learning_rate import default_learning_rate
from rlsf.training.passes_config import PassesSection

#: From this many weights on, activations are recomputed in the backward pass to save memory.
_LARGE_MODEL = 1_000_000_000


def common_options(model: PreTrainedModel, folder: Path, seed: int) -> dict[str, Any]:
    """For every trainer; checkpoints go to ``folder``."""
    return {
        "output_dir": str(folder),
        "save_strategy": "steps",
        "seed": seed % 2**32,
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": model.num_parameters() >= _LARGE_MODEL,
        # One event an optimiser step: averages over several would differ after a resume between two of them.
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **_precision(model),
    }


def checkpoints_kept(kept: int | Literal["all"]) -> dict[str, int | None]:
    """How many checkpoints stay, as an option of a trainer."""
    return {"save_total_limit": None if kept == "all" else kept}


def process_count(model: PreTrainedModel) -> int:
    """How many processes train together."""
    return PartialState(cpu=model.device.type == "cpu").num_processes


def passes(config: PassesSection, processes: int) -> dict[str, Any]:
    """How long a training lasts, its batches and its checkpoints, as options of a trainer.

    The rows of an optimiser step are divided among the processes, so that it is the same step however many there are.
    Raises ``InputError`` where they cannot be divided.
    """
    local, remainder = divmod(config.batch_size, processes)
    if remainder:
        raise InputError(
            f"{config.place}.batch_size={config.batch_size} cannot be divided among {processes} processes: make it a"
            " multiple, or use fewer processes"
        )
    device_batch = math.gcd(local, config.device_batch_size or local)
    return {
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": device_batch,
        "gradient_accumulation_steps": local // device_batch,
        "save_steps": config.save_every,
        **checkpoints_kept(config.keep_checkpoints),
    }


def make_arguments(config_class: Any, options: dict[str, Any], given: Mapping[str, Any], section: str) -> Any:
    """TRL's configuration, in which ``given`` wins over ``options``; raises ``InputError`` for what TRL refuses."""
    try:
        return config_class(**{**options, **given, "output_dir": options["output_dir"]})
    except (ValueError, TypeError) as error:
        raise InputError(f"{section}.trainer: {error}") from error


def check_names(given: Mapping[str, Any], config_class: Any, section: str) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    known = {field.name for field in dataclasses.fields(config_class) if field.init}
    for name in given:
        if name not in known:
            raise InputError(
                f"unknown option {section}.trainer.{name}{near_names(name, known)}: it must be one of"
                f" the options of {config_class.__name__}"
            )
    if "output_dir" in given:
        raise InputError(f"{section}.trainer.output_dir cannot be set: checkpoints live in the run folder (--output)")


def learning_rate(given: float | Literal["auto"], lora: LoraSection | None, model: PreTrainedModel) -> float:
    """The given peak learning rate, or the default for this model."""
    if given != "auto":
        return given
    return default_learning_rate(model.num_parameters(), adapters=lora is not None or isinstance(model, PeftModel))


def lora_config(section: LoraSection) -> LoraConfig:
    """PEFT's configuration of the adapters."""
    modules = section.target_modules
    return LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,  # pyright: ignore[reportArgumentType]  # declared int, used as a factor
        lora_dropout=section.dropout,
        use_rslora=section.rank_stabilised,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )


def restore_lora_dropout(model: Any, dropout: float) -> None:
    """TRL switches all dropout off; the adapters' own was asked for."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and ".lora_dropout." in f"{name}.":
            module.p = dropout


def vocabulary_size(model: Any) -> int:
    """Rows of the embedding table: the token ids that the model can read."""
    return model.get_input_embeddings().weight.shape[0]


def _precision(model: PreTrainedModel) -> dict[str, bool]:
    """bfloat16 mixed precision on accelerators that have it; on CPU only where the weights came in bfloat16."""
    if model.dtype == torch.float16:
        return {"bf16": False, "fp16": True}
    capable = model.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return {"bf16": capable or model.dtype == torch.bfloat16, "fp16": False}
