"""Questions that are tried for a preview: their traces, how long they took, and what would waste a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlsf.pipeline.answering import find_answers
from rlsf.prompts import Prompt, RenderedPrompt, render
from rlsf.recipes.recipe import Recipe
from rlsf.rewards.build import build_rewards
from rlsf.rewards.policy_reward import COLUMNS
from rlsf.rewards.verification import Verdicts
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from rlsf.sampling.transformers_engine import TransformersEngine
    from rlsf.training.online_config import OnlineConfig

#: Rewards that differ by less are equal: TRL looks at their standard deviation in float32.
_EQUAL = 1e-6
#: From these shares on, cut completions and groups of equal rewards are worth a word.
_MANY_CUT, _MANY_EQUAL = 0.1, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """Questions with their traces, ``limit`` being the key of the recipe that bounds these, and its value."""

    prompts: Sequence[Prompt]
    rendered: Sequence[RenderedPrompt]
    groups: Sequence[Sequence[Trace]]
    seconds: float
    limit: tuple[str, int]

    @property
    def traces(self) -> list[Trace]:
        """All traces."""
        return [trace for group in self.groups for trace in group]

    @property
    def texts(self) -> list[tuple[int, ...]]:
        """The token ids of every trace, with those of its prompt."""
        return [(*trace.prompt_token_ids, *trace.token_ids) for trace in self.traces]

    @property
    def tokens(self) -> int:
        """Tokens that were written."""
        return sum(len(trace.token_ids) for trace in self.traces)

    @property
    def truncated(self) -> int:
        """Traces cut at the limit."""
        return sum(trace.truncated for trace in self.traces)


def try_prompts(
    engine: TransformersEngine, prompts: Sequence[Prompt], sampling: SamplingConfig, recipe: Recipe, limit: str
) -> Tried:
    """Sample the prompts, timed, and find answers; ``limit`` is the key that bounds the traces."""
    rendered = [render(prompt, engine.tokenizer, recipe.render) for prompt in prompts]
    asked = [
        SamplingRequest(prompt.id, text.token_ids, derived_seed(recipe.seed, "check"))
        for prompt, text in zip(prompts, rendered, strict=True)
    ]
    list(engine.sample(asked[:1], sampling))  # pays for start-up, which is not what sampling costs
    started = time.monotonic()
    groups = list(engine.sample(asked, sampling))
    seconds = time.monotonic() - started
    traces = find_answers(engine, engine.tokenizer, groups, [prompt.choices for prompt in prompts], recipe.answer)
    branches = sampling.branches
    return Tried(
        prompts=prompts,
        rendered=rendered,
        groups=[traces[start : start + branches] for start in range(0, len(traces), branches)],
        seconds=seconds,
        limit=(limit, sampling.max_new_tokens),
    )


def warnings_of(recipe: Recipe, online: OnlineConfig, tried: Tried, engine: TransformersEngine) -> list[str]:
    """What of the completions of a policy at its start would waste a run."""
    found = []
    count = len(tried.traces)
    if tried.truncated >= _MANY_CUT * count:
        found.append(
            f"{tried.truncated} of {count} completions are cut at online.max_completion_length="
            f"{online.max_completion_length} before they end: raise it, or they are rewarded for what they do not say"
        )
    by_score = online.rewards.reward_model
    # The warm-up changes the form, and with it every reward that looks for one; a run's own reward model is not there.
    if online.warm_up.steps or (by_score is not None and by_score.path is None):
        return found
    equal, groups = equal_groups(recipe, online, tried, engine), len(tried.groups)
    if equal >= _MANY_EQUAL * groups:
        rewards = " + ".join(online.rewards.chosen)
        found.append(
            f"{equal} of {groups} prompts give all their {online.num_generations} completions the same reward"
            f" ({rewards}), which teaches nothing: try harder or easier questions, more completions"
            " (online.num_generations) or another reward; where the form is not kept, online.warm_up.steps teaches it"
        )
    return found


def equal_groups(recipe: Recipe, online: OnlineConfig, tried: Tried, engine: TransformersEngine) -> int:
    """How many prompts have completions of which all have the same weighted sum of rewards."""
    rewards = np.array(_rewards(recipe, online, tried, engine), dtype=np.float64)
    sums = np.nansum(rewards, axis=0).reshape(len(tried.groups), -1)
    return int((np.ptp(sums, axis=1) < _EQUAL).sum())


def _rewards(
    recipe: Recipe, online: OnlineConfig, tried: Tried, engine: TransformersEngine
) -> Sequence[Sequence[float | None]]:
    """Weighted rewards, a row each, of all completions."""
    size = online.num_generations
    asked = [prompt for prompt in tried.prompts for _ in range(size)]
    said = [trace.text for trace in tried.traces]
    choices = [list(prompt.choices) or None for prompt in asked]
    gold = [prompt.gold for prompt in asked]
    verification = online.rewards.self_verification
    if verification is not None:
        verdicts = Verdicts(num_generations=size, verdict=verification.verdict, answer=recipe.answer)
        rows = [{"answer": answer, "choices": of_row} for answer, of_row in zip(gold, choices, strict=True)]
        return [verdicts(rows, said)]
    # Whether rewards are equal does not depend on the temperature of the distributions.
    statistics = {column: [trace.statistics for trace in tried.traces] for column in COLUMNS.values()}
    functions = build_rewards(online.rewards, tokenizer=engine.tokenizer, answer=recipe.answer, num_generations=size)
    found = []
    for name, function in functions.items():
        values = function(
            prompts=[prompt.id for prompt in asked],
            prompt_ids=[trace.prompt_token_ids.tolist() for trace in tried.traces],
            completions=said,
            completion_ids=[trace.token_ids.tolist() for trace in tried.traces],
            choices=choices,
            answer=gold,
            **statistics,
        )
        weight = online.rewards.chosen[name].weight
        found.append([None if value is None else weight * value for value in values])
    return found
