"""Train a policy online, from rewards of its own completions: resumable, the step to keep chosen without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.models import ModelConfig
from rlsf.rewards.build import build_rewards
from rlsf.rewards.grading import GradingPrompt
from rlsf.rewards.verification import Verdicts
from rlsf.training.common_options import lora_config, process_count
from rlsf.training.finish import TrainingResult, keep_policy, starting_point, train_to_the_best
from rlsf.training.guard import Guard
from rlsf.training.nft_objective import NftOptions
from rlsf.training.observer import Progress, Record, TrainingObserver, ignore
from rlsf.training.online_config import OnlineConfig
from rlsf.training.online_options import online_arguments, rollout_sampling
from rlsf.training.online_trainers import (
    OnlineGRPOTrainer,
    OnlineNFTTrainer,
    OnlineRLOOTrainer,
    VerifyingGRPOTrainer,
    VerifyingRLOOTrainer,
)
from rlsf.training.policy import low_precision, special_tokens_kept
from rlsf.training.selection import Probe
from rlsf.training.spending import UNCAPPED, Allowance

_TRAINERS: dict[str, Any] = {"grpo": OnlineGRPOTrainer, "rloo": OnlineRLOOTrainer, "nft": OnlineNFTTrainer}
_VERIFYING: dict[str, Any] = {"grpo": VerifyingGRPOTrainer, "rloo": VerifyingRLOOTrainer}


def train_online(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    config: OnlineConfig,
    answer: AnswerConfig,
    folder: Path,
    policy_folder: Path,
    seed: int,
    probe: Probe | None = None,
    render: Callable[[str], list[int]] | None = None,
    record: Record = ignore,
    resume: bool = False,
    progress: Progress = ignore,
    reference: Mapping[str, Any] | None = None,
    reward_model: ModelConfig | None = None,
    allowance: Allowance = UNCAPPED,
) -> TrainingResult:
    """Online training from the rewards that ``config`` names; saves the policy of the chosen step.

    ``rows`` hold ``prompt`` (text), ``prompt_id``, ``prompt_ids`` (what the policy continues), ``choices`` and, where
    rewards look at it, the gold ``answer``; for self-verification also ``question``, and ``render`` turns a grading
    prompt into token ids. ``model`` is trained in place. Checkpoints go to ``folder``; with ``resume``, training goes
    on from the last whole one, and on CPU the weights are then those of a run that was never interrupted, bit for bit.
    ``reference`` says how the model is loaded once more where ``config.beta`` is not 0, ``reward_model`` which reward
    model scores completions where ``config.rewards.reward_model`` names none. ``allowance`` caps what may be spent: a
    step whose longest outcome does not fit is not begun.

    Under ``torchrun`` the processes divide each step's completions among them, and the policy is that of one process
    but for rounding. Three settings are not: ``loss_type="bnpo"`` averages over the tokens of a pass, adapters with
    dropout draw it in each process, and for self-verification each process grades solutions of its own. The first
    process probes, records and writes.

    Raises ``InputError`` for unusable rows or options, ``ModelError`` when the loss or gradient is not a number, and
    ``ResourceError`` when disk or memory runs out; finished checkpoints are kept in every case.
    """
    start = starting_point(folder, resume=resume)
    _require_enough(rows, config)
    guard = Guard.load(config.guard, start) if probe and config.guard.enabled else None
    dtype = low_precision(model)
    with special_tokens_kept(model, tokenizer):
        trainer = build_online_trainer(
            model,
            tokenizer,
            rows,
            config,
            answer,
            folder,
            seed,
            guard,
            render=render,
            reference=reference or {},
            reward_model=reward_model,
        )
        trainer.spending = trainer.new_spending(allowance).restore(start)
        if start is None:
            trainer.spending.require_a_step(trainer)
        trainer.add_callback(TrainingObserver(trainer, guard, probe, record, progress))
        result = train_to_the_best(trainer, start)
    keep_policy(trainer, tokenizer, policy_folder, dtype)
    return result


def build_online_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    config: OnlineConfig,
    answer: AnswerConfig,
    folder: Path,
    seed: int,
    guard: Guard | None,
    *,
    render: Callable[[str], list[int]] | None = None,
    reference: Mapping[str, Any],
    reward_model: ModelConfig | None = None,
) -> Any:
    """The trainer of ``config.algorithm``; full weights of low precision are held in float32 while they train."""
    adapted = isinstance(model, PeftModel)
    lora = lora_config(config.lora) if config.lora and not adapted else None
    if adapted:
        model.set_adapter("default")
    elif lora is None and low_precision(model) is not None:
        model = model.float()
    rewards = build_rewards(
        config.rewards,
        tokenizer=tokenizer,
        answer=answer,
        num_generations=config.num_generations,
        reward_model=reward_model,
    )
    weights = [section.weight for section in config.rewards.chosen.values()]
    trainer_class, extra = _trainer_of(config, answer, render)
    try:
        trainer = trainer_class(
            model=model,
            reward_funcs=list(rewards.values()),
            args=online_arguments(config, model, folder, seed, weights, reference, process_count(model)),
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=tokenizer,
            peft_config=lora,
            folder=folder,
            selection=guard,
            answer=answer,
            rollouts=rollout_sampling(config),
            rollout_seed=seed,
            **extra,
        )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"online: {error}") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trainer_of(
    config: OnlineConfig, answer: AnswerConfig, render: Callable[[str], list[int]] | None
) -> tuple[Any, dict[str, Any]]:
    """The trainer's class and the arguments that only it takes."""
    verification = config.rewards.self_verification
    if verification is not None:
        if config.algorithm not in _VERIFYING or render is None:
            raise InputError(
                f"online.rewards.self_verification needs online.algorithm={' or '.join(_VERIFYING)}, and a renderer of"
                " grading prompts"
            )
        verdicts = Verdicts(num_generations=config.num_generations, verdict=verification.verdict, answer=answer)
        grading = GradingPrompt(template=verification.template, form=verification.form)
        return _VERIFYING[config.algorithm], {
            "verdicts": verdicts,
            "grading": grading,
            "render": render,
            "grading_share": verification.share,
        }
    extra: dict[str, Any] = {}
    if config.algorithm == "nft":
        extra["nft"] = NftOptions(**config.nft.model_dump())
    return _TRAINERS[config.algorithm], extra


def _require_enough(rows: Sequence[Mapping[str, Any]], config: OnlineConfig) -> None:
    config.rewards.require_one()
    needed = config.prompts_per_step * config.steps_per_rollout
    if len(rows) < needed:
        raise InputError(
            f"{len(rows)} prompts to learn from are fewer than the {needed} of one batch of rollouts"
            " (online.prompts_per_step x online.steps_per_rollout): give more prompts, or lower online.prompts_per_step"
        )
