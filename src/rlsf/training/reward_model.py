"""Train a Bradley-Terry reward model on preference pairs: TRL's trainer on the token ids as sampled, resumable."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from peft import PeftModel
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from rlsf.errors import InputError
from rlsf.models.facts import context_length
from rlsf.models.reward_model import padded_with, unambiguous_padding, with_reward_head
from rlsf.training.collator import PAIR_NUMBERS, RewardCollator
from rlsf.training.common_options import (
    check_names,
    common_options,
    learning_rate,
    lora_config,
    make_arguments,
    passes,
    process_count,
    restore_lora_dropout,
    vocabulary_size,
)
from rlsf.training.config import TrainingConfig
from rlsf.training.cut_models import is_cut, kept_model, require_trainable_in_pieces
from rlsf.training.finish import TrainingResult, starting_point, train_to_the_best
from rlsf.training.mean_of_step import MeanOfStep
from rlsf.training.observer import Progress, Record, TrainingObserver, ignore
from rlsf.training.pairs import Pairs, prepare_pairs, sequences
from rlsf.training.policy import low_precision, no_progress_bars, save_policy
from rlsf.training.reward_model_config import RewardModelConfig
from rlsf.training.spending import UNCAPPED, Allowance
from rlsf.training.step_plan import plan_spending
from rlsf.training.whole_checkpoints import WholeCheckpoints

_SECTION = RewardModelConfig.place
#: From differences of rewards, chosen less rejected, to the loss of each pair.
PairLoss = Callable[[torch.Tensor], torch.Tensor]


class RewardModelTrainer(WholeCheckpoints, MeanOfStep, RewardTrainer):
    """``RewardTrainer`` with the guards of our other trainers, which reads rewards at the last token whatever it is."""

    section = _SECTION
    pair_loss: PairLoss | None = None
    """What takes the place of -log s(d); None: nothing."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The part of the step's loss that this pass holds; padding cannot be taken for the last token of a trace."""
        mask = inputs["attention_mask"].bool()
        last = inputs["input_ids"].gather(1, mask.sum(dim=1, keepdim=True) - 1)
        padding = unambiguous_padding(last[:, 0])
        inputs = {**inputs, "input_ids": inputs["input_ids"].masked_fill(~mask, padding)}
        weight = inputs.pop("weight", None)
        with padded_with(self.accelerator.unwrap_model(model), padding):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if weight is not None or self.pair_loss is not None:
            loss = self._weighted(outputs.logits, inputs.get("margin", 0.0), 1.0 if weight is None else weight)
        # TRL counts tokens from the start of the process, which is no number of a training that was resumed.
        self._metrics["train" if self.model.training else "eval"].pop("num_tokens", None)
        loss = loss * self._share(inputs, num_items_in_batch)
        self._require_finite(loss, "loss")
        return (loss, outputs) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            columns: Any = self._signature_columns
            self._signature_columns = [*columns, "weight"]

    def _weighted(
        self, rewards: torch.Tensor, margin: torch.Tensor | float, weight: torch.Tensor | float
    ) -> torch.Tensor:
        """The loss with a weight for each pair's comparison; rewards are (2 x pairs, 1), the chosen ones first."""
        chosen, rejected = rewards.squeeze(-1).chunk(2)
        difference = chosen - rejected - margin
        losses = -logsigmoid(difference) if self.pair_loss is None else self.pair_loss(difference)
        loss = (weight * losses).mean()
        return loss + (self.args.center_rewards_coefficient or 0.0) * ((chosen + rejected) ** 2).mean()


def train_reward_model(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    preferences: pa.Table,
    config: RewardModelConfig,
    folder: Path,
    reward_folder: Path,
    seed: int,
    record: Record = ignore,
    resume: bool = False,
    progress: Progress = ignore,
    pair_loss: PairLoss | None = None,
    allowance: Allowance = UNCAPPED,
) -> TrainingResult:
    """A reward model from the policy ``model`` and ranked pairs, saved to ``reward_folder`` with its tokenizer.

    With r the reward at the last token of prompt and trace, each side's with its own prompt where pairs have two, the
    loss is the mean over pairs of -w log s(r_chosen - r_rejected - margin) + centre_rewards (r_chosen + r_rejected)^2,
    s the logistic function and w the pair's weight, 1 where it has none (Bradley and Terry 1952; with a margin, arXiv
    2307.09288, eq. 2; arXiv 2507.21931 takes exp(gap) for it); ``pair_loss`` replaces -log s(d). The body
    of ``model`` is trained in place, pass a fresh one; its head is drawn from ``seed``. Checkpoints go to ``folder``;
    with ``resume``, training goes on from the last whole one, and on CPU the weights are then those of a run that was
    never interrupted, bit for bit. Adapters are merged into the saved weights. ``allowance`` caps what may be spent:
    fewer steps are planned then.

    Raises ``InputError`` for unusable pairs, options or architectures, ``ModelError`` when the loss or gradient is not
    a number, and ``ResourceError`` when disk or memory runs out; finished checkpoints are kept in every case.
    """
    start = starting_point(folder, resume=resume)
    arguments = reward_arguments(config, model, folder, seed)
    pairs = prepare_pairs(
        preferences,
        TrainingConfig(use_margin=config.use_margin),
        vocabulary_size=vocabulary_size(model),
        max_length=arguments.max_length or context_length(model),
        section=_SECTION,
        folder=folder,
    )
    arguments.max_length = None
    dtype = low_precision(model)
    trainer = build_reward_trainer(model, tokenizer, pairs, config, arguments)
    if is_cut(trainer):
        require_trainable_in_pieces(_SECTION, adapters=config.lora is not None)
    trainer.pair_loss = pair_loss
    trainer.spending = plan_spending(trainer, start, allowance)
    trainer.add_callback(TrainingObserver(trainer, None, None, record, progress))
    result = train_to_the_best(trainer, start)
    keep_reward_model(trainer, tokenizer, reward_folder, dtype)
    return replace(result, pairs=len(pairs), too_long=pairs.too_long)


def build_reward_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    config: RewardModelConfig,
    arguments: RewardConfig,
) -> RewardModelTrainer:
    """The trainer for one policy and data set; full weights of low precision are held in float32 while they train."""
    reward = with_reward_head(model, seed=arguments.seed)
    lora = None
    if config.lora is not None:
        lora = lora_config(config.lora)
        lora.task_type, lora.modules_to_save = "SEQ_CLS", ["score"]
    elif low_precision(model) is not None:
        reward = reward.float()
    dataset = whole_sequences(pairs)
    padded = with_padding(tokenizer, {sequence[-1] for side in _SIDES for sequence in dataset[side]})
    try:
        trainer = RewardModelTrainer(
            reward,
            args=arguments,
            data_collator=RewardCollator(pad_token_id=cast(int, padded.pad_token_id)),
            train_dataset=dataset,
            processing_class=padded,
            peft_config=lora,
            folder=Path(str(arguments.output_dir)),
        )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_SECTION}: {error}") from error
    # With a tokenizer at hand the transformers trainer would align the model's special tokens with it.
    trainer.processing_class = None
    trainer.remove_callback(PrinterCallback)
    if config.lora is not None:
        restore_lora_dropout(trainer.model, config.lora.dropout)
    return trainer


_SIDES = ("chosen_ids", "rejected_ids")


def whole_sequences(pairs: Pairs) -> Dataset:
    """Pairs as TRL's reward trainer reads them: prompt and trace in one, margin and weight where there are any."""
    sides = zip(*(sequences(pair) for pair in pairs.dataset.to_list()), strict=True)
    columns = {name: pa.array(list(side), pa.list_(pa.int32())) for name, side in zip(_SIDES, sides, strict=True)}
    for name in PAIR_NUMBERS:
        if name in pairs.dataset.column_names:
            columns[name] = pa.array(pairs.dataset[name][:], pa.float32())
    return Dataset(InMemoryTable(pa.table(columns)))


def reward_arguments(config: RewardModelConfig, model: PreTrainedModel, folder: Path, seed: int) -> RewardConfig:
    """TRL's configuration; ``config.trainer`` wins over every other field.

    Raises ``InputError`` for an option that TRL refuses.
    """
    options: dict[str, Any] = {
        **common_options(model, folder, seed),
        "learning_rate": learning_rate(config.learning_rate, config.lora, model),
        "lr_scheduler_type": "linear",
        **passes(config, process_count(model)),
        "center_rewards_coefficient": config.centre_rewards or None,
        "max_length": None,
    }
    return make_arguments(RewardConfig, options, config.trainer, _SECTION)


def check_options(config: RewardModelConfig) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    check_names(config.trainer, RewardConfig, _SECTION)


def with_padding(tokenizer: PreTrainedTokenizerBase, last_tokens: Collection[int]) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer with a pad token that ends no trace, where there is one.

    What reads the saved model tells padding by its id, and rewards at the end-of-sequence token would be read one token
    too early if that padded.
    """
    padded: Any = copy.deepcopy(tokenizer)
    taken = {*last_tokens, padded.eos_token_id}
    known = (padded.pad_token_id, padded.unk_token_id, *sorted(padded.get_vocab().values()))
    token = next((token for token in known if isinstance(token, int) and token not in taken), None)
    padded.pad_token = padded.eos_token if token is None else padded.convert_ids_to_tokens(token)
    return padded


def keep_reward_model(
    trainer: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype | None
) -> None:
    """Save the model that the trainer holds, its adapters merged; the first process writes, the others wait."""
    if trainer.is_world_process_zero():
        model = kept_model(trainer)
        if isinstance(model, PeftModel):
            model = model.merge_and_unload()
        padded = copy.deepcopy(tokenizer)
        padded.pad_token = padded.convert_ids_to_tokens(model.config.get_text_config().pad_token_id)
        with no_progress_bars():
            save_policy(model, padded, folder, dtype=dtype)
    trainer.accelerator.wait_for_everyone()
