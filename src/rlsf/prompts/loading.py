"""Questions from wherever they are kept."""

from __future__ import annotations

import itertools

from rlsf.errors import InputError
from rlsf.prompts.config import PromptConfig
from rlsf.prompts.fields import has_field
from rlsf.prompts.mapping import PromptReader, find_shape
from rlsf.prompts.presets import find_preset
from rlsf.prompts.prompt import Prompt
from rlsf.prompts.source import open_rows, with_defaults


def load_prompts(config: PromptConfig, *, with_gold: bool, learned_from: bool | None = None) -> list[Prompt]:
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
    first = next(rows, None)
    if first is None:
        raise InputError(f"{config.path}: no questions in it")
    section = "prompts" if learned_from else "evaluation_data"
    reader = PromptReader(find_shape(config.columns, preset, first, section), preset, with_gold, section)
    prompts: list[Prompt] = []
    places: dict[str, str] = {}
    for number, row in enumerate(itertools.islice(itertools.chain([first], rows), config.limit), start=1):
        prompt = reader.read(row, number)
        if prompt.id in places:
            raise InputError(f"{row.place}: id {prompt.id!r} is taken by {places[prompt.id]}: ids must be unique")
        places[prompt.id] = row.place
        prompts.append(prompt)
    return prompts


def has_gold(config: PromptConfig) -> bool:
    """Whether the first record has the field of the gold answers; the values of a column are not read."""
    config = with_defaults(config, evaluation=True)
    first = next(open_rows(config), None)
    if first is None:
        return False
    answer = find_shape(config.columns, find_preset(config.preset) if config.preset else None, first).answer
    return answer is not None and has_field(first.record, answer)
