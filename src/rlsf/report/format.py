"""Numbers as people read them: fixed digits, true minus signs, an en dash inside intervals."""

from __future__ import annotations

import math

MISSING = "n/a"
#: Narrow no-break space: keeps a unit beside its number.
THIN = "\u202f"


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """``value`` with ``digits`` decimals, ``n/a`` where there is none; zero carries no sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "\u2212")


def interval(bounds: tuple[float, float] | None, digits: int, *, signed: bool = False) -> str:
    """``0.098–0.151``, or ``−0.055 to −0.010`` where signs would make a dash ambiguous; empty without bounds."""
    if bounds is None or not all(math.isfinite(bound) for bound in bounds):
        return ""
    joint = " to " if signed or min(bounds) < 0 else "\u2013"
    return joint.join(number(bound, digits, signed=signed) for bound in bounds)


def probability(p: float | None) -> str:
    """``0.031``, ``<0.001``; ``n/a`` where there is none."""
    return "<0.001" if p is not None and p < 0.001 else number(p, 3)


def count(value: int) -> str:
    """A whole number with thin spaces between thousands, from 10 000 on."""
    return f"{value:,}".replace(",", THIN) if abs(value) >= 10_000 else str(value)
