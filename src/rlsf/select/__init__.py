"""One answer out of N traces of a question, and the accuracy that this reaches over N. Pure functions: no model."""

from rlsf.select.ballot import Ballot
from rlsf.select.curves import GradedTraces, accuracy_curves, curve_sizes, pass_at
from rlsf.select.schema import Curves, Estimate
from rlsf.select.selectors import DEFAULT_SELECTORS, Selector, choose, default_exponent, parse_selector

__all__ = [
    "DEFAULT_SELECTORS",
    "Ballot",
    "Curves",
    "Estimate",
    "GradedTraces",
    "Selector",
    "accuracy_curves",
    "choose",
    "curve_sizes",
    "default_exponent",
    "parse_selector",
    "pass_at",
]
