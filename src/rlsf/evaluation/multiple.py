"""Several comparisons at once: p values that keep their meaning however many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlsf.errors import InputError


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p values, in [0, 1], in the order given; None stays None and is not counted.

    With p_(1) <= ... <= p_(m), the adjusted p_(i) is the largest of min(1, (m - j + 1) p_(j)) over j <= i. To call
    those below alpha different errs in any of the m comparisons with probability at most alpha, whatever their
    dependence (Holm 1979, Scandinavian Journal of Statistics 6). Raises ``InputError`` for a p value outside [0, 1].
    """
    known = [place for place, p in enumerate(p_values) if p is not None]
    values = np.array([p_values[place] for place in known], dtype=np.float64)
    outside = values[~((values >= 0) & (values <= 1))]
    if len(outside):
        raise InputError(f"p value {outside[0]} is not in [0, 1]: give probabilities")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, values[order] * np.arange(len(values), 0, -1)))
    adjusted: list[float | None] = [None] * len(p_values)
    for place, p in zip(order, stepped, strict=True):
        adjusted[known[place]] = float(p)
    return adjusted
