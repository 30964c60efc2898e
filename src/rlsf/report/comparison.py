"""Before and after, side by side: what the headline table, the terminal table and the model card all print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlsf.report.format import MISSING, THIN, interval, number

MODE_NAMES = {
    "greedy": "Greedy",
    "cot_decoding": "CoT-decoding",
    "majority": "Majority",
    "turns": "Turns",
    "retry": "Retry",
}
Judgement = Literal["better", "worse", "unclear", "neutral"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the headline table. ``direction`` is +1 where more is better, -1 where less is, 0 for neither."""

    key: str
    name: str
    direction: Literal[-1, 0, 1]
    digits: int
    scale: float = 1.0
    unit: str = ""

    @property
    def decimals(self) -> int:
        """Decimals of the unscaled quantity that are printed."""
        return self.digits + round(math.log10(self.scale))

    def value(self, value: float | None) -> str:
        """``55.2 %``: the value in the metric's unit."""
        text = number(None if value is None else value * self.scale, self.digits)
        return text if text == MISSING or not self.unit else f"{text}{THIN}{self.unit}"

    def bounds(self, bounds: tuple[float, float] | None, *, signed: bool = False) -> str:
        """``50.8–59.4``: an interval without its unit."""
        scaled = None if bounds is None else (bounds[0] * self.scale, bounds[1] * self.scale)
        return interval(scaled, self.digits, signed=signed)

    def change(self, value: float | None) -> str:
        """``+32.2``: a difference, without its unit (percentages differ by points)."""
        return number(None if value is None else value * self.scale, self.digits, signed=True)


ACCURACY = Metric("accuracy", "Accuracy", 1, 1, 100.0, "%")
ECE = Metric("ece", "ECE", -1, 3)
BRIER = Metric("brier", "Brier", -1, 3)
AUROC = Metric("auroc", "AUROC", 1, 3)
TOKENS = Metric("mean_tokens", "Mean tokens", 0, 1)
HEADLINE = (ACCURACY, ECE, BRIER, AUROC, TOKENS)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval, either of which may be missing."""

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric in one decoding mode: before, after, and the paired difference (after - before)."""

    metric: Metric
    before: Estimate
    after: Estimate | None = None
    difference: Estimate | None = None

    @property
    def judgement(self) -> Judgement:
        """What the paired 95 % interval says: it excludes zero (better or worse) or it does not (unclear).

        So is a difference too small to be printed, such as rounding leaves between equal confidences.
        """
        if self.metric.direction == 0:
            return "neutral"
        if self.difference is None or self.difference.interval is None:
            return "unclear"
        low, high = (bound * self.metric.direction for bound in self.difference.interval)
        low, high = min(low, high), max(low, high)
        if low <= 0 <= high or round(self.difference.value or 0.0, self.metric.decimals) == 0:
            return "unclear"
        return "better" if low > 0 else "worse"


@dataclass(frozen=True, slots=True)
class ModeComparison:
    """One decoding mode, all headline metrics."""

    mode: str
    name: str
    n: int
    cells: tuple[Cell, ...]

    @property
    def has_after(self) -> bool:
        """Whether the trained policy was measured in this mode."""
        return self.cells[0].after is not None

    def cell(self, metric: Metric) -> Cell:
        """The cell of one metric."""
        return next(cell for cell in self.cells if cell.metric is metric)


def compare(summary: Mapping[str, Any], metrics: Sequence[Metric] = HEADLINE) -> list[ModeComparison]:
    """Every mode of ``evaluation/summary.json``, in the order greedy, CoT-decoding, majority, then any other."""
    before: Mapping[str, Any] = summary.get("before") or {}
    after: Mapping[str, Any] = summary.get("after") or {}
    difference: Mapping[str, Any] = summary.get("difference") or {}
    modes = [mode for mode in MODE_NAMES if mode in before] + [mode for mode in before if mode not in MODE_NAMES]
    return [
        ModeComparison(
            mode=mode,
            name=MODE_NAMES.get(mode, mode),
            n=int(before[mode]["n"]),
            cells=tuple(_cell(metric, before[mode], after.get(mode), difference.get(mode)) for metric in metrics),
        )
        for mode in modes
    ]


def _cell(metric: Metric, before: Any, after: Any, difference: Any) -> Cell:
    change = (difference or {}).get(metric.key)
    if change is not None and change.get("value") is not None:
        delta = Estimate(_finite(change["value"]), _pair(change.get("interval")))
    else:
        delta = None
    return Cell(metric, _estimate(metric, before), _estimate(metric, after) if after else None, delta)


def _estimate(metric: Metric, values: Mapping[str, Any]) -> Estimate:
    return Estimate(_finite(values.get(metric.key)), _pair((values.get("intervals") or {}).get(metric.key)))


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _pair(bounds: Any) -> tuple[float, float] | None:
    if bounds is None or any(_finite(bound) is None for bound in bounds):
        return None
    low, high = bounds
    return float(low), float(high)
