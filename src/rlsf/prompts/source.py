"""What a user means by a set of prompts: a preset, ``preset:file``, a file, a folder or a hub id."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rlsf.errors import InputError, near_names
from rlsf.prompts.config import PromptConfig
from rlsf.prompts.fields import Row, Rows
from rlsf.prompts.files import csv_rows, json_rows, question_rows
from rlsf.prompts.presets import PRESETS, find_preset
from rlsf.prompts.tables import folder_rows, hub_rows, parquet_rows

READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": lambda path: csv_rows(path, "\t"),
    ".parquet": parquet_rows,
    ".txt": question_rows,
}
#: Suffixes that say "file" although nothing here reads them; a hub id may hold a dot too (``owner/data-v1.5``).
_FILE_SUFFIXES = {*READERS, ".md", ".xlsx", ".xls", ".arrow", ".yaml", ".yml", ".gz", ".zip", ".zst", ".pkl"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PREFIX = re.compile(r"(\w{2,}):(.+)", re.DOTALL)


def prompt_source(text: str) -> PromptConfig:
    """The configuration for ``gsm8k``, ``gsm8k:test.jsonl``, ``questions.csv``, ``folder/`` or ``owner/name``.

    A preset's name wins over a file of that name (write ``./gsm8k`` for the file). Raises ``InputError`` for a file
    that does not exist and for an unknown preset, each with the near names.
    """
    text = text.strip()
    if text in PRESETS:
        return PromptConfig(preset=text)
    prefix = None if Path(text).exists() else _PREFIX.fullmatch(text)
    if prefix is None:
        _local_path(text)
        return PromptConfig(path=text)
    find_preset(prefix[1])
    _local_path(prefix[2])
    return PromptConfig(preset=prefix[1], path=prefix[2])


def with_defaults(config: PromptConfig, *, evaluation: bool) -> PromptConfig:
    """The same prompts with what the preset implies written out: hub id, subset and split.

    ``evaluation`` chooses the preset's test split instead of its training split. A preset over a file of the user's
    implies none of them. Raises ``InputError`` for an unknown preset.
    """
    if config.preset is None:
        return config
    preset = find_preset(config.preset)
    if config.path is not None and config.path != preset.hub_id:
        return config
    return config.model_copy(
        update={
            "path": preset.hub_id,
            "subset": config.subset or preset.subset,
            "split": config.split or (preset.test_split if evaluation else preset.training_split),
        }
    )


def open_rows(config: PromptConfig) -> Rows:
    """The records of ``config.path``, to be gone through as often as is wanted.

    Raises ``InputError`` where there are none to read; that of a file comes when it is gone through.
    """
    name = config.path or ""
    path = _local_path(name)
    if path is None:
        return hub_rows(name, config.subset, config.split)
    if path.is_dir():
        return folder_rows(path, config.subset, config.split)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}: use {', '.join(READERS)}")
    return partial(reader, path)


def _local_path(text: str) -> Path | None:
    """The file or folder, or None for what can only be a hub id."""
    if not text:
        raise InputError("no prompts: give --prompts a file, a dataset id (owner/name) or a preset")
    path = Path(text).expanduser()
    if path.exists():
        return path
    if _HUB_ID.fullmatch(text) and path.suffix.lower() not in _FILE_SUFFIXES and not text.startswith("."):
        return None
    if text in PRESETS:
        raise InputError(f"no such file: {text}; it is a preset: set prompts.preset instead of prompts.path")
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    near = near_names(path.name, siblings) or near_names(text, PRESETS)
    folder = "" if path.parent.is_dir() else f" (there is no folder {path.parent})"
    raise InputError(f"no such file: {text}{near}{folder}")
