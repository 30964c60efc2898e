"""Which signal to trust, in one sentence that claims no more than the intervals show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlsf.evaluation.signal_schema import Ranking, SignalFigures

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
    return f"Trust {_listed(alike)}, which these questions do not separate ({best}: {value}); the other {others} worse."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
