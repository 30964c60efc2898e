"""From ``TrainingConfig`` to TRL's own ``DPOConfig``, with the user's trainer options on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from trl.trainer.dpo_config import DPOConfig

from rlsf.errors import InputError, near_names
from rlsf.training.common_options import (
    check_names,
    common_options,
    learning_rate,
    make_arguments,
    passes,
    process_count,
)
from rlsf.training.config import TrainingConfig
from rlsf.training.objective import Objective

#: Options that choose one of TRL's own objectives, which then replaces ours as a whole.
TRL_OBJECTIVE = frozenset(
    {"loss_type", "loss_weights", "ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "use_weighting"}
)

#: What ``loss_type`` may name: TRL itself reads it at the first step, after all sampling.
TRL_LOSSES = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
)
#: Those of them that read ``label_smoothing``.
_SMOOTHED = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})


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
    options: dict[str, Any] = {
        **common_options(model, folder, seed),
        "beta": config.beta,
        "learning_rate": learning_rate(config.learning_rate, config.lora, model),
        **passes(config, process_count(model)),
        "precompute_ref_log_probs": config.precompute_reference,
        "max_length": None,
    }
    arguments = make_arguments(DPOConfig, options, config.trainer, "training")
    if arguments.data_seed is None:
        # The order of the pairs hangs on this alone, and not on what has drawn random numbers before.
        arguments.data_seed = arguments.seed
    return arguments


def check_options(config: TrainingConfig) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    check_names(config.trainer, DPOConfig, "training")
    chosen = sorted(TRL_OBJECTIVE & config.trainer.keys())
    ours = [name for name in ("use_margin", "use_weight", "label_smoothing") if getattr(config, name)]
    ours += ["loss"] if config.loss != "sigmoid" else []
    if chosen and ours:
        raise InputError(
            f"training.{ours[0]} has no effect on the objective that training.trainer.{chosen[0]} chooses: set one of"
            " the two"
        )
    kinds = _loss_types(config.trainer.get("loss_type", "sigmoid"))
    if "label_smoothing" in config.trainer and not _SMOOTHED & {*kinds}:
        raise InputError(
            f"training.trainer.label_smoothing has no effect on TRL's {' and '.join(kinds)} loss: set"
            " training.label_smoothing, or choose training.trainer.loss_type=[robust]"
        )
    if "label_smoothing_factor" in config.trainer:
        raise InputError(
            "training.trainer.label_smoothing_factor smooths tokens, and has no effect on preferences: set"
            " training.label_smoothing"
        )


def _loss_types(given: Any) -> list[str]:
    kinds = [given] if isinstance(given, str) else given
    if not isinstance(kinds, list | tuple) or not kinds:
        raise InputError(f"training.trainer.loss_type={given}: give names of TRL's losses, such as [sigmoid, sft]")
    unknown = next((kind for kind in kinds if kind not in TRL_LOSSES), None)
    if unknown is not None:
        raise InputError(
            f"training.trainer.loss_type names {unknown!r}{near_names(str(unknown), TRL_LOSSES)}: choose of"
            f" {', '.join(TRL_LOSSES)}"
        )
    return list(kinds)
