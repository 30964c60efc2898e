"""Field paths: ``question.stem``, ``choices.text``, ``lSolutions[0]``.

A path is a name followed by ``.name`` and ``[index]`` steps. A name step into a list is taken in each of its
elements, so ``choices.text`` works on ``{"text": [...]}`` and on ``[{"text": ...}, ...]`` alike. A column whose name
is the whole path wins, so that columns with dots in their names stay reachable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlsf.errors import InputError, near_names

Step = str | int

_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[\d+\])*")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Row:
    """One record and its place, ``file:line`` or ``file: row N``, for messages."""

    place: str
    record: Mapping[str, Any]


#: Goes through the records of a source from the first one on, each time it is called.
Rows = Callable[[], Iterator[Row]]


class _Absent(Exception):
    """A step that leads nowhere, and the names that would have led somewhere."""

    def __init__(self, step: Step, names: Sequence[str]) -> None:
        super().__init__(step)
        self.step = step
        self.names = names


@lru_cache(maxsize=256)
def parse_path(path: str) -> tuple[Step, ...]:
    """``"a.b[0]"`` as ``("a", "b", 0)``; raises ``InputError`` for anything else than names, dots and ``[i]``."""
    if not _PATH.fullmatch(path):
        raise InputError(f"cannot read the field {path!r}: write name, name.name or name[0]")
    return tuple(name or int(index) for name, index in _STEP.findall(path))


def get_field(row: Row, path: str) -> Any:
    """The value at ``path``; raises ``InputError`` with the place, the near names and those available."""
    try:
        return _follow(row.record, path)
    except _Absent as absent:
        near = near_names(absent.step, absent.names) if isinstance(absent.step, str) else ""
        inside = "" if absent.step == path else f": no {absent.step!r} in it"
        available = f"available: {', '.join(absent.names)}" if absent.names else "nothing to enter there"
        raise InputError(f"{row.place}: no column {path!r}{inside}{near}; {available}") from None


def has_field(record: Mapping[str, Any], path: str) -> bool:
    """Whether ``path`` leads to a value, null included; a whole column is known by name and not read."""
    if path in record:
        return True
    try:
        _follow(record, path)
    except _Absent:
        return False
    return True


def _follow(record: Mapping[str, Any], path: str) -> Any:
    if path in record:
        return record[path]
    value: Any = record
    for step in parse_path(path):
        value = _enter(value, step)
    return value


def _enter(value: Any, step: Step) -> Any:
    match value:
        case Mapping():
            if step not in value:
                raise _Absent(step, [str(name) for name in value])
            return value[step]
        case list():
            if isinstance(step, str):
                return [_enter(element, step) for element in value]
            if step >= len(value):
                raise _Absent(step, [f"[{index}]" for index in range(len(value))])
            return value[step]
        case _:
            raise _Absent(step, [])
