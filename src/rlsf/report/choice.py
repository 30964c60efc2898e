"""Which questions the trace browser shows: a fixed rule, so that nobody can pick the flattering ones."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping

Outcome = tuple[bool | None, bool | None]

#: Outcomes of the greedy answer in the order they are told: (before, after).
OUTCOME_NAMES: dict[Outcome, str] = {
    (False, True): "wrong, now right",
    (True, True): "right both times",
    (False, False): "wrong both times",
    (True, False): "right, now wrong",
    (True, None): "right",
    (False, None): "wrong",
}


def choose_questions(outcomes: Mapping[str, Outcome], count: int = 12) -> list[str]:
    """``count`` prompt ids, as evenly as possible from each outcome, in the order of ``OUTCOME_NAMES``.

    Within an outcome the order is that of the SHA-256 of the prompt id, so the choice depends on neither the
    order of the questions nor on anything about the traces.
    """
    strata: dict[Outcome, list[str]] = defaultdict(list)
    for prompt_id in sorted(outcomes, key=_digest):
        strata[outcomes[prompt_id]].append(prompt_id)
    order = [*OUTCOME_NAMES, *sorted(strata.keys() - OUTCOME_NAMES.keys(), key=repr)]
    rows = itertools.zip_longest(*(strata[outcome] for outcome in order if strata[outcome]))
    taken = [prompt_id for row in rows for prompt_id in row if prompt_id is not None][:count]
    place = {outcome: position for position, outcome in enumerate(order)}
    return sorted(taken, key=lambda prompt_id: (place[outcomes[prompt_id]], _digest(prompt_id)))


def outcome_counts(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    """How many questions had each named outcome; outcomes that did not occur are left out."""
    counts = Counter(outcomes.values())
    return {name: counts[outcome] for outcome, name in OUTCOME_NAMES.items() if counts[outcome]}


def _digest(prompt_id: str) -> str:
    return hashlib.sha256(prompt_id.encode()).hexdigest()
