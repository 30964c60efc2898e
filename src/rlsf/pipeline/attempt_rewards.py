"""What the attempts of a turn earn, as a recipe says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rlsf.answers import clear_majority
from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.introspection.attempts import confidence_reward, gold_reward, majority_rewards
from rlsf.pipeline.ranking import confidences
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Rewarder(Protocol):
    """The reward of each attempt at a prompt."""

    def __call__(self, prompt: Prompt, traces: Sequence[Trace]) -> list[float]: ...


@contextmanager
def rewarder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Iterator[Rewarder]:
    """What an attempt earns: the signal's confidence, or, where the recipe says so, whether its answer is that of the
    majority, or right."""
    if recipe.introspection is None or recipe.introspection.reward == "confidence":
        signal = get_signal(recipe.signal)
        yield lambda prompt, traces: [confidence_reward(c) for c in confidences(traces, signal, tokenizer)]
        return
    if recipe.introspection.reward == "majority":
        yield lambda prompt, traces: majority_rewards(
            clear_majority([trace.answer_text for trace in traces]), len(traces)
        )
        return
    with Grader() as grader:

        def verdict(prompt: Prompt, trace: Trace) -> bool | None:
            assert prompt.gold is not None  # read with the prompts of a recipe that needs labels
            return None if trace.answer is None else bool(grader(trace.answer.text, prompt.gold, prompt.choices))

        yield lambda prompt, traces: [gold_reward(verdict(prompt, trace)) for trace in traces]


def majority_answers(traces_by_prompt: Iterable[Sequence[Trace]]) -> dict[str, str]:
    """For each prompt the answer that more of its traces give than any other; prompts without one are left out."""
    found: dict[str, str] = {}
    for traces in traces_by_prompt:
        for index in _majority(traces)[:1]:
            found[traces[index].prompt_id] = str(traces[index].answer_text)
    return found


def _majority(traces: Sequence[Trace]) -> Sequence[int]:
    """The traces that give the answer of a clear majority."""
    return clear_majority([trace.answer_text for trace in traces])
