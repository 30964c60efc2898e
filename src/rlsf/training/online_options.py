"""From ``OnlineConfig`` to TRL's own configuration, with the user's trainer options on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.rloo_config import RLOOConfig

from rlsf.errors import InputError
from rlsf.sampling.config import SamplingConfig
from rlsf.training.common_options import (
    check_names,
    checkpoints_kept,
    common_options,
    learning_rate,
    make_arguments,
)
from rlsf.training.online_config import OnlineConfig

#: What would go past our own sampling, or ask rewards for rows that we do not have.
_NOT_OURS = frozenset(
    {"use_vllm", "use_transformers_continuous_batching", "use_transformers_paged", "generation_kwargs", "eval_strategy"}
)


def config_class(config: OnlineConfig) -> Any:
    """TRL's class of the algorithm; NFT is GRPO with another loss."""
    return RLOOConfig if config.algorithm == "rloo" else GRPOConfig


def online_arguments(
    config: OnlineConfig,
    model: PreTrainedModel,
    folder: Path,
    seed: int,
    weights: list[float],
    reference: Mapping[str, Any],
    processes: int = 1,
) -> Any:
    """TRL's configuration; ``config.trainer`` wins over every other field.

    ``weights`` are those of the rewards, ``reference`` how the model at the start is loaded once more where beta is
    not 0. A step's completions are divided among the processes. Raises ``InputError`` for what TRL refuses.
    """
    device_batch, accumulation = rollout_passes(config, processes)
    options: dict[str, Any] = {
        **common_options(model, folder, seed),
        "learning_rate": learning_rate(config.learning_rate, config.lora, model),
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": device_batch,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation * config.steps_per_rollout,
        "num_iterations": config.num_iterations,
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "mask_truncated_completions": config.mask_truncated_completions,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "epsilon": config.epsilon,
        "beta": config.beta,
        "reward_weights": weights,
        "save_steps": config.save_every,
        **checkpoints_kept(config.keep_checkpoints),
        "model_init_kwargs": dict(reference) or None,
        "remove_unused_columns": False,
    }
    if config.algorithm == "rloo":
        options["normalize_advantages"] = config.scale_rewards == "batch"
    else:
        options |= {"loss_type": config.loss_type, "scale_rewards": config.scale_rewards}
    arguments = make_arguments(config_class(config), options, config.trainer, "online")
    _require_whole_rollouts(arguments)
    return arguments


def _require_whole_rollouts(arguments: Any) -> None:
    """As in ``OnlineConfig``, for what the trainer options say."""
    passes = arguments.steps_per_generation * arguments.num_iterations
    if arguments.save_steps * arguments.gradient_accumulation_steps % passes:
        raise InputError(
            f"online.trainer: save_steps={arguments.save_steps:g} optimiser steps are not a multiple of the"
            f" {passes / arguments.gradient_accumulation_steps:g} for which completions are used: checkpoints fall"
            " between batches of rollouts"
        )


def rollout_passes(config: OnlineConfig, processes: int) -> tuple[int, int]:
    """Completions per forward pass in a process, and passes per optimiser step."""
    local, remainder = divmod(config.completions_per_step, processes)
    device_batch = min(config.device_batch_size or local, local)
    if remainder or not local or local % device_batch:
        raise InputError(
            f"{config.completions_per_step} completions a step (online.prompts_per_step x online.num_generations)"
            f" cannot be divided among {processes} processes in passes of {device_batch or 1}: change"
            " online.prompts_per_step or online.device_batch_size"
        )
    if local * config.steps_per_rollout % config.num_generations:
        raise InputError(
            f"{processes} processes would hold parts of a prompt's completions: make online.prompts_per_step="
            f"{config.prompts_per_step} a multiple of the number of processes"
        )
    return device_batch, local // device_batch


def rollout_sampling(config: OnlineConfig) -> SamplingConfig:
    """How completions are drawn."""
    return SamplingConfig(
        strategy="sampling",
        branches=config.num_generations,
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_completion_length,
        stop=config.stop,
    )


def check_options(config: OnlineConfig) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    check_names(config.trainer, config_class(config), "online")
    for name in sorted(_NOT_OURS & config.trainer.keys()):
        raise InputError(f"online.trainer.{name} has no effect: completions come from our own seeded sampling")
