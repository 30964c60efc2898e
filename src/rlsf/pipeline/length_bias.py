"""Length bias of a reward model on pairs that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rlsf.evaluation.length_bias import LengthBias, LimitPair, QualityPair, RewardedResponse, length_bias
from rlsf.preferences.conditioned_pairs import CHOSEN, Limited, Numbers, condition_pairs
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import limits_between, word_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_Sequence = tuple[int, ...]


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

    A sequence that occurs several times is scored once. Limits are worded and drawn as in training.
    """
    from rlsf.scoring.reward_scores import reward_scores

    rows = pairs.to_pylist()
    between = list(_between(rows, limited))
    conditioned = condition_pairs(pairs, config, limited, numbers)[0].to_pylist()
    comparisons = [row for row in conditioned if row["limit_kind"] is not None]
    sequences = dict.fromkeys(
        [
            *(_joined(row["prompt_ids"], row[f"{side}_ids"]) for row in rows for side in _SIDES),
            *(sequence for _, _, *both in between for sequence in both),
            *(_side(row, side) for row in comparisons for side in _SIDES),
        ]
    )
    rewards = dict(zip(sequences, reward_scores(model, list(sequences)), strict=True))

    def response(row: Mapping[str, Any], side: str) -> RewardedResponse:
        return RewardedResponse(rewards[_joined(row["prompt_ids"], row[f"{side}_ids"])], word_count(row[side]))

    return length_bias(
        [QualityPair(row["prompt_id"], *(response(row, side) for side in _SIDES)) for row in rows],
        [LimitPair(prompt, kind, rewards[kept], rewards[broken]) for prompt, kind, kept, broken in between],
        [
            LimitPair(
                row["prompt_id"],
                "broken" if row["part"] == CHOSEN else "kept",
                *(rewards[_side(row, side)] for side in _SIDES),
            )
            for row in comparisons
        ],
        resamples=resamples,
        seed=seed,
    )


_SIDES = ("chosen", "rejected")


def _between(rows: Iterable[Mapping[str, Any]], limited: Limited) -> Iterable[tuple[str, str, _Sequence, _Sequence]]:
    """Prompt, kind of limit, and the two responses under it: that which keeps it, that which breaks it."""
    for row in rows:
        short, long = sorted(_SIDES, key=lambda side, row=row: word_count(row[side]))
        lengths = word_count(row[short]), word_count(row[long])
        if lengths[0] == lengths[1]:
            continue
        for limit, order in zip(limits_between(*lengths), ((short, long), (long, short)), strict=True):
            prompt = limited(row["prompt_id"], limit)[1]
            kept, broken = (_joined(prompt, row[f"{side}_ids"]) for side in order)
            yield row["prompt_id"], limit.kind, kept, broken


def _side(row: Mapping[str, Any], side: str) -> _Sequence:
    return _joined(row["prompt_ids" if side == "chosen" else "rejected_prompt_ids"], row[f"{side}_ids"])


def _joined(prompt: Iterable[int], trace: Iterable[int]) -> _Sequence:
    return (*prompt, *trace)
