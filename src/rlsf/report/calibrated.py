"""Calibrated confidences in the table and on the page: a small addition beside the raw figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlsf.report.comparison import MODE_NAMES
from rlsf.report.format import MISSING, THIN, number

UNCALIBRATED = (
    "Confidences are the signal's own, not calibrated: `rlsf calibrate` turns them into probabilities of being right."
)
NOT_HELD_OUT = "some or all of those it was made from (ECE, Brier cross-validated)"


@dataclass(frozen=True, slots=True)
class CalibratedRow:
    """One decoding mode of one phase, raw and calibrated, as texts."""

    name: str
    method: str
    raw_ece: str
    ece: str
    raw_brier: str
    brier: str
    promise: str
    answered: str
    error: str
    questions: str

    @property
    def line(self) -> str:
        """The row as a sentence."""
        lead = f"Calibrated ({self.method}), {self.name}: ECE {self.ece} (raw {self.raw_ece}), Brier {self.brier}"
        given = f"answers {self.answered}" + ("" if self.error == MISSING else f", {self.error} of these wrong")
        return f"{lead} ({self.raw_brier}); at {self.promise} error: {given}; questions: {self.questions}"


def calibrated_rows(summary: Mapping[str, Any]) -> list[CalibratedRow]:
    """Every mode and phase of ``evaluation/summary.json`` with calibrated confidences; empty where there are none."""
    both = bool(summary.get("after"))
    return [
        _row(f"{MODE_NAMES.get(mode, mode)}{f', {phase}' if both else ''}", figures, figures["calibrated"])
        for phase in ("before", "after")
        for mode, figures in (summary.get(phase) or {}).items()
        if figures.get("calibrated")
    ]


def _row(name: str, raw: Mapping[str, Any], found: Mapping[str, Any]) -> CalibratedRow:
    return CalibratedRow(
        name=name,
        method=found["method"],
        raw_ece=number(raw["ece"], 3),
        ece=number(found["ece"], 3),
        raw_brier=number(raw["brier"], 3),
        brier=number(found["brier"], 3),
        promise=f"≤{THIN}{100 * found['alpha']:g}{THIN}%",
        answered=_share(found["answered"]),
        error=_share(found["error"]),
        questions="others" if found["held_out"] else NOT_HELD_OUT,
    )


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{number(100 * value, 1)}{THIN}%"


def uncalibrated(summary: Mapping[str, Any]) -> str | None:
    """That confidences are raw, where something was measured and nothing of it is calibrated."""
    return UNCALIBRATED.replace("`", "") if summary and not calibrated_rows(summary) else None


def calibration_note(summary: Mapping[str, Any]) -> str:
    """What stands under the table of a run: calibrated figures line by line, or that there are none."""
    return "\n".join(row.line for row in calibrated_rows(summary)) or UNCALIBRATED
