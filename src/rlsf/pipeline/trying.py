"""A recipe that is tried on a few questions for a preview: what is sampled, by what it is ranked, what is shown."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.pipeline.cost import Trial, forward_seconds
from rlsf.pipeline.judging import counts_of_judging, judge_traces, row_of, warnings_of_judging
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.tried import Tried, try_prompts
from rlsf.preferences import rank_prompt
from rlsf.prompts import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from rlsf.sampling.transformers_engine import TransformersEngine

#: Questions sampled for the estimate of cost, besides those shown.
TIMED = 24
#: The key that bounds traces.
LIMIT = "sampling.max_new_tokens"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One question as the model sees it, its traces with confidences, and verdicts where there is a gold answer."""

    prompt: Prompt
    text: str
    token_count: int
    traces: Sequence[Trace]
    confidences: Sequence[float | None]
    verdicts: Sequence[bool | None]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The confidences of all traces that were tried, how long a judge took for them, 0 without one, and what speaks
    against it."""

    confidences: Sequence[Sequence[float | None]]
    judging_seconds: float = 0.0
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Trying:
    """A recipe with its model and questions, of which ``examples`` are shown."""

    recipe: Recipe
    engine: TransformersEngine
    prompts: Sequence[Prompt]
    questions: Sequence[Prompt]
    examples: int

    def traces(self) -> Tried:
        """The prompts to learn from that are shown, if any, and questions, as the recipe samples both."""
        most = self.examples + TIMED
        asked = [*self.prompts[: self.examples], *self.questions[:most]] if self.questions else self.prompts[:most]
        return try_prompts(self.engine, asked, self.recipe.sampling, self.recipe, LIMIT)

    def measured(self) -> Tried:
        """Questions as the recipe samples them; without any, held-out prompts are still sampled so."""
        asked = self.questions[: self.examples + TIMED] or self.prompts[: max(1, self.examples)]
        return try_prompts(self.engine, asked, self.recipe.sampling, self.recipe, LIMIT)

    def ranked(self, tried: Tried) -> Ranked:
        """By what traces of a prompt would be ranked: a judge's confidences, where there is one, or the signal's."""
        recipe, engine, judge = self.recipe, self.engine, self.recipe.judge
        if judge is None:
            return self.by_signal(tried)
        seed, started = derived_seed(recipe.seed, "judge", 1), time.monotonic()
        # One at a time, for a prompt to learn from and a labelled question may have the same id.
        groups = [
            next(
                judge_traces(engine.model, engine.tokenizer, [group], [prompt], judge, render=recipe.render, seed=seed)
            )
            for prompt, group in zip(tried.prompts, tried.groups, strict=True)
        ]
        rows = [
            [row_of(trace, one, judge) for trace, one in zip(traces, group, strict=True)]
            for traces, group in zip(tried.groups, groups, strict=True)
        ]
        counts = counts_of_judging(itertools.chain(*rows))
        return Ranked(
            [[row["confidence"] for row in group] for group in rows],
            time.monotonic() - started,
            [*warnings_of_judging(judge, counts)],
        )

    def by_signal(self, tried: Tried) -> Ranked:
        """The signal's confidences."""
        signal = get_signal(self.recipe.signal)
        return Ranked([confidences(group, signal, self.engine.tokenizer) for group in tried.groups])

    def trial(self, tried: Tried, most: int, pairs: int = 0, judging_seconds: float = 0.0) -> Trial:
        """What trying took; ``most`` is how many sequences training reads at once."""
        return Trial(
            prompts=len(tried.prompts),
            tokens=tried.tokens,
            sampling_seconds=tried.seconds,
            pairs=pairs,
            lengths=[len(text) for text in tried.texts],
            forward_seconds=forward_seconds(self.engine.model, tried.texts, most),
            judging_seconds=judging_seconds,
        )

    def trial_of_pairs(self, tried: Tried, ranked: Ranked) -> Trial:
        """The same of traces that become pairs."""
        pairs = sum(
            len(rank_prompt(group, found, self.recipe.ranking, self.recipe.seed)[0])
            for group, found in zip(tried.groups, ranked.confidences, strict=True)
        )
        reads = self.recipe.reward_model or self.recipe.training
        return self.trial(tried, 2 * (reads.device_batch_size or reads.batch_size), pairs, ranked.judging_seconds)

    def shown(self, tried: Tried, ranked: Ranked) -> list[Example]:
        """The first prompts of ``traces``, and the first questions after them."""
        return examples_of(tried, ranked, (2 if self.prompts and self.questions else 1) * self.examples)


def examples_of(tried: Tried, ranked: Ranked, count: int) -> list[Example]:
    """The first questions that were tried."""
    with Grader() as grader:
        return [
            Example(
                prompt=prompt,
                text=text.text,
                token_count=len(text.token_ids),
                traces=group,
                confidences=found,
                verdicts=_verdicts(prompt, group, grader),
            )
            for prompt, text, group, found in zip(
                tried.prompts[:count],
                tried.rendered[:count],
                tried.groups[:count],
                ranked.confidences[:count],
                strict=True,
            )
        ]


def _verdicts(prompt: Prompt, traces: Sequence[Trace], grader: Grader) -> list[bool | None]:
    if prompt.gold is None:
        return [None] * len(traces)
    return [
        trace.answer is not None and bool(grader(trace.answer.text, prompt.gold, prompt.choices)) for trace in traces
    ]
