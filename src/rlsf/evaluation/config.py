"""What is measured before and after."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlsf.config import Section

Mode = Literal["greedy", "cot_decoding", "majority", "turns", "retry"]
#: Modes that choose among the K traces of a question.
OF_SEVERAL: frozenset[Mode] = frozenset({"cot_decoding", "majority"})
Coverage = Annotated[float, Field(gt=0, le=1)]


class EvaluationConfig(Section):
    """Decoding modes, calibration bins and intervals."""

    modes: tuple[Mode, ...] = ("greedy", "cot_decoding", "majority")
    """``greedy``: the first branch. ``cot_decoding``: the most confident of K. ``majority``: the most frequent of K.
    ``turns``: what the turns of a dialogue settle on, for recipes with ``introspection``. ``retry``: what a loop of
    accepting and trying again ends with, for recipes with ``acceptance``."""
    bins: int = Field(default=10, ge=1)
    """Bins of the expected calibration error."""
    coverages: tuple[Coverage, ...] = (0.5, 0.8, 0.9)
    """Shares of the questions, the surest first, on which accuracy at coverage is measured."""
    bootstrap: int = Field(default=2000, ge=100)
    """Resamples of the 95 % bootstrap intervals."""
    aggregate: bool = False
    """``cot_decoding``: choose the answer with the largest total confidence instead of the single best path."""
