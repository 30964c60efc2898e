"""The reward model of a run, as the report tells it: what it learned from, and how it does on pairs it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlsf.report.figures import Drawing
from rlsf.report.format import interval, number
from rlsf.report.inputs import ReportInputs
from rlsf.report.plots import reliability_plot, series_plot

#: Key of a training event, its title, its unit, and whether it is a share.
_SERIES = (
    ("loss", "Loss", "nats", False),
    ("accuracy", "Chosen trace has the higher reward", "of pairs", True),
    ("margin", "Difference of rewards", "chosen less rejected", False),
)
_ORDERS = {
    "shorter": "where the chosen trace is shorter",
    "equal": "where both are as long",
    "longer": "where the chosen trace is longer",
}

#: Shares of what is measured of length bias, and what they are.
_LENGTH_SHARES = {
    "balanced": "mean of the accuracies where the chosen trace has fewer and more words",
    "length_accuracy": "of two traces, the one that keeps a length limit has the higher reward",
    "limit_accuracy": "a trace has the higher reward under the prompt that it obeys",
    "trained_accuracy": "the same where limits are broken by better and kept by worse traces alone",
}


@dataclass(frozen=True, slots=True)
class RewardModelView:
    """Figures as (name, value, 95 % interval), and drawings; ``pairs`` is 0 where none were held out to measure on."""

    pairs: int
    prompts: int
    optimised: bool
    """Whether a policy was optimised against its score."""
    figures: tuple[tuple[str, str, str], ...]
    drawings: tuple[Drawing, ...]


def reward_model_view(inputs: ReportInputs) -> RewardModelView | None:
    """What is shown of the reward model, None where the run has none."""
    events = [event for event in inputs.events if event.get("event") == "reward_model"]
    measured = inputs.reward_model
    if measured is None and not events:
        return None
    drawings = _training_drawings(events)
    if measured is None:
        return RewardModelView(0, 0, inputs.recipe.online is not None, (), tuple(drawings))
    diagram = reliability_plot(
        measured["reliability"], None, "reward-model-reliability", "reward model, held-out pairs"
    )
    return RewardModelView(
        pairs=measured["pairs"],
        prompts=measured["prompts"],
        optimised=inputs.recipe.online is not None,
        figures=tuple(_figures(measured)),
        drawings=(Drawing("Reliability", Markup(diagram), f"ECE {number(measured['ece'], 3)}"), *drawings),
    )


def _figures(measured: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    by_length = measured["by_length"]
    rows = [("accuracy, % of held-out pairs", *_share(measured))]
    rows += [
        (f"{words} ({by_length[key]['pairs']} pairs)", *_share(by_length[key]))
        for key, words in _ORDERS.items()
        if key in by_length
    ]
    rows += [
        (f"chosen longer by {_range(group['least'], group['most'])} tokens ({group['pairs']} pairs)", *_share(group))
        for group in measured.get("by_difference", ())
    ]
    rows += [
        ("expected calibration error", number(measured["ece"], 3), ""),
        ("Brier score", number(measured["brier"], 3), ""),
        ("chosen traces longer by, tokens", number(measured["chosen_longer"], 1, signed=True), ""),
        ("reward a token, traces of one prompt", number(measured["length_slope"], 4, signed=True), ""),
        ("correlation of reward and length there", number(measured["length_correlation"], 2, signed=True), ""),
    ]
    return rows + _length_bias(measured.get("length_bias"))


def _range(least: int, most: int) -> str:
    bounds = (number(bound, 0, signed=True) for bound in dict.fromkeys((least, most)))
    return " to ".join(bounds)


def _length_bias(measured: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """What length does to the rewards, where it was measured; lengths are in words."""
    if measured is None:
        return []
    rows = [
        (f"{words}, %", *_share(measured[key]))
        for key, words in _LENGTH_SHARES.items()
        if measured.get(key) is not None
    ]
    return [*rows, ("pairs whose chosen trace has more words, %", number(100 * measured["longer_chosen"], 1), "")]


def _share(share: Mapping[str, Any]) -> tuple[str, str]:
    bounds = share["interval"]
    scaled = None if bounds is None else (100 * bounds[0], 100 * bounds[1])
    return number(100 * share["accuracy"], 1), interval(scaled, 1)


def _training_drawings(events: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    drawings = []
    for key, title, unit, share in _SERIES:
        points = sorted((event["step"], event[key]) for event in events if event.get(key) is not None)
        if len(points) > 1:
            svg = series_plot(
                {key: points},
                f"reward-model-{key}",
                f"{title}, reward model, over optimiser steps",
                unit=unit,
                share=share,
            )
            drawings.append(Drawing(title, Markup(svg)))
    return drawings
