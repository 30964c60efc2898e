"""Agreement with an earlier answer: progress without labels."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from rlsf.errors import InputError


def agreement(
    answers: Sequence[str | None],
    targets: Sequence[str | None],
    same: Callable[[str, str], bool | None] = operator.eq,
) -> float:
    """Share of prompts whose answer (of greedy decoding, say) is the target (of the surest branch), in [0, 1].

    A missing answer or target never agrees, nor does a pair that ``same`` cannot decide (None). Raises
    ``InputError`` for no prompts or unequal lengths.
    """
    if not answers or len(answers) != len(targets):
        raise InputError(f"{len(answers)} answers and {len(targets)} targets: give one of each a prompt")
    pairs = zip(answers, targets, strict=True)
    return sum(bool(a is not None and b is not None and same(a, b)) for a, b in pairs) / len(answers)
