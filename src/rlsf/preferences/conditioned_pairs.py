"""Preference pairs, and beside each two comparisons of prompts that a length limit tells apart (arXiv 2502.00814)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import LengthLimit, draw_limit, word_count
from rlsf.preferences.table import PREFERENCE_SCHEMA

#: The prompt of a question with a limit, by the prompt's id: its text and token ids.
Limited = Callable[[str, LengthLimit], tuple[str, Sequence[int]]]
#: Random numbers of a pair, by the ids of its traces.
Numbers = Callable[[str, str], random.Random]

ORDINARY, CHOSEN, REJECTED = "ordinary", "chosen", "rejected"
#: ``prompt`` and ``prompt_ids`` are the chosen side's, ``rejected_prompt`` and ``rejected_prompt_ids`` the other's.
#: ``part``: an ordinary pair, or the response that is compared with itself under two prompts. ``limit_*``: the limit.
CONDITIONED_SCHEMA = pa.schema(
    [
        *PREFERENCE_SCHEMA,
        ("rejected_prompt", pa.string()),
        ("rejected_prompt_ids", pa.list_(pa.int32())),
        ("part", pa.string()),
        ("limit_kind", pa.string()),
        ("limit_words", pa.int32()),
        ("weight", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class ConditioningReport:
    """Counts: pairs that came in, those with a response too short for a limit, and comparisons that go out.

    Reports of disjoint pairs add up.
    """

    pairs: int = 0
    too_short: int = 0
    comparisons: int = 0
    longer_chosen: int = 0
    """Pairs whose chosen response has more words than the rejected one."""
    shorter_chosen: int = 0

    def __add__(self, other: ConditioningReport) -> ConditioningReport:
        mine, theirs = asdict(self), asdict(other)
        return ConditioningReport(**{key: mine[key] + theirs[key] for key in mine})


def condition_pairs(
    pairs: pa.Table, config: LengthConditioningConfig, limited: Limited, numbers: Numbers
) -> tuple[pa.Table, ConditioningReport]:
    """The ordinary pairs (x, y_c, y_r), each followed by (x, y_c) over (x1, y_c) and (x2, y_r) over (x, y_r).

    x1 is x with a limit that y_c breaks, x2 is x with a limit that y_r keeps. The two come together or not at all: with
    one of them alone, that there is a limit says already which side is preferred. They ask for no margin.
    """
    rows: list[dict[str, Any]] = []
    too_short = 0
    lengths = []
    for pair in pairs.to_pylist():
        words = word_count(pair["chosen"]), word_count(pair["rejected"])
        lengths.append(words)
        rows.append(_row(pair, ORDINARY))
        if min(words) < config.minimum_words:
            too_short += 1
        else:
            rows += _comparisons(pair, words, config, limited, numbers)
    report = ConditioningReport(
        pairs=len(lengths),
        too_short=too_short,
        comparisons=len(rows) - len(lengths),
        longer_chosen=sum(chosen > rejected for chosen, rejected in lengths),
        shorter_chosen=sum(chosen < rejected for chosen, rejected in lengths),
    )
    return pa.Table.from_pylist(rows, schema=CONDITIONED_SCHEMA), report


def _comparisons(
    pair: Mapping[str, Any],
    words: tuple[int, int],
    config: LengthConditioningConfig,
    limited: Limited,
    numbers: Numbers,
) -> Iterator[dict[str, Any]]:
    drawn = numbers(pair["chosen_trace_id"], pair["rejected_trace_id"])
    for side, length in zip((CHOSEN, REJECTED), words, strict=True):
        limit = draw_limit(length, config, drawn, kept=side == REJECTED)
        text, ids = limited(pair["prompt_id"], limit)
        same = {f"{where}{what}": pair[f"{side}{what}"] for where in _SIDES for what in _OF_A_RESPONSE}
        with_limit = "" if side == REJECTED else "rejected_"
        yield {
            **_row({**pair, **same, "margin": 0.0}, side),
            f"{with_limit}prompt": text,
            f"{with_limit}prompt_ids": ids,
            "limit_kind": limit.kind,
            "limit_words": limit.words,
            "weight": config.rejected_weight if side == REJECTED else 1.0,
        }


_SIDES = (CHOSEN, REJECTED)
_OF_A_RESPONSE = ("", "_ids", "_confidence", "_trace_id")


def _row(pair: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {
        **pair,
        "rejected_prompt": pair["prompt"],
        "rejected_prompt_ids": pair["prompt_ids"],
        "part": part,
        "limit_kind": None,
        "limit_words": None,
        "weight": 1.0,
    }
