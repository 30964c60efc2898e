"""The content of ``audit.json``; the docstring under each field is its definition."""

from __future__ import annotations

from rlsf.audit.features import FEATURES
from rlsf.audit.linear import LinearReward
from rlsf.audit.measures import RightAndWrong
from rlsf.config import Section
from rlsf.evaluation.reward_accuracy import RewardAccuracy
from rlsf.evaluation.schema import Interval

#: Features that a sentence names at most.
_NAMED = 3


class Spread(Section):
    """The same figure of several fits."""

    values: tuple[float, ...]
    """Pair accuracy of each fit on its held-out prompts."""
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The values in their order, and their ends."""
        return cls(values=tuple(values), lowest=min(values), highest=max(values))


class Separation(Section):
    """How well a reward tells traces after training from those before it, on prompts that it was not fitted to."""

    pairs: RewardAccuracy
    """Pairs with the trace after training as the chosen one; its ``accuracy`` is 0.5 where there is nothing to tell."""
    auroc: float | None
    """Probability that a trace after training has a higher reward than one before, over all prompts."""
    kendall: dict[str, float | None]
    """Kendall's tau-b of the reward and each feature among the traces of each prompt."""
    spearman: dict[str, float | None]
    """Spearman's correlation of the same over all traces."""
    spread: Spread
    """Of the linear reward: over several splits of the prompts. Of the model: over several heads."""


class FeatureDifference(Section):
    """A feature before and after training, over all prompts."""

    before: float
    """Mean before training."""
    after: float
    """Mean after training."""
    accuracy: float
    """Share of held-out pairs whose trace after training has more of it, equal ones half: what it tells alone."""
    accuracy_fitted: float
    """The same share of the pairs that rewards were fitted to."""


class Audit(Section):
    """What was found."""

    before: str
    """The model at the start."""
    after: str
    """The trained one."""
    same_model: bool
    """Whether both are one model: there is nothing to recover."""
    objective: str
    """What was minimised."""
    prompts: int
    """Prompts that both were asked."""
    held_out_prompts: int
    """Prompts that no reward was fitted to."""
    pairs: int
    """Pairs of traces."""
    identical: int
    """Pairs of the same token ids, of which nothing is learned."""
    differences: dict[str, FeatureDifference]
    linear: LinearReward | None
    """The linear reward; null where it was not asked for."""
    coefficient_ranges: dict[str, tuple[float, float]]
    """Smallest and largest coefficient over the splits of the prompts."""
    separation: dict[str, Separation]
    """By kind of reward: ``features``, ``model``."""
    correctness: dict[str, dict[str, RightAndWrong]]
    """By score and by whose traces: the rewards, and each feature for comparison; ``before``, ``after``, ``both``."""


def verdict(found: Audit) -> str:
    """What was found in one or two sentences: where nothing is told apart, that alone."""
    if found.same_model:
        return _one_model(found)
    if not found.separation:
        return "Both models wrote the same traces: there is nothing to tell apart."
    above = [kind for kind, one in found.separation.items() if _above_chance(one.pairs.interval)]
    if not above:
        return f"{_told_apart(found)}: nothing shows what was rewarded, and the weights are those of chance."
    said = [f"{_told_apart(found)}."]
    if found.linear is not None and "features" in above:
        said.append(_rewarded(found.linear))
    said.append(_tells_most(found))
    if found.correctness:
        said.append(_knows_right(found))
    return " ".join(said)


def _one_model(found: Audit) -> str:
    shares = [f"{100 * one.pairs.accuracy:.0f} %" for one in found.separation.values()]
    chance = f", and held-out pairs are told apart in {' and '.join(shares)}, where 50 % is chance" if shares else ""
    return f"Both models are one: there is nothing to recover{chance}."


def _told_apart(found: Audit) -> str:
    parts = []
    for kind, one in found.separation.items():
        reader = "the features" if kind == "features" else "a reward model"
        if _above_chance(one.pairs.interval):
            parts.append(f"{reader} in {100 * one.pairs.accuracy:.0f} %")
        else:
            parts.append(f"{reader} no better than chance ({100 * one.pairs.accuracy:.0f} %)")
    return f"Held-out pairs are told apart by {' and by '.join(parts)}"


def _rewarded(linear: LinearReward) -> str:
    strongest = linear.strongest()[:_NAMED]
    if not strongest:
        return "No single feature is sure to have been rewarded."
    named = []
    for name in strongest:
        value = linear.coefficients[name].value
        named.append(f"{FEATURES[name].more if value > 0 else FEATURES[name].less} ({value:+.2f})")
    return f"The training rewarded {_joined(named)}."


def most_telling(found: Audit) -> tuple[str, float]:
    """What tells most by itself, in words, and in which share of held-out pairs it does.

    The feature and its direction are those of the pairs that rewards were fitted to, so that the share has not been
    chosen for its size. Weights share what features have in common; this does not.
    """
    name = max(found.differences, key=lambda one: abs(found.differences[one].accuracy_fitted - 0.5))
    chosen = found.differences[name]
    if chosen.accuracy_fitted < 0.5:
        return FEATURES[name].less, 1 - chosen.accuracy
    return FEATURES[name].more, chosen.accuracy


def _tells_most(found: Audit) -> str:
    what, share = most_telling(found)
    return f"The single feature that tells most: {what}, {100 * share:.0f} % of held-out pairs."


def _knows_right(found: Audit) -> str:
    """The recovered reward beside the best single feature on the start's own traces."""
    figures = {
        score: scopes["before"].auroc
        for score, scopes in found.correctness.items()
        if scopes["before"].auroc is not None
    }
    rewards = [f"{figures[kind]:.2f} ({kind})" for kind in found.separation if kind in figures]
    if not rewards:
        return "The start's traces of the labelled questions are all right or all wrong."
    baselines = {name: value for name, value in figures.items() if name in FEATURES and value is not None}
    best = max(baselines, key=lambda name: baselines[name])
    length = f"; length alone {baselines['tokens']:.2f}" if "tokens" in baselines and best != "tokens" else ""
    return (
        f"On the start's traces of labelled questions it orders right before wrong with AUROC {_joined(rewards)}"
        f"{length}, {best} alone {baselines[best]:.2f}."
    )


def _above_chance(interval: Interval) -> bool:
    return interval is not None and interval[0] > 0.5


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
