"""Supervised training on given token ids: teaches a policy a form before rewards are learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerState
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from rlsf.errors import InputError, ResourceError
from rlsf.models.facts import context_length
from rlsf.training.common_options import common_options, learning_rate
from rlsf.training.policy import low_precision, no_progress_bars, special_tokens_kept
from rlsf.training.spending import UNCAPPED, Allowance
from rlsf.training.step_plan import plan_spending
from rlsf.training.supervised import AS_GIVEN, Example, build_supervised_trainer
from rlsf.training.warm_up_config import WarmUpConfig
from rlsf.training.whole_checkpoints import WholeCheckpoints

if TYPE_CHECKING:
    from rlsf.training.observer import Progress

#: Supervised training takes larger steps than preferences do: TRL's defaults are 2e-5 and 1e-6. On the bundled model
#: half the rate that this gives teaches the form as well, a quarter does not, and twice as much costs most of the
#: model's arithmetic.
SUPERVISED_FACTOR = 10
#: A form is learned within hundreds of steps. The usual 0.999 remembers the large first gradients of tokens that the
#: policy never wrote for a thousand: on the bundled model 84 % of the completions then kept to the form, here 95 %.
_SECOND_MOMENT = 0.95
#: Part of the steps over which the learning rate rises.
_RISE = 0.1


@dataclass(frozen=True, slots=True)
class WarmUpResult:
    """What was trained on, and the mean negative log-likelihood of a completion's token, in nats, at the last step."""

    steps: int = 0
    examples: int = 0
    too_long: int = 0
    """Examples left out because they do not fit the model's context."""
    learning_rate: float = 0.0
    """The peak learning rate used, also where the configuration says ``auto``."""
    loss: float | None = None
    training_tokens: int = 0


class WarmUpTrainer(WholeCheckpoints, SFTTrainer):
    """``SFTTrainer`` with the guards of our other trainers."""

    section = "online.warm_up"


def warm_up(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: WarmUpConfig,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
    allowance: Allowance = UNCAPPED,
) -> WarmUpResult:
    """Train ``model`` in place for ``config.steps`` steps; an adapter (PEFT) is trained alone.

    The loss is -(1/N) sum over the N completion tokens of a batch of log p(token | prompt, tokens before), on the ids
    as they are: nothing is tokenised, cut or added. Precision, special tokens and the forward pass of the model are as
    before. Same seed, same weights. No checkpoints: ``folder`` is not written to. ``allowance`` caps what may be spent:
    fewer steps are planned then.

    Raises ``InputError`` where no example fits the context, ``ModelError`` for a gradient that is not a number,
    ``ResourceError`` when memory runs out.
    """
    if not config.steps:
        return WarmUpResult()
    fitting = _fitting(examples, context_length(model))
    arguments = _arguments(config, model, folder, seed)
    dtype = None if isinstance(model, PeftModel) else low_precision(model)
    training = model.training
    with special_tokens_kept(model, tokenizer), _forward_kept(model), no_progress_bars():
        rows = [example.row() for example in fitting]
        full = model if dtype is None else model.float()
        trainer = build_supervised_trainer(WarmUpTrainer, full, tokenizer, rows, arguments)
        planned = plan_spending(trainer, None, allowance)
        if progress is not None:
            trainer.add_callback(_Told(progress))
        try:
            trainer.train()
        except torch.OutOfMemoryError as error:
            raise ResourceError("out of memory in the warm-up: lower online.warm_up.batch_size") from error
        finally:
            model.train(training)
    if dtype is not None:
        model.to(dtype)  # pyright: ignore[reportArgumentType]  # declared for modules without a dtype
    return WarmUpResult(
        steps=trainer.state.global_step,
        examples=len(fitting),
        too_long=len(examples) - len(fitting),
        learning_rate=arguments.learning_rate,
        training_tokens=int(planned.after[trainer.state.global_step]),
        loss=next((float(entry["loss"]) for entry in reversed(trainer.state.log_history) if "loss" in entry), None),
    )


def _fitting(examples: Sequence[Example], context: int | None) -> list[Example]:
    fitting = [example for example in examples if example.fits(context)]
    if not fitting:
        raise InputError(
            f"none of {len(examples)} warm-up examples fits the model's context of {context} tokens: lower"
            " online.max_completion_length, or sample from prompts that the policy answers"
        )
    return fitting


def _arguments(config: WarmUpConfig, model: PreTrainedModel, folder: Path, seed: int) -> SFTConfig:
    rate = learning_rate(config.learning_rate, None, model)
    return SFTConfig(
        **{
            **common_options(model, folder, seed),
            "save_strategy": "no",
            "learning_rate": rate * SUPERVISED_FACTOR if config.learning_rate == "auto" else rate,
            "lr_scheduler_type": "linear",
            "warmup_steps": _RISE,
            "adam_beta2": _SECOND_MOMENT,
            "max_steps": config.steps,
            "per_device_train_batch_size": config.batch_size,
            **AS_GIVEN,
        }
    )


@contextmanager
def _forward_kept(model: PreTrainedModel) -> Iterator[None]:
    """Undo what TRL and accelerate wrap around the forward pass: a copy of the model would run the original's."""
    modules: list[Any] = [model, model.get_base_model()] if isinstance(model, PeftModel) else [model]
    before = [vars(module).get("forward") for module in modules]
    try:
        yield
    finally:
        for module, forward in zip(modules, before, strict=True):
            vars(module).pop("forward", None)
            vars(module).pop("_original_forward", None)
            if forward is not None:
                module.forward = forward


class _Told(TrainerCallback):
    """Tells how far the training is."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps)
