"""Preference pairs as the trainer reads them: checked, weighed, and never cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from datasets.table import InMemoryTable, Table

from rlsf.errors import InputError, near_names
from rlsf.training.config import TrainingConfig
from rlsf.training.mapped_table import ROWS, mapped_table
from rlsf.training.objective import gap_weights

TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
#: The prompt of the rejected trace where it is not that of the chosen one; such pairs may come with a ``weight``.
REJECTED_PROMPT = "rejected_prompt_ids"
CONFIDENCE_COLUMNS = ("chosen_confidence", "rejected_confidence")


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs that are trained on, and how many were left out because a trace exceeds the model's context."""

    dataset: Dataset
    too_long: int
    digest: str
    """Identifies the token ids trained on, in their order."""

    def __len__(self) -> int:
        return len(self.dataset)


def prepare_pairs(
    preferences: pa.Table,
    config: TrainingConfig,
    *,
    vocabulary_size: int,
    max_length: int | None,
    section: str = "training",
    folder: Path | None = None,
) -> Pairs:
    """Preference rows to training examples: the sampled token ids as they are, plus margin and weight where asked.

    Rows with ``rejected_prompt_ids`` have a prompt for each side, and a ``weight`` that is not 1 throughout is kept.
    Pairs with a prompt and trace of more than ``max_length`` tokens together are left out and counted. Token ids are
    not copied, so that those of a memory-mapped table stay on disk; where pairs are left out, the others are written to
    ``folder``, or copied in memory where it is None. Raises ``InputError`` for an empty table, a missing column, an
    empty trace, ids outside the vocabulary, margins and weights that are not finite and weights below 0; ``section`` is
    the recipe's that says what to train, for messages.
    """
    if not preferences.num_rows:
        raise InputError(
            "no preference pairs to train on: lower ranking.threshold or ranking.minimum_gap, or raise"
            " sampling.branches so that more traces can be compared"
        )
    _require_columns(preferences, config, section)
    _check_tokens(preferences, vocabulary_size)
    columns = {name: preferences.column(name) for name in token_columns(preferences)}
    fits = _fits(preferences, max_length)
    if not fits.any():
        raise InputError(
            f"all {preferences.num_rows} preference pairs are longer than the model's context of {max_length} tokens:"
            " lower sampling.max_new_tokens"
        )
    if config.use_margin:
        columns["margin"] = pa.array(_numbers(preferences, "margin").astype(np.float32))
    weights = _weights(preferences, config, fits)
    if weights is not None:
        columns["weight"] = pa.array(weights.astype(np.float32))
    table = pa.table(columns)
    kept = table if fits.all() else _filtered(table, fits, folder)
    digest = _digest(kept)
    # With a fingerprint given, nothing is read to make one.
    return Pairs(Dataset(InMemoryTable(kept), fingerprint=digest), int((~fits).sum()), digest)


def token_columns(table: pa.Table) -> tuple[str, ...]:
    """The columns of token ids that pairs have."""
    return (*TOKEN_COLUMNS, *({REJECTED_PROMPT} & set(table.column_names)))


def sequences(pair: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Prompt and trace in one of both sides."""
    rejected_prompt = pair.get(REJECTED_PROMPT, pair["prompt_ids"])
    return [*pair["prompt_ids"], *pair["chosen_ids"]], [*rejected_prompt, *pair["rejected_ids"]]


def _weights(preferences: pa.Table, config: TrainingConfig, fits: np.ndarray) -> np.ndarray | None:
    """The given weight of each pair times that of its confidence gap, of mean one over those that ``fits`` keeps.

    None where all pairs weigh the same.
    """
    weights = np.ones(preferences.num_rows)
    if "weight" in preferences.column_names:
        weights *= _not_below_zero(_numbers(preferences, "weight"), "weight")
    if config.use_weight:
        chosen, rejected = (_numbers(preferences, name) for name in CONFIDENCE_COLUMNS)
        gaps = _not_below_zero(chosen - rejected, "gap in confidence")
        weights[fits] *= gap_weights(torch.from_numpy(gaps[fits])).numpy()
    return None if not config.use_weight and (weights == 1).all() else weights


def _numbers(preferences: pa.Table, name: str) -> np.ndarray:
    """A column as float64, all of it finite."""
    numbers = preferences.column(name).to_numpy().astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise InputError(f"preference pair {wrong[0]} has a {name!r} of {numbers[wrong[0]]}: rank the traces again")
    return numbers


def _not_below_zero(numbers: np.ndarray, name: str) -> np.ndarray:
    below = np.flatnonzero(numbers < 0)
    if len(below):
        raise InputError(
            f"preference pair {below[0]} has a {name} of {numbers[below[0]]:g}, and a weight below 0 would teach its"
            " rejected trace: rank the traces again"
        )
    return numbers


def _require_columns(preferences: pa.Table, config: TrainingConfig, section: str) -> None:
    needed = {
        **dict.fromkeys((*TOKEN_COLUMNS, *token_columns(preferences)), "training"),
        **(dict.fromkeys(("margin",), f"{section}.use_margin") if config.use_margin else {}),
        **(dict.fromkeys(CONFIDENCE_COLUMNS, "training.use_weight") if config.use_weight else {}),
    }
    for name, reader in needed.items():
        if name not in preferences.column_names:
            raise InputError(
                f"the preferences have no column {name!r}{near_names(name, preferences.column_names)}, which {reader}"
                " needs: rank the traces again"
            )
        if preferences.column(name).null_count:
            raise InputError(f"the preferences' column {name!r} has empty cells: rank the traces again")


def _filtered(table: pa.Table, fits: np.ndarray, folder: Path | None) -> pa.Table:
    if folder is None:
        return table.filter(pa.array(fits))
    starts = range(0, table.num_rows, ROWS)
    parts = (table.slice(start, ROWS).filter(pa.array(fits[start : start + ROWS])) for start in starts)
    return mapped_table(parts, table.schema, folder)


def lengths(table: pa.Table | Table, name: str) -> np.ndarray:
    """How many token ids each row of a column has."""
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in table.column(name).chunks]).astype(np.int64)


def _values(table: pa.Table, name: str) -> Iterator[np.ndarray]:
    """Token ids as they lie, part by part."""
    return (chunk.flatten().to_numpy() for chunk in table.column(name).chunks)


def _fits(table: pa.Table, max_length: int | None) -> np.ndarray:
    if max_length is None:
        return np.ones(table.num_rows, dtype=bool)
    prompts = "prompt_ids", REJECTED_PROMPT if REJECTED_PROMPT in table.column_names else "prompt_ids"
    sides = [
        lengths(table, prompt) + lengths(table, trace)
        for prompt, trace in zip(prompts, ("chosen_ids", "rejected_ids"), strict=True)
    ]
    return np.maximum(*sides) <= max_length


def _check_tokens(preferences: pa.Table, vocabulary_size: int) -> None:
    for name in token_columns(preferences):
        empty = np.flatnonzero(lengths(preferences, name) == 0)
        if len(empty):
            raise InputError(f"preference pair {empty[0]} has an empty {name!r}: rank the traces again")
        parts = (ids[(ids < 0) | (ids >= vocabulary_size)] for ids in _values(preferences, name))
        outside = next(filter(len, parts), None)
        if outside is not None:
            raise InputError(
                f"token id {outside[0]} in {name!r} is not one of the model's {vocabulary_size}: the traces come from"
                " another model; sample them from the one that is trained"
            )


def _digest(table: pa.Table) -> str:
    hasher = hashlib.sha256()
    for name in token_columns(table):
        hasher.update(lengths(table, name).tobytes())
        for ids in _values(table, name):
            hasher.update(ids.astype(np.int64).tobytes())
    return hasher.hexdigest()
