"""Which signal to trust, in one sentence that claims no more than the intervals show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlsf.evaluation.signal_schema import Ranking, SignalFigures, SignalStudy

#: What the sentence is about, and what its figure is called.
MEASURE, CHANCE = "auroc", 0.5


def advice(signals: Mapping[str, SignalFigures], rankings: Mapping[str, Ranking]) -> str:
    """One sentence by AUROC over all answered traces; a winner is named only where every other signal is separated."""
    known = {name: one.figures[MEASURE] for name, one in signals.items() if one.figures[MEASURE].value is not None}
    if not known:
        return "All traces are right or all are wrong, so that no signal can be told to know the difference."
    ranking = rankings.get(MEASURE)
    alike = ranking.alike if ranking is not None else list(known)
    best = alike[0]
    figure = known[best]
    value = f"AUROC {figure.value:.3f}"
    if figure.interval is not None:
        value += f", {figure.interval[0]:.3f} to {figure.interval[1]:.3f}"
    if figure.interval is None or figure.interval[0] <= CHANCE:
        return f"Trust none of these signals: even {best} is not told apart from chance ({value})."
    if len(known) == 1:
        return f"{best} tells right traces from wrong ones better than chance ({value}); there is no other to compare."
    worse = len(known) - len(alike)
    if len(alike) == 1:
        return f"Trust {best} ({value}): every other signal tells right traces from wrong ones less well."
    if not worse:
        return f"These questions separate no signal from {best} ({value}): take any of them, or more questions."
    others = "one is" if worse == 1 else f"{worse} are"
    return (
        f"Trust {_listed(alike)}, which these questions do not separate from the first ({value}); the other {others}"
        f" worse than {best}."
    )


def _listed(names: Sequence[str], joint: str = "or") -> str:
    return f"{', '.join(names[:-1])} {joint} {names[-1]}" if len(names) > 1 else names[0]


def remarks(study: SignalStudy) -> list[str]:
    """What else the figures say: who leads where it matters, and where the answer's span is sure of everything."""
    found = [_leaders(study.rankings[key], where) for key, where in _PLACES.items() if key in study.rankings]
    return [*found, *_saturation(study)]


_PLACES = {
    "within_question": "Between right and wrong traces of one question",
    "direct": "Among direct traces",
    "worked": "Among worked traces",
    "surest_accuracy": "To choose one trace of a question",
    "surest_ece": "For the calibration of the trace chosen",
}
#: So many signals are named one by one.
_NAMED = 3
#: The signal whose span says little where an answer is copied.
_SPAN = "answer_disparity"


def _leaders(ranking: Ranking, where: str) -> str:
    worse = [name for name, one in ranking.differences.items() if one.separated]
    if not worse:
        return f"{where} {ranking.best} is best, separated from no other."
    if len(worse) == len(ranking.differences):
        return f"{where} {ranking.best} is best, separated from all others."
    named = _listed(worse, "and") if len(worse) <= _NAMED else f"{len(worse)} of the {len(ranking.differences)} others"
    return f"{where} {ranking.best} is best, separated from {named}."


def _saturation(study: SignalStudy) -> list[str]:
    """How often the answer's span is all but certain, by kind, for kinds with right and wrong traces."""
    if _SPAN not in study.signals:
        return []
    said = []
    for kind, one in study.signals[_SPAN].kinds.items():
        if one.saturated_right is not None and one.saturated_wrong is not None:
            right, wrong = (f"{100 * share:.1f} %" for share in (one.saturated_right, one.saturated_wrong))
            said.append(f"{right} of right and {wrong} of wrong ones if {kind}")
    level = f"{study.settings.saturation:g}"
    return [f"{_SPAN} is at least {level} for {'; '.join(said)}."] if said else []
