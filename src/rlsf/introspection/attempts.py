"""Attempts of a dialogue: what each earns, which one goes on, and which are learned from."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rlsf.introspection.config import IntrospectionConfig, Rule
from rlsf.traces import Trace
from rlsf.training.vital_signs import repetition

#: Why a turn has no majority to learn from: several answers lead, nobody answers, or every attempt of the majority was
#: cut or repeats itself.
WithoutMajority = Literal["tied", "unanswered", "unusable"]


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One answer in a dialogue, with the dialogue up to it as the prompt of its trace. ``turn`` counts from 1."""

    trace: Trace
    reward: float
    turn: int


def gold_reward(right: bool | None) -> float:
    """1 for a right answer, 0 for a wrong one, -1 where there is none (None), as published."""
    return -1.0 if right is None else float(right)


def confidence_reward(confidence: float | None) -> float:
    """The confidence, in [0, 1]; 0 where there is no answer or no confidence in it."""
    return 0.0 if confidence is None else confidence


def usable(trace: Trace, repetition_limit: float) -> bool:
    """Whether an attempt came to an end and does not repeat itself: ``repetition`` stays below the limit."""
    return not trace.truncated and repetition(trace.token_ids) < repetition_limit


def best_attempt(attempts: Sequence[Attempt], repetition_limit: float) -> Attempt | None:
    """The usable attempt of a turn with the largest reward, ties to the first; None where none is usable."""
    return max(
        (attempt for attempt in attempts if usable(attempt.trace, repetition_limit)),
        key=lambda attempt: attempt.reward,
        default=None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """What stays of a turn: its best attempt, with which the dialogue goes on, and what is learned if the turn is."""

    best: Attempt
    examples: tuple[Attempt, ...]


def turn_of(attempts: Sequence[Attempt], config: IntrospectionConfig) -> Turn | None:
    """The turn that these attempts are, in their order; None where none is usable."""
    best = best_attempt(attempts, config.repetition_limit)
    if best is None or config.attempts == "best":
        return None if best is None else Turn(best, (best,))
    least = config.success if config.select == "success" else -math.inf
    kept = (one for one in attempts if one.reward >= least and usable(one.trace, config.repetition_limit))
    return Turn(best, tuple(kept))


def majority_rewards(members: Collection[int], attempts: int) -> list[float]:
    """1 for the attempts of the majority, by their indices, 0 for the others (arXiv 2210.11610)."""
    return [float(index in members) for index in range(attempts)]


def without_majority(attempts: Sequence[Attempt], repetition_limit: float) -> list[WithoutMajority]:
    """Why nothing can be learned of a turn that is rewarded by majority, a list of one; empty where something can."""
    majority = [attempt for attempt in attempts if attempt.reward]
    if not majority:
        return ["tied" if any(attempt.trace.answer for attempt in attempts) else "unanswered"]
    return [] if any(usable(attempt.trace, repetition_limit) for attempt in majority) else ["unusable"]


def learned_turns(rewards: Sequence[float], rule: Rule, success: float) -> list[int]:
    """The turns of a dialogue, counted from 0, that are learned, given the reward of each.

    ``all``: every turn; ``better``: r_t > r_(t-1); ``best``: r_t >= max of the earlier; ``success``: r_t >= success.
    The first turn is learned but for ``success``, where it counts as any other (arXiv 2407.18219).
    """
    keeps: dict[Rule, Callable[[int], bool]] = {
        "all": lambda turn: True,
        "better": lambda turn: turn == 0 or rewards[turn] > rewards[turn - 1],
        "best": lambda turn: turn == 0 or rewards[turn] >= max(rewards[:turn]),
        "success": lambda turn: rewards[turn] >= success,
    }
    return list(filter(keeps[rule], range(len(rewards))))


def without_duplicates(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    """The attempts that say something, each once: the same tokens after the same dialogue are the same example."""
    seen: set[tuple[bytes, bytes]] = set()
    for attempt in attempts:
        key = (attempt.trace.prompt_token_ids.tobytes(), attempt.trace.token_ids.tobytes())
        if attempt.trace.text.strip() and key not in seen:
            seen.add(key)
            yield attempt
