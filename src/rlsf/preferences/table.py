"""Preference pairs in TRL's preference format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from rlsf.errors import InputError
from rlsf.preferences.config import RankingConfig
from rlsf.preferences.pairs import Pair, margin

_IDS = pa.list_(pa.int32())
#: ``prompt``, ``chosen``, ``rejected`` are TRL's text columns and ``*_ids`` its tokenised ones: the ids are those
#: sampled, end of sequence included, so nothing is tokenised again.
PREFERENCE_SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("prompt_ids", _IDS),
        ("chosen_ids", _IDS),
        ("rejected_ids", _IDS),
        ("margin", pa.float64()),
        ("chosen_confidence", pa.float64()),
        ("rejected_confidence", pa.float64()),
        ("chosen_trace_id", pa.string()),
        ("rejected_trace_id", pa.string()),
        ("prompt_id", pa.string()),
    ]
)


def pairs_to_table(pairs: Sequence[Pair], prompt_texts: Mapping[str, str], config: RankingConfig) -> pa.Table:
    """One row of ``PREFERENCE_SCHEMA`` a pair, order kept.

    ``prompt_texts`` maps prompt ids to the rendered prompts. Raises ``InputError`` for a prompt without a text.
    """
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    columns = {
        "prompt": [_prompt_text(prompt_texts, pair.chosen.trace.prompt_id) for pair in pairs],
        "chosen": [candidate.trace.text for candidate in chosen],
        "rejected": [candidate.trace.text for candidate in rejected],
        "prompt_ids": [candidate.trace.prompt_token_ids for candidate in chosen],
        "chosen_ids": [candidate.trace.token_ids for candidate in chosen],
        "rejected_ids": [candidate.trace.token_ids for candidate in rejected],
        "margin": [margin(pair.gap, config.margin) for pair in pairs],
        "chosen_confidence": [candidate.confidence for candidate in chosen],
        "rejected_confidence": [candidate.confidence for candidate in rejected],
        "chosen_trace_id": [candidate.trace.trace_id for candidate in chosen],
        "rejected_trace_id": [candidate.trace.trace_id for candidate in rejected],
        "prompt_id": [candidate.trace.prompt_id for candidate in chosen],
    }
    return pa.table(columns, schema=PREFERENCE_SCHEMA)


def _prompt_text(prompt_texts: Mapping[str, str], prompt_id: str) -> str:
    text = prompt_texts.get(prompt_id)
    if text is None:
        raise InputError(f"no text for prompt {prompt_id!r}: rank with the prompts that the traces were sampled from")
    return text
