"""Length bias of a reward model on pairs that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rlsf.evaluation.length_bias import LengthBias, LimitPair, QualityPair, RewardedResponse, length_bias
from rlsf.preferences.conditioned_pairs import CHOSEN, Limited, Numbers, condition_pairs
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import limits_around, limits_between, word_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_Row = Mapping[str, Any]
_Sequence = tuple[int, ...]
#: Prompt, group, and the sequences of which a good scorer prefers the first.
_Comparison = tuple[str, str, _Sequence, _Sequence]


def measure_length_bias(
    model: PreTrainedModel,
    pairs: pa.Table,
    config: LengthConditioningConfig,
    limited: Limited,
    numbers: Numbers,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> LengthBias:
    """Score ranked ``pairs``, the same under limits between their lengths, and each response under limits of its own.

    A sequence that occurs several times is scored once. Limits are worded and drawn as in training. What a limit makes
    too long for the model's context is left out, with what it is compared to.
    """
    from rlsf.models import context_length
    from rlsf.scoring.reward_scores import reward_scores

    rows = pairs.to_pylist()
    context = context_length(model)
    between, around, trained = (
        list(_fitting(found, context))
        for found in (
            _between(rows, limited),
            _around(rows, config, limited, numbers),
            _as_trained(pairs, config, limited, numbers),
        )
    )
    plain = [_own(row, side) for row in rows for side in _SIDES]
    compared = (
        sequence for group in (*between, *around, *trained) for *_, kept, broken in group for sequence in (kept, broken)
    )
    sequences = dict.fromkeys([*plain, *compared])
    rewards = dict(zip(sequences, reward_scores(model, list(sequences)), strict=True))

    def rewarded(groups: Iterable[Sequence[_Comparison]]) -> list[LimitPair]:
        return [
            LimitPair(prompt, name, rewards[kept], rewards[broken])
            for group in groups
            for prompt, name, kept, broken in group
        ]

    return length_bias(
        [
            QualityPair(
                row["prompt_id"],
                *(RewardedResponse(rewards[_own(row, side)], word_count(row[side])) for side in _SIDES),
            )
            for row in rows
        ],
        *(rewarded(groups) for groups in (between, around, trained)),
        resamples=resamples,
        seed=seed,
    )


_SIDES = ("chosen", "rejected")


def _fitting(groups: Iterable[list[_Comparison]], context: int | None) -> Iterable[list[_Comparison]]:
    """Groups, each whole or not at all, so that what balances within one stays so."""
    for group in groups:
        longest = max(len(sequence) for *_, kept, broken in group for sequence in (kept, broken))
        if context is None or longest <= context:
            yield group


def _between(rows: Iterable[_Row], limited: Limited) -> Iterable[list[_Comparison]]:
    """The two responses of a pair under a limit between their lengths, by its kind."""
    for row in rows:
        short, long = sorted(_SIDES, key=lambda side, row=row: word_count(row[side]))
        lengths = word_count(row[short]), word_count(row[long])
        if lengths[0] == lengths[1]:
            continue
        group = []
        for limit, order in zip(limits_between(*lengths), ((short, long), (long, short)), strict=True):
            prompt = limited(row["prompt_id"], limit)[1]
            kept, broken = (_joined(prompt, row[f"{side}_ids"]) for side in order)
            group.append((row["prompt_id"], limit.kind, kept, broken))
        yield group


def _around(
    rows: Iterable[_Row], config: LengthConditioningConfig, limited: Limited, numbers: Numbers
) -> Iterable[list[_Comparison]]:
    """Each response that is long enough without a limit and under four: two that it keeps, two that it breaks."""
    responses = {row[f"{side}_trace_id"]: (row, side) for row in rows for side in _SIDES}
    for trace_id, (row, side) in responses.items():
        words = word_count(row[side])
        if words < config.minimum_words:
            continue
        plain, group = _own(row, side), []
        for limit in limits_around(words, config, numbers(trace_id, trace_id)):
            under = _joined(limited(row["prompt_id"], limit)[1], row[f"{side}_ids"])
            kept = limit.kept_by(words)
            sides = (under, plain) if kept else (plain, under)
            group.append((row["prompt_id"], "kept" if kept else "broken", *sides))
        yield group


def _as_trained(
    pairs: pa.Table, config: LengthConditioningConfig, limited: Limited, numbers: Numbers
) -> Iterable[list[_Comparison]]:
    """The two comparisons of each pair that training has."""
    rows = [row for row in condition_pairs(pairs, config, limited, numbers)[0].to_pylist() if row["limit_kind"]]
    for two in zip(rows[::2], rows[1::2], strict=True):
        yield [
            (
                row["prompt_id"],
                "broken" if row["part"] == CHOSEN else "kept",
                _joined(row["prompt_ids"], row["chosen_ids"]),
                _joined(row["rejected_prompt_ids"], row["rejected_ids"]),
            )
            for row in two
        ]


def _own(row: _Row, side: str) -> _Sequence:
    return _joined(row["prompt_ids"], row[f"{side}_ids"])


def _joined(prompt: Iterable[int], trace: Iterable[int]) -> _Sequence:
    return (*prompt, *trace)
