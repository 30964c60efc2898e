"""Reward-weighted regression on given token ids: resumable, with the step to keep chosen without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from rlsf.errors import InputError
from rlsf.models.facts import context_length
from rlsf.training.common_options import (
    check_names,
    common_options,
    learning_rate,
    lora_config,
    make_arguments,
    passes,
    process_count,
)
from rlsf.training.cut_models import is_cut, require_trainable_in_pieces
from rlsf.training.finish import TrainingResult, keep_policy, starting_point, train_to_the_best
from rlsf.training.mean_of_step import MeanOfStep
from rlsf.training.observer import Progress, Record, TrainingObserver, ignore
from rlsf.training.policy import low_precision, special_tokens_kept
from rlsf.training.reward_weights import reward_weights
from rlsf.training.selection import Probe, Selection
from rlsf.training.spending import UNCAPPED, Allowance
from rlsf.training.step_plan import plan_spending
from rlsf.training.supervised import AS_GIVEN, Example, build_supervised_trainer
from rlsf.training.warm_up import SUPERVISED_FACTOR
from rlsf.training.weighted_sft_config import WeightedSftConfig
from rlsf.training.whole_checkpoints import WholeCheckpoints

SECTION = WeightedSftConfig.place
WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class RewardedExample:
    """An example and the reward that decides how much it counts."""

    example: Example
    reward: float


def train_weighted(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[RewardedExample],
    config: WeightedSftConfig,
    folder: Path,
    policy_folder: Path,
    seed: int,
    probe: Probe | None = None,
    record: Record = ignore,
    resume: bool = False,
    progress: Progress = ignore,
    allowance: Allowance = UNCAPPED,
) -> TrainingResult:
    """Learn from examples by their rewards; saves the policy of the chosen step to ``policy_folder``.

    The loss of a step is the mean over its examples i of w_i NLL_i (arXiv 2407.18219), with w_i = exp(r_i / tau) and
    NLL_i the mean negative log-likelihood of a token of the completion, in nats. ``model`` is trained in place.
    Checkpoints go to ``folder``; with ``resume``, training goes on from the last whole one, and on CPU the weights are
    then those of a run that was never interrupted, bit for bit. ``record`` receives one event an optimiser step
    (``training``) and one a probe (``probe``). ``allowance`` caps what may be spent: fewer steps are planned then.

    Raises ``InputError`` for unusable examples or options, ``ModelError`` when the loss or gradient is not a number,
    and ``ResourceError`` when disk or memory runs out; finished checkpoints are kept in every case.
    """
    start = starting_point(folder, resume=resume)
    arguments = weighted_arguments(config, model, folder, seed)
    fitting = _fitting(examples, context_length(model))
    selection = Selection.load(config.selection, start) if probe and config.selection.enabled else None
    dtype = low_precision(model)
    trainer = build_weighted_trainer(model, tokenizer, fitting, config, arguments, selection)
    if is_cut(trainer):
        require_trainable_in_pieces(SECTION, adapters=isinstance(trainer.model, PeftModel))
    trainer.spending = plan_spending(trainer, start, allowance)
    trainer.add_callback(TrainingObserver(trainer, selection, probe, record, progress))
    result = train_to_the_best(trainer, start)
    keep_policy(trainer, tokenizer, policy_folder, dtype)
    return replace(result, examples=len(fitting), too_long=len(examples) - len(fitting))


def build_weighted_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[RewardedExample],
    config: WeightedSftConfig,
    arguments: SFTConfig,
    selection: Selection | None = None,
) -> WeightedTrainer:
    """The trainer for one model and data set; full weights of low precision are held in float32 while they train."""
    adapted = isinstance(model, PeftModel)
    lora = lora_config(config.lora) if config.lora and not adapted else None
    if not adapted and lora is None and low_precision(model) is not None:
        model = model.float()
    weights = reward_weights([one.reward for one in examples], config.tau, normalise=config.normalise_weights)
    rows = [{**one.example.row(), WEIGHT: weight} for one, weight in zip(examples, weights, strict=True)]
    with special_tokens_kept(model, tokenizer):
        try:
            return build_supervised_trainer(
                WeightedTrainer,
                model,
                tokenizer,
                rows,
                arguments,
                WeightedCollator(pad_token_id=0),
                selection=selection,
                peft_config=lora,
            )
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{SECTION}: {error}") from error


class WeightedCollator(DataCollatorForLanguageModeling):
    """TRL's collator, with the weight of each example beside its tokens."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch, padded; ``weight`` [examples]."""
        batch = super().torch_call([{k: v for k, v in row.items() if k != WEIGHT} for row in examples])
        batch[WEIGHT] = torch.tensor([row[WEIGHT] for row in examples], dtype=torch.float32)
        return batch


class WeightedTrainer(WholeCheckpoints, MeanOfStep, SFTTrainer):
    """``SFTTrainer`` whose loss is the mean over a step's examples of weight x mean token NLL.

    TRL divides by the tokens of a step and knows no weights.
    """

    section = SECTION

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            columns: Any = self._signature_columns
            self._signature_columns = [*columns, WEIGHT]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The part of the step's loss that this pass holds."""
        inputs, share = dict(inputs), self._share(inputs, num_items_in_batch)
        weights: Tensor = inputs.pop(WEIGHT)
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        lengths = outputs.label_mask.sum(dim=1)
        nll = -outputs.log_probs.sum(dim=1) / lengths.clamp(min=1)
        loss = (weights.to(nll) * nll).mean()
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        loss = loss * share
        self._require_finite(loss, "loss")
        self._note(weights, nll, outputs, lengths)
        return (loss, outputs) if return_outputs else loss

    def _note(self, weights: Tensor, nll: Tensor, outputs: Any, lengths: Tensor) -> None:
        """``nll`` (nats a token, mean over examples), ``weight``, ``entropy`` and ``mean_token_accuracy`` of a pass."""
        policy: Any = self.model
        tokens = lengths.sum().clamp(min=1)
        measured = {
            "nll": nll.mean(),
            "weight": weights.mean(),
            "entropy": outputs.entropy.sum() / tokens,
            "mean_token_accuracy": outputs.is_top1.sum() / tokens,
        }
        metrics = self._metrics["train" if policy.training else "eval"]
        for name, value in measured.items():
            gathered: Any = self.accelerator.gather_for_metrics(value.detach().float())
            metrics[name].append(gathered.mean().item())


def weighted_arguments(config: WeightedSftConfig, model: PreTrainedModel, folder: Path, seed: int) -> SFTConfig:
    """TRL's configuration; ``config.trainer`` wins over every other field.

    Raises ``InputError`` for an option that TRL refuses.
    """
    rate = learning_rate(config.learning_rate, config.lora, model)
    options: dict[str, Any] = {
        **common_options(model, folder, seed),
        "learning_rate": rate * SUPERVISED_FACTOR if config.learning_rate == "auto" else rate,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        **passes(config, process_count(model)),
        **AS_GIVEN,
    }
    return make_arguments(SFTConfig, options, config.trainer, SECTION)


def check_options(config: WeightedSftConfig) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    check_names(config.trainer, SFTConfig, SECTION)
    for name in ("loss_type", "max_length", "packing", "dataset_kwargs", "label_smoothing_factor"):
        if name in config.trainer:
            raise InputError(
                f"{SECTION}.trainer.{name} has no effect: examples are trained on as they are, by the weighted loss"
            )


def _fitting(examples: Sequence[RewardedExample], context: int | None) -> list[RewardedExample]:
    empty = next((place for place, one in enumerate(examples) if not one.example.completion_ids), None)
    if empty is not None:
        raise InputError(f"example {empty} has no completion to learn: leave it out")
    fitting = [one for one in examples if one.example.fits(context)]
    if not fitting:
        raise InputError(
            f"none of {len(examples)} examples fits the model's context of {context} tokens: lower"
            " sampling.max_new_tokens or introspection.window, or give more prompts"
        )
    return fitting
