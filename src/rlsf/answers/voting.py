"""One answer from several traces: equivalence classes, the majority, and CoT-decoding's aggregated path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlsf.answers.canonical import canonical
from rlsf.answers.equivalence import equivalent

#: Whether two answers mean the same; None where that could not be decided, which keeps them apart.
SameAnswer = Callable[[str, str], bool | None]


@dataclass(frozen=True, slots=True)
class Vote:
    """The answer that won. ``members`` are the indices of the traces that gave it, ``index`` the surest of them.

    ``weight`` is the number of members (majority), their summed confidence (aggregation), or what else ``elect`` was
    given; ``share``, in [0, 1], is its part of the total over all answers.
    """

    answer: str
    index: int
    members: tuple[int, ...]
    weight: float
    share: float


def _both_ways(first: str, second: str) -> bool | None:
    return equivalent(first, second, symmetric=True)


def group_answers(answers: Sequence[str | None], same: SameAnswer = _both_ways) -> list[list[int]]:
    """Indices of equivalent answers, class by class in the order of their first members; None belongs to no class.

    Answers of one canonical form are together at once; classes with different forms are compared by ``same`` and
    united, so that the result is an equivalence relation even where ``same`` is not transitive.
    """
    by_form: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is not None:
            by_form.setdefault(canonical(answer), []).append(index)
    forms = list(by_form)
    parent = list(range(len(forms)))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in combinations(range(len(forms)), 2):
        low, high = sorted((root(a), root(b)))
        if low != high and same(forms[a], forms[b]):
            parent[high] = low
    classes: dict[int, list[int]] = {}
    for node, form in enumerate(forms):
        classes.setdefault(root(node), []).extend(by_form[form])
    return [sorted(members) for members in classes.values()]


def majority(
    answers: Sequence[str | None], confidences: Sequence[float | None] | None = None, same: SameAnswer = _both_ways
) -> Vote | None:
    """The answer given most often, None where nobody answers.

    Ties go to the larger summed confidence, then to the answer given first.
    """
    held = _checked(answers, confidences)
    return elect(answers, group_answers(answers, same), [1.0] * len(answers), held, ties=held)


def clear_majority(answers: Sequence[str | None], same: SameAnswer = _both_ways) -> tuple[int, ...]:
    """The traces whose answer is given more often than any other; empty where nobody answers or several answers lead.

    Unlike ``majority``, it settles no tie, so that it does not depend on the order of the traces.
    """
    classes = sorted(group_answers(answers, same), key=len, reverse=True)
    tied = len(classes) > 1 and len(classes[0]) == len(classes[1])
    return tuple(classes[0]) if classes and not tied else ()


def aggregate(
    answers: Sequence[str | None], confidences: Sequence[float | None], same: SameAnswer = _both_ways
) -> Vote | None:
    """argmax over answers a of the sum of the confidences of the traces that answer a (arXiv 2402.10200, section 2.3).

    A trace without an answer or without a confidence has no say; None where no trace has one. Ties go to the answer
    given first.
    """
    held = _checked(answers, confidences)
    heard = [None if confidence is None else answer for answer, confidence in zip(answers, confidences, strict=True)]
    return elect(heard, group_answers(heard, same), held, held)


def elect(
    answers: Sequence[str | None],
    classes: Iterable[Sequence[int]],
    weights: Sequence[float],
    sureness: Sequence[float],
    *,
    ties: Sequence[float] | None = None,
) -> Vote | None:
    """argmax over ``classes`` of the sum of the members' ``weights``, each at least 0; None where there is no class.

    ``classes`` hold equivalent answers, as ``group_answers`` returns them. Ties go to the larger sum of ``ties`` where
    these are given, then to the class whose first member is the earliest. ``sureness``, of any range, says which
    member stands for the class: the surest, ties to the first.
    """

    def summed(values: Sequence[float], members: Sequence[int]) -> float:
        return math.fsum(values[i] for i in members)

    breakers = ties or [0.0] * len(answers)
    ranked = sorted(classes, key=lambda c: (summed(weights, c), summed(breakers, c), -c[0]), reverse=True)
    if not ranked:
        return None
    members = ranked[0]
    weight, total = summed(weights, members), math.fsum(summed(weights, c) for c in ranked)
    answer = answers[members[0]]
    assert answer is not None
    surest = max(members, key=lambda i: (sureness[i], -i))
    return Vote(answer, surest, tuple(members), weight, weight / total if total else 0.0)


def _checked(answers: Sequence[str | None], confidences: Sequence[float | None] | None) -> list[float]:
    if confidences is None:
        return [0.0] * len(answers)
    if len(confidences) != len(answers):
        raise ValueError(f"{len(answers)} answers but {len(confidences)} confidences")
    for index, confidence in enumerate(confidences):
        if confidence is not None and not 0 <= confidence <= 1:
            raise ValueError(f"confidence {confidence} of answer {index} is not in [0, 1]")
    return [0.0 if confidence is None else float(confidence) for confidence in confidences]
