"""Train an acceptance model: one logit for a question and an attempt at it, right or wrong; resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import get_peft_model
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments

from rlsf.errors import InputError
from rlsf.models.facts import context_length
from rlsf.models.reward_model import padded_with, unambiguous_padding, with_reward_head
from rlsf.training.acceptance_config import AcceptanceTrainingConfig
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
from rlsf.training.finish import TrainingResult, starting_point, train_to_the_best
from rlsf.training.mean_of_step import MeanOfStep
from rlsf.training.observer import Progress, Record, TrainingObserver, ignore
from rlsf.training.policy import low_precision
from rlsf.training.reward_model import keep_reward_model, with_padding
from rlsf.training.spending import UNCAPPED, Allowance
from rlsf.training.step_plan import plan_spending
from rlsf.training.whole_checkpoints import WholeCheckpoints

SECTION = AcceptanceTrainingConfig.place


class JudgedAttempt(NamedTuple):
    """The token ids of a question and an attempt at it, in one, and whether the attempt is right."""

    token_ids: Sequence[int]
    right: bool


def class_weights(right: Sequence[bool]) -> tuple[float, float]:
    """Weights n / (2 n_y) of wrong and right examples: both kinds then weigh the same, and the mean weight is 1.

    Raises ``InputError`` where there are none of one kind.
    """
    count, true = len(right), sum(right)
    if true in (0, count):
        raise InputError(
            f"all {count} attempts to learn from are {'right' if true else 'wrong'}: there is nothing to tell apart;"
            " give easier or harder prompts, or more of them"
        )
    return count / (2 * (count - true)), count / (2 * true)


def train_acceptance_model(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    attempts: Sequence[JudgedAttempt],
    config: AcceptanceTrainingConfig,
    folder: Path,
    acceptance_folder: Path,
    seed: int,
    record: Record = ignore,
    resume: bool = False,
    progress: Progress = ignore,
    allowance: Allowance = UNCAPPED,
) -> TrainingResult:
    """An acceptance model from the body of ``model`` and judged attempts, saved to ``acceptance_folder``.

    With z the logit at the last token and s the logistic function, d = s(z) is the score of an attempt, and a step
    minimises the mean over its attempts i of -w_i log d_i where they are right, -w_i log(1 - d_i) where they are wrong;
    w_i as in ``class_weights``, over all attempts (arXiv 2501.01457; the architecture is ours). The body is trained in
    place, pass a fresh one; the head is drawn from ``seed``. Checkpoints go to ``folder``; with ``resume``, training
    goes on from the last whole one, and on CPU the weights are then those of a run that was never interrupted, bit for
    bit. Adapters are merged into the saved weights, which any program loads that reads sequence classification models.
    ``allowance`` caps what may be spent: fewer steps are planned then.

    Raises ``InputError`` for attempts of one kind only, or none that fits, and for unusable options or architectures;
    ``ModelError`` when the loss or gradient is not a number, ``ResourceError`` when disk or memory runs out.
    """
    start = starting_point(folder, resume=resume)
    arguments = acceptance_arguments(config, model, folder, seed)
    fitting = _fitting(attempts, context_length(model))
    dtype = low_precision(model)
    trainer = build_acceptance_trainer(model, tokenizer, fitting, config, arguments)
    if is_cut(trainer):
        require_trainable_in_pieces(SECTION, adapters=config.lora is not None)
    trainer.spending = plan_spending(trainer, start, allowance)
    trainer.add_callback(TrainingObserver(trainer, None, None, record, progress))
    result = train_to_the_best(trainer, start)
    keep_reward_model(trainer, tokenizer, acceptance_folder, dtype)
    return replace(result, examples=len(fitting), too_long=len(attempts) - len(fitting))


def build_acceptance_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    attempts: Sequence[JudgedAttempt],
    config: AcceptanceTrainingConfig,
    arguments: TrainingArguments,
) -> AcceptanceTrainer:
    """The trainer for one body and its attempts; full weights of low precision are held in float32 while they train."""
    weights = class_weights([one.right for one in attempts])
    accepting: Any = with_reward_head(model, seed=arguments.seed)
    padded = with_padding(tokenizer, {int(one.token_ids[-1]) for one in attempts})
    accepting.config.get_text_config().pad_token_id = padded.pad_token_id
    if config.lora is not None:
        lora = lora_config(config.lora)
        lora.task_type, lora.modules_to_save = "SEQ_CLS", ["score"]
        torch.manual_seed(arguments.seed)  # of the adapters' first weights
        accepting = get_peft_model(accepting, lora)
        if arguments.gradient_checkpointing:
            accepting.enable_input_require_grads()
    elif low_precision(model) is not None:
        accepting = accepting.float()
    rows = [
        {"input_ids": [*map(int, one.token_ids)], "right": float(one.right), "weight": weights[one.right]}
        for one in attempts
    ]
    trainer = AcceptanceTrainer(
        accepting,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        data_collator=AttemptCollator(),
        folder=Path(str(arguments.output_dir)),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@dataclass
class AttemptCollator:
    """Attempts padded by an id that none of them ends in, which is told along with them."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """``input_ids``, ``attention_mask`` [attempts, longest]; ``right``, ``weight`` [attempts]; ``padding``."""
        padding = unambiguous_padding(torch.tensor([row["input_ids"][-1] for row in rows]))
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), padding)
        for place, row in enumerate(rows):
            ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        return {
            "input_ids": ids,
            "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long(),
            **{name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in ("right", "weight")},
            "padding": padding,
        }


class AcceptanceTrainer(WholeCheckpoints, MeanOfStep, Trainer):
    """transformers' trainer with the guards of our others; its loss is the mean over a step's attempts."""

    section = SECTION

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The part of the step's loss that this pass holds."""
        with padded_with(self.accelerator.unwrap_model(model), inputs["padding"]):
            outputs = model(inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        logits = outputs.logits[:, 0].float()
        loss = binary_cross_entropy_with_logits(logits, inputs["right"], weight=inputs["weight"])
        loss = loss * self._share(inputs, num_items_in_batch)
        self._require_finite(loss, "loss")
        return (loss, outputs) if return_outputs else loss


def acceptance_arguments(
    config: AcceptanceTrainingConfig, model: PreTrainedModel, folder: Path, seed: int
) -> TrainingArguments:
    """transformers' configuration; ``config.trainer`` wins over every other field.

    Raises ``InputError`` for an option that transformers refuses.
    """
    options: dict[str, Any] = {
        **common_options(model, folder, seed),
        "learning_rate": learning_rate(config.learning_rate, config.lora, model),
        "lr_scheduler_type": "linear",
        **passes(config, process_count(model)),
        "remove_unused_columns": False,
    }
    return make_arguments(TrainingArguments, options, config.trainer, SECTION)


def check_options(config: AcceptanceTrainingConfig) -> None:
    """Raise ``InputError`` for a trainer option that is unknown or would have no effect; needs no model."""
    check_names(config.trainer, TrainingArguments, SECTION)
    for name in ("label_smoothing_factor", "remove_unused_columns"):
        if name in config.trainer:
            raise InputError(f"{SECTION}.trainer.{name} has no effect on attempts that are right or wrong")


def _fitting(attempts: Sequence[JudgedAttempt], context: int | None) -> list[JudgedAttempt]:
    fitting = [one for one in attempts if context is None or len(one.token_ids) <= context]
    if not fitting:
        raise InputError(
            f"none of {len(attempts)} attempts fits the acceptance model's context of {context} tokens: lower"
            " sampling.max_new_tokens, or choose another acceptance.model"
        )
    return fitting
