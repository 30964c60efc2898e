"""Figures of several runs as a table shows them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


class Cells:
    """Figures of runs with different seeds: means, with ``ranges`` and the ends."""

    def __init__(self, runs: Sequence[Mapping[str, Any]], *, ranges: bool) -> None:
        self._runs = runs
        self._ranges = ranges

    def __call__(self, form: str, *path: str | int, scale: float = 1.0) -> str:
        """The figure at ``path`` of every run; empty where none has it."""
        values = [self._at(run, path) for run in self._runs]
        known = [scale * value for value in values if value is not None]
        if not known:
            return ""
        ends = (
            f" ({min(known):{form}} to {max(known):{form}})"
            if self._ranges and f"{min(known):{form}}" != f"{max(known):{form}}"
            else ""
        )
        return format(statistics.fmean(known), form) + ends

    @staticmethod
    def _at(run: Any, path: Sequence[str | int]) -> float | None:
        for key in path:
            run = run.get(key) if isinstance(run, Mapping) else run[key]
            if run is None:
                return None
        return run
