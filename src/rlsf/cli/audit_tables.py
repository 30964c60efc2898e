"""What ``rlsf audit`` shows."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlsf.audit.features import FEATURES
from rlsf.audit.result import Audit, Separation, verdict
from rlsf.cli.width import wide_enough
from rlsf.evaluation.reward_accuracy import LENGTH_ORDERS
from rlsf.evaluation.schema import Interval

_REWARDS = {"features": "linear in features", "model": "reward model"}


def show_audit(found: Audit, console: Console) -> None:
    """Print the tables and the sentence."""
    counts = (
        f"{found.pairs} pairs of {found.prompts} prompts, {found.held_out_prompts} of these held out;"
        f" {found.identical} pairs of the same trace twice; objective {found.objective}"
    )
    console.print(counts, highlight=False, soft_wrap=True, markup=False)
    wide = wide_enough(console, 140)
    if found.separation:
        wide.print(_separation(found))
    wide.print(_features(found))
    if found.correctness:
        wide.print(_correctness(found))
    console.print(Text(verdict(found), style="bold"), soft_wrap=True)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, no_wrap=True, min_width=max(map(len, FEATURES)))
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _separation(found: Audit) -> Table:
    table = _table(
        "After told from before, held-out prompts",
        "Reward",
        "Pairs, %",
        "Spread",
        "AUROC",
        *(f"After {order}, %" for order in LENGTH_ORDERS),
    )
    for kind, one in found.separation.items():
        table.add_row(_REWARDS[kind], *_separation_cells(one))
    return table


def _separation_cells(one: Separation) -> list[str]:
    spread = one.spread
    ends = f"{100 * spread.lowest:.1f} to {100 * spread.highest:.1f}" if len(spread.values) > 1 else ""
    by_length = [one.pairs.by_length.get(order) for order in LENGTH_ORDERS]
    return [
        f"{100 * one.pairs.accuracy:.1f}{_bounds(one.pairs.interval, '.1f', 100)}",
        ends,
        _number(one.auroc, ".3f"),
        *("" if share is None else f"{100 * share.accuracy:.1f} ({share.pairs})" for share in by_length),
    ]


def _features(found: Audit) -> Table:
    """What each feature was, what it tells alone, and its weight in the linear reward."""
    model = found.separation.get("model")
    columns = ("Before", "After", "Alone, %", "Weight", "Over splits", *(["tau, model"] if model else []))
    table = _table("What went up and down", "Feature", *columns)
    for name in FEATURES:
        difference = found.differences[name]
        coefficient = None if found.linear is None else found.linear.coefficients.get(name)
        weight = "" if coefficient is None else f"{coefficient.value:+.2f}{_bounds(coefficient.interval, '+.2f')}"
        ends = found.coefficient_ranges.get(name)
        table.add_row(
            name,
            f"{difference.before:.3g}",
            f"{difference.after:.3g}",
            f"{100 * difference.accuracy:.1f}",
            weight,
            "" if ends is None else f"{ends[0]:+.2f} to {ends[1]:+.2f}",
            *([_number(model.kendall[name], "+.2f")] if model else []),
        )
    return table


def _correctness(found: Audit) -> Table:
    columns = ("Before", "Within questions", "After", "Within questions")
    table = _table("AUROC, right traces before wrong ones", "Score", *columns)
    for name, scopes in found.correctness.items():
        cells = [
            _number(value, ".3f")
            for side in ("before", "after")
            for value in (scopes[side].auroc, scopes[side].auroc_within)
        ]
        table.add_row(_REWARDS.get(name, name), *cells)
    return table


def _bounds(interval: Interval, form: str, scale: float = 1.0) -> str:
    return "" if interval is None else f" ({scale * interval[0]:{form}} to {scale * interval[1]:{form}})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
