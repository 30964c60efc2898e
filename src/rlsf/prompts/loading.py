"""Questions from wherever they are kept: all of them at once, or one after the other as often as is wanted."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from rlsf.errors import InputError
from rlsf.files import ListDigest, digest
from rlsf.prompts.config import PromptConfig
from rlsf.prompts.fields import Rows, has_field
from rlsf.prompts.mapping import PromptReader, find_shape
from rlsf.prompts.presets import find_preset
from rlsf.prompts.prompt import Prompt
from rlsf.prompts.source import open_rows, with_defaults


class Prompts(Sequence[Prompt]):
    """The questions of a source in its order, read from it anew each time they are gone through; none are held.

    They are checked once, when this is made: that every record is a question and that ids are unique. What is kept are
    their number and ``digest``. Raises ``InputError`` with file and line, and where a file changes afterwards.
    """

    def __init__(self, config: PromptConfig, rows: Rows, reader: PromptReader) -> None:
        self._config, self._rows, self._reader = config, rows, reader
        self._state = _state(config)
        self._length, self.digest = self._checked()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Prompt]:
        self._require_unchanged()
        for prompt, _ in self._placed():
            yield prompt
        self._require_unchanged()

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prompt]: ...
    def __getitem__(self, index: int | slice) -> Prompt | list[Prompt]:
        wanted = range(self._length)[index]  # raises IndexError, and resolves what counts from the end
        if isinstance(wanted, int):
            return next(itertools.islice(self, wanted, None))
        if wanted.step < 0:
            return list(self)[index]
        return list(itertools.islice(self, wanted.start, wanted.stop, wanted.step))

    def _placed(self) -> Iterator[tuple[Prompt, str]]:
        """Each prompt and where it is."""
        for number, row in enumerate(itertools.islice(self._rows(), self._config.limit), start=1):
            yield self._reader.read(row, number), row.place

    def _checked(self) -> tuple[int, str]:
        """The number of prompts and their digest, from a first pass over them.

        Ids are told apart by eight bytes each; where two have the same, they are compared themselves.
        """
        asked, keys, length = ListDigest(), array("Q"), 0
        for prompt, _ in self._placed():
            asked.add(_asked(prompt))
            if self._reader.shape.id is not None:  # else they are counted
                keys.append(_key(prompt.id))
            length += 1
        in_order = np.sort(np.frombuffer(keys, dtype=np.uint64)) if keys else np.zeros(0, dtype=np.uint64)
        self._require_different_ids(set(in_order[1:][in_order[1:] == in_order[:-1]].tolist()))
        return length, asked.hexdigest()

    def _require_different_ids(self, keys: set[int]) -> None:
        """Raise ``InputError`` for the first id that comes twice, if one of those with these keys does."""
        places: dict[str, str] = {}
        for prompt, place in self._placed() if keys else ():
            if prompt.id in places:
                raise InputError(f"{place}: id {prompt.id!r} is taken by {places[prompt.id]}: ids must be unique")
            if _key(prompt.id) in keys:
                places[prompt.id] = place

    def _require_unchanged(self) -> None:
        if _state(self._config) != self._state:
            raise InputError(f"{self._config.path} has changed since it was first read: undo that, or start again")


def open_prompts(config: PromptConfig, *, with_gold: bool, learned_from: bool | None = None) -> Prompts:
    """The questions that ``config`` describes, in file order, ids unique.

    With ``with_gold=False`` the column of the gold answers is not read: it may be missing or malformed. With
    ``with_gold=True`` every question must have one; for a question with choices it becomes the option's letter.
    ``learned_from`` tells questions to learn from, the section ``prompts``, from those to measure on; by default the
    latter are those with gold answers. Ids come from the id column, else they count the questions from 1. Raises
    ``InputError`` with file and line.
    """
    learned_from = not with_gold if learned_from is None else learned_from
    config = with_defaults(config, evaluation=not learned_from)
    preset = find_preset(config.preset) if config.preset else None
    rows = open_rows(config)
    first = next(rows(), None)
    if first is None:
        raise InputError(f"{config.path}: no questions in it")
    section = "prompts" if learned_from else "evaluation_data"
    reader = PromptReader(find_shape(config.columns, preset, first, section), preset, with_gold, section)
    return Prompts(config, rows, reader)


def load_prompts(config: PromptConfig, *, with_gold: bool, learned_from: bool | None = None) -> list[Prompt]:
    """The questions of ``open_prompts``, held."""
    return list(open_prompts(config, with_gold=with_gold, learned_from=learned_from))


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """Identifies what the model is asked; gold answers do not enter."""
    if isinstance(prompts, Prompts):
        return prompts.digest
    turns = {prompt.id: prompt.turns for prompt in prompts if prompt.turns}
    asked = [_asked(prompt) for prompt in prompts]
    return digest([asked, turns] if turns else asked)


def has_gold(config: PromptConfig, section: str = "prompts") -> bool:
    """Whether the first record has the field of the gold answers; the values of a column are not read.

    ``section`` is where the recipe keeps ``config``, for messages.
    """
    config = with_defaults(config, evaluation=True)
    first = next(open_rows(config)(), None)
    if first is None:
        return False
    preset = find_preset(config.preset) if config.preset else None
    answer = find_shape(config.columns, preset, first, section).answer
    return answer is not None and has_field(first.record, answer)


def _asked(prompt: Prompt) -> list[str | list[str]]:
    return [prompt.id, prompt.question, list(prompt.choices)]


def _key(prompt_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(prompt_id.encode(), digest_size=8).digest())


def _state(config: PromptConfig) -> tuple[int, int] | None:
    """Size and time of a file, which tell whether it has changed; None for what is no file."""
    path = Path(config.path or "").expanduser()
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
