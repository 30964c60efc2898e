"""The page of a study of signals: which one to trust, how they compare, and where the answer's span says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from rlsf import __version__
from rlsf.evaluation.signal_advice import remarks
from rlsf.evaluation.signal_measures import MEASURES
from rlsf.evaluation.signal_schema import Estimate, SignalStudy, StudySettings
from rlsf.evaluation.studied_traces import KINDS
from rlsf.recipes.recipe import Recipe
from rlsf.report.figures import Drawing
from rlsf.report.format import MISSING, THIN, count, interval, number, probability
from rlsf.report.html import environment_rows
from rlsf.report.page import asset, page_environment
from rlsf.report.signal_plots import kind_histogram, measure_plot

#: The signal of the answer's span, and ours beside it.
_FEATURED = ("answer_disparity", "trace_confidence")
_COPYING = ("computed", "copied", "across_copying")
_ACROSS = ("within_question", "direct", "worked", "across_reasoning", *_COPYING)
_CHOOSING = ("surest_accuracy", "surest_ece")
#: Measures of the second table; the first has those of telling right from wrong.
_OF_CHOICE = (*_CHOOSING, "saturated", "saturated_wrong", "tied")
_SHARES = {"surest_accuracy", "saturated", "saturated_wrong", "tied"}
#: What answers a question in each of the accuracies of a study.
ANSWERED_BY = {"trace": "a trace at random", "greedy": "greedy", "majority": "the majority", "any": "any trace"}


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the page says besides the study itself."""

    model: str
    data: str
    tokens: int
    truncated: int
    recipe: Recipe
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as text, its interval, and whether the signal is the best there or not separated from it."""

    text: str
    bounds: str
    leads: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Titles of measures, and every signal's figures in them."""

    titles: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def by_auroc(study: SignalStudy) -> list[str]:
    """The signals, the best by AUROC first."""
    return sorted(study.signals, key=lambda name: -(study.signals[name].figures["auroc"].value or 0.0))


def cell(study: SignalStudy, signal: str, measure: str) -> Cell:
    """A figure of the table."""
    one, ranking = study.signals[signal].figures[measure], study.rankings.get(measure)
    text, bounds = figure_text(one, share=measure in _SHARES)
    return Cell(text, bounds, ranking is not None and one.value is not None and signal in ranking.alike)


def figure_text(one: Estimate, *, share: bool) -> tuple[str, str]:
    """Value and interval; shares in per cent."""
    scale, digits = (100, 1) if share else (1, 3)
    if one.value is None:
        return MISSING, ""
    bounds = None if one.interval is None else (scale * one.interval[0], scale * one.interval[1])
    return number(scale * one.value, digits) + (f"{THIN}%" if share else ""), interval(bounds, digits)


def answered_rightly(study: SignalStudy) -> list[tuple[str, str, str]]:
    """What may answer a question, how often it is right, and the interval; what the study has not is left out."""
    known = {name: one for name, one in study.accuracy.items() if one.value is not None}
    return [(ANSWERED_BY[name], *figure_text(one, share=True)) for name, one in known.items()]


def render_signal_page(study: SignalStudy, facts: StudyFacts) -> str:
    """The whole page as one HTML document, which loads nothing; equal inputs give equal bytes."""
    signals = by_auroc(study)
    lines = {name: one.value for name in ("greedy", "majority") if (one := study.accuracy[name]).value is not None}
    kinds = [kind for kind in KINDS if study.kinds[kind].traces]
    return (
        page_environment()
        .get_template("signals.html.j2")
        .render(
            study=study,
            facts=facts,
            version=__version__,
            style=Markup(asset("style.css") + asset("signals.css")),
            measures=MEASURES,
            remarks=remarks(study),
            auroc_figure=Markup(measure_plot(study, "auroc", "auroc", signals)) if _known(study, "auroc") else None,
            across_figures=[_drawing(study, measure, signals) for measure in _across(study)],
            choosing_figures=[
                _drawing(study, measure, signals, lines if measure == "surest_accuracy" else None)
                for measure in _CHOOSING
            ],
            telling=_table(study, signals, [measure for measure in MEASURES if measure not in _OF_CHOICE]),
            choosing=_table(study, signals, _OF_CHOICE),
            accuracy=answered_rightly(study),
            settings=StudySettings.model_fields,
            kinds=[(kind, _counts(study, kind)) for kind in kinds],
            kind_rows=[(name, [_kind_cells(study, name, kind) for kind in kinds]) for name in signals],
            histograms=[(name, _histograms(study, name, kinds)) for name in _FEATURED if name in study.signals],
            differences=_differences(study),
            recipe_yaml=yaml.safe_dump(facts.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            environment=environment_rows(facts.environment),
        )
    )


def _table(study: SignalStudy, signals: Sequence[str], measures: Sequence[str]) -> Table:
    rows = [(name, [cell(study, name, measure) for measure in measures]) for name in signals]
    return Table([MEASURES[measure].title for measure in measures], rows)


def _across(study: SignalStudy) -> list[str]:
    """Measures within and across kinds that have a figure; those of copying are left out where they are the others."""
    coincide = not (study.kinds["direct, copied"].traces or study.kinds["worked, computed"].traces)
    asked = [measure for measure in _ACROSS if not (coincide and measure in _COPYING)]
    return [key for key in asked if _known(study, key)]


def _known(study: SignalStudy, measure: str) -> bool:
    """Whether any signal has the figure."""
    return any(one.figures[measure].value is not None for one in study.signals.values())


def _drawing(
    study: SignalStudy, measure: str, signals: Sequence[str], lines: Mapping[str, float] | None = None
) -> Drawing:
    name = measure.replace("_", "-")
    svg = measure_plot(study, measure, name, signals, lines, whole_range=measure in (*_ACROSS, "surest_accuracy"))
    return Drawing(MEASURES[measure].title, Markup(svg))


def _counts(study: SignalStudy, kind: str) -> str:
    counts = study.kinds[kind]
    return f"{count(counts.traces)} traces, {number(100 * counts.right / counts.traces, 1)}{THIN}% right"


def _kind_cells(study: SignalStudy, signal: str, kind: str) -> tuple[str, str, str]:
    one = study.signals[signal].kinds[kind]
    shares = (None if share is None else 100 * share for share in (one.saturated_right, one.saturated_wrong))
    return number(one.auroc, 3), *(number(share, 1) for share in shares)  # pyright: ignore[reportReturnType]


def _histograms(study: SignalStudy, signal: str, kinds: Sequence[str]) -> list[Drawing]:
    return [
        Drawing(kind, Markup(kind_histogram(study, signal, kind, f"histogram-{signal}-{place}".replace("_", "-"))))
        for place, kind in enumerate(kinds)
        if study.kinds[kind].traces
    ]


def _differences(study: SignalStudy) -> list[tuple[str, str, list[tuple[str, str, str, str, bool]]]]:
    """Title, best signal, and every other one less it, by measure."""
    tables = []
    for key, ranking in study.rankings.items():
        rows = []
        for name, one in ranking.differences.items():
            bounds = interval(one.interval, 3, signed=True)
            rows.append((name, number(one.value, 3, signed=True), bounds, probability(one.p_holm), one.separated))
        tables.append((MEASURES[key].title, ranking.best, rows))
    return tables
