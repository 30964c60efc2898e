"""The distinct traces among preference pairs, in which every trace of a prompt occurs in many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from rlsf.training.pairs import REJECTED_PROMPT

PromptAndTrace = tuple[list[int], list[int]]
#: Pairs that are Python lists at a time.
_PAIRS = 1000


class Traces(Sequence[PromptAndTrace]):
    """Prompt ids and trace ids where they lie in a data set; nothing is read before it is asked for."""

    def __init__(self, dataset: Dataset, places: np.ndarray, lengths: np.ndarray) -> None:
        self._dataset, self._places = dataset, places
        #: Tokens of prompt and trace.
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> PromptAndTrace:  # pyright: ignore[reportIncompatibleMethodOverride]
        row, side = self._places[index].tolist()
        pair = self._dataset[row]
        if side == 0:
            return pair["prompt_ids"], pair["chosen_ids"]
        return pair.get(REJECTED_PROMPT, pair["prompt_ids"]), pair["rejected_ids"]


def distinct_traces(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, Traces]:
    """Of the pairs in ``rows``: the number of the chosen and of the rejected trace, shape (2, rows), and the traces.

    Traces of one prompt have numbers in a row, by their length; else the order is that in which they occur. They are
    compared by digests, so that memory does not grow with their tokens.
    """
    numbers: dict[bytes, int] = {}
    prompt_numbers: dict[bytes, int] = {}
    places, lengths, prompt_of = [], [], []
    sides = np.empty((2, len(rows)), np.int64)
    prompts = "prompt_ids", REJECTED_PROMPT if REJECTED_PROMPT in dataset.column_names else "prompt_ids"
    for start in range(0, len(rows), _PAIRS):
        part = rows[start : start + _PAIRS]
        pairs = dataset[part]
        for side, trace in enumerate(("chosen_ids", "rejected_ids")):
            for index, ids in enumerate(zip(pairs[prompts[side]], pairs[trace], strict=True)):
                number = numbers.setdefault(_digest(*ids), len(numbers))
                if number == len(places):
                    places.append((part[index], side))
                    lengths.append(len(ids[0]) + len(ids[1]))
                    prompt_of.append(prompt_numbers.setdefault(_digest(ids[0], []), len(prompt_numbers)))
                sides[side, start + index] = number
    order = np.lexsort((lengths, prompt_of))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[sides], Traces(dataset, np.array(places)[order], np.array(lengths)[order])


def _digest(prompt: list[int], trace: list[int]) -> bytes:
    tokens = np.array([len(prompt), *prompt, *trace], np.int64)
    return hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
