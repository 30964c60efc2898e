"""The loop of accepting and trying again, as the report tells it: what it is worth beside other uses of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlsf.report.figures import Drawing
from rlsf.report.format import interval, number
from rlsf.report.inputs import ReportInputs
from rlsf.report.plots import series_plot

_SCORERS = {"model": "acceptance model", "confidence": "confidence alone"}
_OTHERS = {
    "first": "one attempt",
    "majority": "majority of as many attempts",
    "best": "best of as many by the same score",
    "oracle": "any of as many right (diagnosis)",
}


@dataclass(frozen=True, slots=True)
class RetryView:
    """``columns`` name what scores the attempts; each row has a name and one text for each of them."""

    questions: int
    rounds: int
    dialogue: bool
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    drawings: tuple[Drawing, ...]


def retry_view(inputs: ReportInputs) -> RetryView | None:
    """What is shown of the loops, None where there are none."""
    retry = inputs.retry
    if retry is None:
        return None
    loops: Mapping[str, Mapping[str, Any]] = retry["loops"]
    rows = [_rows(figures) for figures in loops.values()]
    return RetryView(
        questions=retry["questions"],
        rounds=retry["rounds"],
        dialogue=retry["retry"] == "dialogue",
        columns=tuple(_SCORERS.get(name, name) for name in loops),
        rows=tuple((name, tuple(column[name] for column in rows)) for name in rows[0]),
        drawings=tuple(_loss(inputs)),
    )


def _rows(figures: Mapping[str, Any]) -> dict[str, str]:
    """The texts of one column by the names of the rows."""
    return {
        "right, % of questions": f"{_share(figures['accuracy'])} ({_bounds(figures['interval'])})",
        "attempts a question": number(figures["mean_rounds"], 2),
        **_costs(figures, "loop", "a question"),
        "answered, %": _share(figures["answered"]),
        "least score accepted": number(figures["threshold"], 3),
        "p, attempts right at first, %": _share(figures["p"]),
        "a, right ones accepted, %": _share(figures["a"]),
        "b, wrong ones accepted, %": _share(figures["b"]),
        "right by the closed form, %": _share(figures["predicted"]),
        "right with endless rounds, by the same form, %": _share(figures["precision"]),
        "attempts to compare with": str(figures["calls"]),
        **_costs(figures, "same_calls", "by these attempts"),
        **{f"{name}, %": _share(figures["same_calls"][key]) for key, name in _OTHERS.items()},
        **{
            f"loop less {_OTHERS[key]}, points": (
                f"{number(100 * change['value'], 1, signed=True)} ({_bounds(change['interval'], signed=True)})"
            )
            for key, change in figures["differences"].items()
        },
    }


def _costs(figures: Mapping[str, Any], whose: str, name: str) -> dict[str, str]:
    if "cost" not in figures:  # of an evaluation that did not count it yet
        return {}
    cost = figures["cost"][whose]
    return {
        f"tokens written {name}": number(cost["written"], 1),
        f"tokens of prompts read {name}": number(cost["read"], 1),
        f"tokens judged {name}": number(cost["judged"], 1),
    }


def _share(value: float | None) -> str:
    return number(None if value is None else 100 * value, 1)


def _bounds(bounds: tuple[float, float] | None, *, signed: bool = False) -> str:
    return interval(None if bounds is None else (100 * bounds[0], 100 * bounds[1]), 1, signed=signed)


def _loss(inputs: ReportInputs) -> list[Drawing]:
    events = [event for event in inputs.events if event.get("event") == "acceptance"]
    points = sorted((event["step"], event["loss"]) for event in events)
    if len(points) < 2:
        return []
    title = "Loss of the acceptance model, over optimiser steps"
    return [Drawing("Loss", Markup(series_plot({"loss": points}, "acceptance-loss", title, unit="nats", share=False)))]
