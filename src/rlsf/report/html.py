"""One self-contained page: no request leaves it, and everything but the switching of traces works without script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from rlsf import __version__
from rlsf.report.acceptance import retry_view
from rlsf.report.browser import panels
from rlsf.report.calibrated import calibrated_rows, uncalibrated
from rlsf.report.choice import outcome_counts
from rlsf.report.comparison import HEADLINE, MODE_NAMES, ModeComparison, compare
from rlsf.report.figures import curve_rows, headline_figures, training_figures
from rlsf.report.inputs import ReportInputs
from rlsf.report.limits import limits
from rlsf.report.method import bound, how, judged_by, labels
from rlsf.report.names import short_name
from rlsf.report.page import asset, page_environment
from rlsf.report.reward_model import reward_model_view
from rlsf.report.series import INTROSPECTION, PREFERENCES, SUPERVISED, Series, online_series
from rlsf.report.verdict import remarks, verdict


def render_report(inputs: ReportInputs) -> str:
    """The whole report as one HTML document; equal inputs give equal bytes.

    Every text of the run (questions, model output, names, options) is escaped. A content security policy allows
    the page's own style and its one script, by digest, and forbids everything else.
    """
    summary = inputs.summary or {}
    comparisons = compare(summary)
    script = asset("browser.js")
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            inputs=inputs,
            recipe=inputs.recipe,
            recipe_yaml=yaml.safe_dump(inputs.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            version=__version__,
            style=Markup(asset("style.css")),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            metrics=HEADLINE,
            comparisons=comparisons,
            first_mode=_first_mode(comparisons),
            verdict=verdict(comparisons),
            remarks=remarks(comparisons),
            headline_figures=headline_figures(comparisons) if comparisons else [],
            curve_rows=curve_rows(summary),
            calibrated_rows=calibrated_rows(summary),
            uncalibrated=uncalibrated(summary),
            reward_model=reward_model_view(inputs),
            retry=retry_view(inputs),
            training_figures=training_figures(inputs.events, inputs.checkpoints, _pictures(inputs)),
            how=how(inputs.recipe),
            judged_by=judged_by(inputs.recipe),
            labels=labels(inputs.recipe),
            bound=bound(inputs.recipe),
            model_name=short_name(inputs.recipe.model.path),
            durations=durations(inputs),
            outcomes=outcome_counts(inputs.outcomes),
            panels=panels(inputs.questions),
            environment=environment_rows(inputs.environment),
            definitions=definitions(summary),
            limits=limits(inputs.summary, inputs.learned_questions, supervised=inputs.recipe.needs_labels),
        )
    )


def definitions(summary: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The evaluation's own definitions: of what the page shows, and of what else ``summary.json`` holds."""
    names = {metric.key: metric.name for metric in HEADLINE} | {"aurc": "AURC"} | MODE_NAMES
    known: Mapping[str, str] = summary.get("definitions") or {}
    shown = [(name, known[key]) for key, name in names.items() if key in known]
    others = [(key.replace("_", " "), text) for key, text in known.items() if key not in names]
    return shown, others


def durations(inputs: ReportInputs) -> list[tuple[str, float]]:
    """Wall-clock seconds of every event that measured them, in the order of the run."""
    rows = []
    for event in inputs.events:
        if event.get("seconds") is not None and event.get("event") != "training":
            detail = [str(event[key]) for key in ("phase", "round") if event.get(key) is not None]
            rows.append((" ".join([str(event["event"]), *detail]), float(event["seconds"])))
    return rows


def environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment as names and texts, nested tables flattened to one line, empty entries left out."""
    rows = []
    for key, value in environment.items():
        if isinstance(value, Mapping):
            text = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list | tuple):
            text = ", ".join(map(str, value))
        else:
            text = "" if value is None else str(value)
        if text:
            rows.append((key.replace("_", " "), text))
    return rows


def _pictures(inputs: ReportInputs) -> Sequence[Series]:
    """What is drawn of the training."""
    if inputs.recipe.introspection is not None:
        return INTROSPECTION if len(inputs.recipe.introspection.samples) > 1 else SUPERVISED
    return PREFERENCES if inputs.recipe.online is None else online_series(inputs.events)


def _first_mode(comparisons: Sequence[ModeComparison]) -> str:
    """The mode that single questions are told by, inside a sentence."""
    if not comparisons or comparisons[0].mode == "greedy":
        return "greedy decoding"
    return comparisons[0].name
