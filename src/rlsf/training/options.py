"""From ``TrainingConfig`` to TRL's own ``DPOConfig``, with the user's trainer options on top."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel
from trl.trainer.dpo_config import DPOConfig

from rlsf.errors import InputError, near_names
from rlsf.training.config import LoraSection, TrainingConfig
from rlsf.training.learning_rate import default_learning_rate
from rlsf.training.objective import Objective

#: Options that choose one of TRL's own objectives, which then replaces ours as a whole.
TRL_OBJECTIVE = frozenset(
    {"loss_type", "loss_weights", "ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "use_weighting"}
)
#: From this many weights on, activations are recomputed in the backward pass to save memory.
_LARGE_MODEL = 1_000_000_000


def objective(config: TrainingConfig, arguments: DPOConfig) -> Objective | None:
    """Our objective, or None where the trainer options ask for one of TRL's."""
    if TRL_OBJECTIVE & config.trainer.keys():
        return None
    return Objective(
        loss=config.loss,
        beta=arguments.beta,
        nll_weight=config.nll_weight,
        label_smoothing=config.label_smoothing,
        margin_scale=config.margin_scale,
    )


def trainer_arguments(config: TrainingConfig, model: PreTrainedModel, folder: Path, seed: int) -> DPOConfig:
    """TRL's configuration; ``config.trainer`` wins over every other field.

    Raises ``InputError`` for an option that TRL refuses.
    """
    device_batch = config.device_batch_size or config.batch_size
    options: dict[str, Any] = {
        "beta": config.beta,
        "learning_rate": learning_rate(config, model),
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": device_batch,
        "gradient_accumulation_steps": config.batch_size // device_batch,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "precompute_ref_log_probs": config.precompute_reference,
        "max_length": None,
        "seed": seed % 2**32,
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": model.num_parameters() >= _LARGE_MODEL,
        # One event an optimiser step: averages over several would differ after a resume between two of them.
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **_precision(model),
        **config.trainer,
        "output_dir": str(folder),
    }
    try:
        return DPOConfig(**options)
    except (ValueError, TypeError) as error:
        raise InputError(f"training.trainer: {error}") from error


def learning_rate(config: TrainingConfig, model: PreTrainedModel) -> float:
    """The given peak learning rate, or the default for this model."""
    if config.learning_rate != "auto":
        return config.learning_rate
    adapters = config.lora is not None or isinstance(model, PeftModel)
    return default_learning_rate(model.num_parameters(), adapters=adapters)


def check_options(config: TrainingConfig) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    known = {field.name for field in dataclasses.fields(DPOConfig) if field.init}
    for name in config.trainer:
        if name not in known:
            raise InputError(
                f"unknown option training.trainer.{name}{near_names(name, known)}: it must be one of TRL's DPOConfig"
            )
    if "output_dir" in config.trainer:
        raise InputError("training.trainer.output_dir cannot be set: checkpoints live in the run folder (--output)")
    chosen = sorted(TRL_OBJECTIVE & config.trainer.keys())
    ours = [name for name in ("use_margin", "use_weight", "label_smoothing") if getattr(config, name)]
    if chosen and ours:
        raise InputError(
            f"training.{ours[0]} has no effect on the objective that training.trainer.{chosen[0]} chooses: set one of"
            " the two"
        )
    if "label_smoothing" in config.trainer and not chosen:
        raise InputError(
            "training.trainer.label_smoothing has no effect on TRL's sigmoid loss: set training.label_smoothing, or"
            " choose training.trainer.loss_type=[robust]"
        )


def _precision(model: PreTrainedModel) -> dict[str, bool]:
    """bfloat16 mixed precision on accelerators that have it; on CPU only where the weights came in bfloat16."""
    if model.dtype == torch.float16:
        return {"bf16": False, "fp16": True}
    capable = model.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return {"bf16": capable or model.dtype == torch.bfloat16, "fp16": False}


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
