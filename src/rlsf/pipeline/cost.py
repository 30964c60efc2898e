"""What a whole run would take, extrapolated from a few questions that were tried."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlsf.pipeline.evaluation import evaluation_sampling
from rlsf.pipeline.learning_tokens import LearningTokens, probe_answers
from rlsf.pipeline.probe import held_out_count
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.pool import worker_count_for

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from rlsf.training.online_config import OnlineConfig

#: A backward pass takes about twice as long as a forward pass.
FORWARD_AND_BACKWARD = 3
#: Bytes that the logits of the timed forward pass may take.
_LOGIT_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Trial:
    """What trying ``prompts`` of a run's prompts took: ``lengths`` are the tokens of each trace with its prompt."""

    prompts: int
    tokens: int
    sampling_seconds: float
    pairs: int
    lengths: Sequence[int]
    forward_seconds: float
    """Of one token of a text that is read, not written."""
    judging_seconds: float = 0.0
    """Of judging all traces, where the recipe has a judge."""

    @property
    def mean_length(self) -> float:
        """Tokens of a trace with its prompt."""
        return sum(self.lengths) / len(self.lengths)


@dataclass(frozen=True, slots=True)
class RewardModelCost:
    """Training a reward model on the pairs of the prompts that are not held out."""

    pairs: int
    optimiser_steps: int
    seconds: float
    tokens: int
    """Of both sides of every pair, each time that it is read."""


@dataclass(frozen=True, slots=True)
class DialogueCost:
    """Dialogues to learn from, all rounds together; the attempts after the first and the examples are at most so many.

    ``tokens`` and ``sampling_seconds`` are those of the attempts.
    """

    dialogues: int
    attempts: int
    tokens: int
    sampling_seconds: float
    examples: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Work and time of a whole run; ``questions`` are measured before and after learning, once where nothing is."""

    prompts: int
    questions: int
    traces: int
    tokens: int
    sampling_seconds: float
    workers: int
    pairs: int
    optimiser_steps: int
    training_seconds: float
    learning: LearningTokens
    """What all of it takes of a budget; measuring takes none."""
    completions: int = 0
    """Sampled while training online; ``tokens`` and ``sampling_seconds`` leave them out."""
    completion_tokens: int = 0
    completion_seconds: float = 0.0
    warm_up_steps: int = 0
    judging_seconds: float = 0.0
    reward_model: RewardModelCost | None = None
    dialogues: DialogueCost | None = None


def estimate_cost(recipe: Recipe, prompts: int, questions: int, trial: Trial) -> Cost:
    """A whole run at the rates of ``trial``."""
    training, reward_model = recipe.training, reward_model_cost(recipe, prompts, trial)
    # A reward model alone leaves no policy to measure again, and is trained once.
    rounds = 1 if reward_model else training.rounds
    asked = rounds * prompts + (1 if reward_model or not prompts else 2) * questions_in_full(recipe, questions)
    held_out = 0 if reward_model else held_out_count(training.selection, prompts)
    pairs = _pairs(recipe, prompts, trial)
    learned = 0 if reward_model else _pairs(recipe, prompts - held_out, trial)
    steps = training.optimiser_steps(learned) if learned else 0
    read = training.rows_read(learned)
    workers = worker_count_for(recipe.model, recipe.sampling.workers)
    of_prompt = trial.tokens / trial.prompts
    probed = probe_answers(training.selection, steps, held_out) / recipe.sampling.branches
    return Cost(
        prompts=prompts,
        questions=questions,
        traces=round(asked * recipe.sampling.branches),
        tokens=round(of_prompt * asked),
        sampling_seconds=trial.sampling_seconds / trial.prompts * asked / workers,
        workers=workers,
        pairs=rounds * pairs,
        optimiser_steps=rounds * steps,
        # The reference policy reads every pair once.
        training_seconds=rounds * (FORWARD_AND_BACKWARD * read + learned) * _pair_seconds(trial),
        judging_seconds=trial.judging_seconds / trial.prompts * rounds * prompts / workers,
        reward_model=reward_model,
        learning=LearningTokens.about(
            rounds * of_prompt * (prompts + probed),
            reward_model.tokens if reward_model else rounds * read * 2 * trial.mean_length,
        ),
    )


def questions_in_full(recipe: Recipe, questions: int) -> float:
    """What measuring ``questions`` once takes, in questions that are answered as often as prompts are."""
    return questions * evaluation_sampling(recipe).branches / recipe.sampling.branches


def reward_model_cost(recipe: Recipe, prompts: int, trial: Trial) -> RewardModelCost | None:
    """Training the reward model on pairs as those of ``trial``; None where the recipe trains none."""
    config = recipe.reward_model
    if config is None or not prompts:
        return None
    pairs = round((1 - config.held_out) * _pairs(recipe, prompts, trial))
    steps, read = config.optimiser_steps(pairs) if pairs else 0, config.rows_read(pairs)
    seconds = FORWARD_AND_BACKWARD * read * _pair_seconds(trial)
    return RewardModelCost(pairs, steps, seconds, round(read * 2 * trial.mean_length))


def _pairs(recipe: Recipe, prompts: int, trial: Trial) -> int:
    """Pairs of a round; each is joined by two comparisons of prompts, where the recipe conditions on them."""
    return (1 if recipe.conditioning is None else 3) * round(trial.pairs / trial.prompts * prompts)


def _pair_seconds(trial: Trial) -> float:
    return 2 * row_seconds(trial)


def row_seconds(trial: Trial) -> float:
    """Seconds of reading one trace with its prompt."""
    return trial.mean_length * trial.forward_seconds


def estimate_online_cost(
    recipe: Recipe, online: OnlineConfig, prompts: int, questions: int, rollouts: Trial, measuring: Trial
) -> Cost:
    """A whole run that learns online, at the rates of ``rollouts`` and, for what is measured, ``measuring``."""
    held_out = held_out_count(online.guard, prompts)
    steps = online.optimiser_steps(prompts - held_out)
    # A probe samples one trace a prompt, with one process.
    probed = probe_answers(online.guard, steps, held_out)
    # A reward model learns from traces of every prompt, which serve the guard as well.
    learned_from = held_out if recipe.reward_model is None else prompts
    asked = 2 * questions_in_full(recipe, questions) + learned_from
    completions = math.ceil(steps / online.num_iterations) * online.completions_per_step
    tokens, seconds = rollouts.tokens / rollouts.prompts, rollouts.sampling_seconds / rollouts.prompts
    taught = online.warm_up.prompts * online.warm_up.completions
    sampled = (completions + taught) / online.num_generations
    # Logits of the model at the start, and of older completions when they were sampled, cost a forward pass each, and
    # so does the score of a reward model.
    read = (online.beta > 0) + (online.steps_per_rollout * online.num_iterations > 1)
    read += online.rewards.reward_model is not None
    trained = steps * online.completions_per_step + online.warm_up.steps * online.warm_up.batch_size
    workers = worker_count_for(recipe.model, recipe.sampling.workers)
    one, of_prompt = measuring.sampling_seconds / measuring.prompts, measuring.tokens / measuring.prompts
    branches, reward_model = recipe.sampling.branches, reward_model_cost(recipe, prompts, measuring)
    return Cost(
        prompts=prompts,
        questions=questions,
        traces=round(asked * branches) + probed,
        tokens=round(of_prompt * (asked + probed / branches)),
        sampling_seconds=one * (asked / workers + probed / branches),
        workers=workers,
        pairs=0,
        optimiser_steps=steps,
        training_seconds=(FORWARD_AND_BACKWARD * trained + read * completions) * row_seconds(rollouts),
        completions=completions + taught,
        completion_tokens=round(tokens * sampled),
        completion_seconds=seconds * sampled,
        warm_up_steps=online.warm_up.steps,
        judging_seconds=measuring.judging_seconds
        / measuring.prompts
        * (prompts if recipe.reward_model else 0)
        / workers,
        reward_model=reward_model,
        learning=LearningTokens.about(
            tokens * sampled + of_prompt * (learned_from + probed / branches),
            trained * rollouts.mean_length + (reward_model.tokens if reward_model else 0),
        ),
    )


def forward_seconds(model: PreTrainedModel, sequences: Sequence[Sequence[int]], most: int) -> float:
    """Seconds a token when the model reads at most ``most`` of the sequences at once."""
    import torch

    longest = max(map(len, sequences))
    vocabulary = model.config.get_text_config().vocab_size
    rows = sequences[: max(1, min(most, _LOGIT_BYTES // (4 * longest * vocabulary)))]
    # Padded by repetition: what is read does not change how long it takes.
    batch = torch.tensor([(list(row) * longest)[:longest] for row in rows], device=model.device)
    with torch.inference_mode():
        return min(_seconds(model, batch) for _ in range(3)) / batch.numel()  # the first pass pays for start-up


def _seconds(model: PreTrainedModel, batch: torch.Tensor) -> float:
    started = time.monotonic()
    model(batch, use_cache=False).logits[0, 0, 0].item()  # waits for the device
    return time.monotonic() - started
