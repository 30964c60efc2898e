"""What supervised trainings on given token ids share: their rows, and how TRL's trainer is put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

#: The label of tokens that are not learned.
IGNORED = -100


class Example(NamedTuple):
    """A prompt and what is to be said after it, end of sequence included where the policy should stop there."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]

    def fits(self, context: int | None) -> bool:
        """Whether prompt and completion have room in a context of so many tokens, None where it is unbounded."""
        return context is None or len(self.prompt_ids) + len(self.completion_ids) <= context

    def row(self) -> dict[str, list[int]]:
        """The example as TRL reads it: the ids as they are, and those of the completion as labels."""
        prompt, completion = [*map(int, self.prompt_ids)], [*map(int, self.completion_ids)]
        return {"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion}


#: Nothing is tokenised, cut or added.
AS_GIVEN: dict[str, Any] = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}


def build_supervised_trainer(
    trainer_class: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    arguments: SFTConfig,
    collator: DataCollatorForLanguageModeling | None = None,
    **extra: Any,
) -> Any:
    """The trainer for rows of ``Example.row``; its checkpoints go to the folder that the arguments name."""
    if isinstance(model, PeftModel):
        model.set_adapter("default")
    trainer = trainer_class(
        model,
        args=arguments,
        train_dataset=Dataset.from_list(list(rows)),
        # Any id serves: padded positions are masked out of attention and loss.
        data_collator=collator or DataCollatorForLanguageModeling(pad_token_id=0),
        processing_class=tokenizer,
        folder=Path(str(arguments.output_dir)),
        **extra,
    )
    # With a tokenizer at hand the transformers trainer would align the model's special tokens with it.
    trainer.processing_class = None
    trainer.remove_callback(PrinterCallback)
    return trainer
