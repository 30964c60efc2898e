"""What the page and the tables of a comparison say, computed once: rows by group, changes, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlsf.evaluation.comparison_schema import Comparison, Contrast, Kind, MethodSummary, PairContrast
from rlsf.report.comparison import ACCURACY, AUROC, BRIER, ECE, MODE_NAMES, TOKENS, Estimate, Metric

AURC = Metric("aurc", "AURC", -1, 3)
ENTROPY = Metric("entropy", "Entropy, nats", 0, 2)
#: Columns of the page's table, in this order; ``COMPARED`` are those of which all pairs are compared.
COLUMNS = (ACCURACY, ECE, BRIER, AUROC, AURC, TOKENS, ENTROPY)
COMPARED = (ACCURACY, ECE, BRIER)
#: The groups of a comparison in the order shown, each under its heading.
GROUPS: dict[Kind, str] = {
    "start": "Before any learning",
    "self-feedback": "Learning from the model's own feedback",
    "labelled": "Learning from gold answers",
    "bound": "Bounds",
}
SIGNIFICANT = 0.05

#: ``better`` and ``worse`` hold after the correction over all pairs; ``leaning`` ones without it only.
Finding = Literal["better", "worse", "leaning better", "leaning worse", "unclear"]
SYMBOLS: dict[Finding, str] = {
    "better": "▲",
    "leaning better": "△",
    "unclear": "·",
    "leaning worse": "▽",
    "worse": "▼",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A method less the model as given, in one metric."""

    metric: Metric
    contrast: Contrast

    @property
    def finding(self) -> Finding:
        """What the test says of it."""
        return finding(self.metric, self.contrast)

    @property
    def value(self) -> str:
        """``+10.3``."""
        return self.metric.change(self.contrast.value)

    @property
    def bounds(self) -> str:
        """``+6.7 to +13.9``."""
        return self.metric.bounds(self.contrast.interval, signed=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One method."""

    method: MethodSummary
    change: Change | None

    @property
    def runs(self) -> str:
        """``3``, or ``2 of 3`` where runs failed."""
        measured, asked = len(self.method.seeds), len(self.method.seeds) + len(self.method.failed)
        return str(measured) if measured == asked else f"{measured} of {asked}"

    @property
    def decoding(self) -> str:
        """The decoding mode it is measured in, where that is not greedy."""
        return "" if self.method.mode == "greedy" else MODE_NAMES.get(self.method.mode, self.method.mode)

    def estimate(self, metric: Metric) -> Estimate:
        """The mean over runs and its interval."""
        figure = self.method.figures.get(metric.key)
        return Estimate(None) if figure is None else Estimate(figure.value, figure.interval)


@dataclass(frozen=True, slots=True)
class Group:
    """The methods of one kind, the most accurate first, failed ones last."""

    kind: Kind
    title: str
    rows: tuple[Row, ...]


def groups(comparison: Comparison) -> list[Group]:
    """All methods in the groups that are not empty."""
    found = []
    for kind, title in GROUPS.items():
        own = [Row(one, _change(one, comparison)) for one in comparison.methods if one.kind == kind]
        if own:
            found.append(Group(kind, title, tuple(sorted(own, key=_by_accuracy))))
    return found


def rows(comparison: Comparison) -> list[Row]:
    """Every method in the order shown."""
    return [row for group in groups(comparison) for row in group.rows]


def start_of(comparison: Comparison) -> MethodSummary | None:
    """The model as given, where it was measured."""
    return next((one for one in comparison.methods if one.kind == "start" and one.figures), None)


def pair(comparison: Comparison, metric: Metric, first: str, second: str) -> PairContrast | None:
    """``second`` less ``first``, whichever way round the comparison holds it; None where it holds none."""
    for one in comparison.pairs.get(metric.key, ()):
        if (one.first, one.second) == (first, second):
            return one
        if (one.first, one.second) == (second, first):
            return turned(one)
    return None


def turned(one: PairContrast) -> PairContrast:
    """The same difference, the other way round."""
    interval = None if one.interval is None else (-one.interval[1], -one.interval[0])
    value = None if one.value is None else 0.0 - one.value
    return PairContrast(first=one.second, second=one.first, value=value, interval=interval, p=one.p, p_holm=one.p_holm)


def finding(metric: Metric, contrast: Contrast) -> Finding:
    """What a difference says: it holds after the correction over all pairs, without it only, or not at all."""
    if contrast.value is None or contrast.p is None or contrast.p >= SIGNIFICANT:
        return "unclear"
    better = contrast.value * metric.direction > 0
    corrected = contrast.p_holm if isinstance(contrast, PairContrast) else None
    if corrected is not None and corrected < SIGNIFICANT:
        return "better" if better else "worse"
    return "leaning better" if better else "leaning worse"


def failures(comparison: Comparison) -> list[tuple[str, int, str]]:
    """Method, seed and reason of every run that failed."""
    return [(one.recipe, run.seed, run.reason) for one in comparison.methods for run in one.failed]


def verdict(comparison: Comparison) -> list[str]:
    """What the comparison says in sentences, each computed from its figures."""
    shown = groups(comparison)
    sentences = [_best(group) for group in shown if group.kind in ("self-feedback", "labelled")]
    own = next((group.rows for group in shown if group.kind == "self-feedback"), ())
    for bound in (row.method for group in shown if group.kind == "bound" for row in group.rows):
        sentences.append(_against_bound(comparison, own, bound))
    return [sentence for sentence in sentences if sentence]


def _best(group: Group) -> str:
    measured = [row for row in group.rows if row.estimate(ACCURACY).value is not None]
    if not measured:
        return ""
    best, surest = measured[0], min(measured, key=lambda row: row.estimate(ECE).value or 0.0)
    where = "the model's own feedback" if group.kind == "self-feedback" else "gold answers"
    text = f"Most accurate of the methods that learn from {where}: {best.method.recipe}, {_level(best, ACCURACY)}"
    if best.change is not None:
        text += f", {best.change.value} points against the model as given ({best.change.bounds})"
    return f"{text}. Best calibrated: {surest.method.recipe}, ECE {_level(surest, ECE)}."


def _against_bound(comparison: Comparison, own: Sequence[Row], bound: MethodSummary) -> str:
    """How many of the methods without labels a bound is told apart from."""
    found = [pair(comparison, ACCURACY, bound.recipe, row.method.recipe) for row in own]
    known = [finding(ACCURACY, one) for one in found if one is not None]
    if not known:
        return ""
    above, below = known.count("better"), known.count("worse")
    unclear = len(known) - above - below
    return (
        f"Of {len(known)} methods that learn from the model's own feedback, {above} are more accurate than the bound"
        f" {bound.recipe}, {below} less accurate, and {unclear} cannot be told apart from it after correction."
    )


def _level(row: Row, metric: Metric) -> str:
    estimate = row.estimate(metric)
    bounds = metric.bounds(estimate.interval)
    return metric.value(estimate.value) + (f" ({bounds})" if bounds else "")


def _change(method: MethodSummary, comparison: Comparison) -> Change | None:
    """Against the model as given: among all pairs under the same decoding, else its own reference."""
    start = start_of(comparison)
    if method.kind == "start" or not method.figures:
        return None
    if start is not None and (start.mode == method.mode or method.against_reference is None):
        found = pair(comparison, ACCURACY, start.recipe, method.recipe)
        return None if found is None else Change(ACCURACY, found)
    against = (method.against_reference or {}).get(ACCURACY.key)
    return None if against is None else Change(ACCURACY, against)


def _by_accuracy(row: Row) -> tuple[float, str]:
    value = row.estimate(ACCURACY).value
    return (2.0 if value is None else -value, row.method.recipe)
