"""Linear inverse reinforcement learning: the weights of a few standardised features, by convex optimisation.

With D [n, k] the differences of standardised features, expert's less the other's, and c [n] how often a pair counts,

    F(w) = sum_i c_i loss(D_i . w) / sum_i c_i + ridge |w|^2 / 2

is strictly convex, so that there is one w, whatever a seed says. Newton's method finds it in float64. Hinges are
smoothed over a width h that falls to 1e-9; the smoothed loss is at most h / 2 below the loss for each hinge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.evaluation.bootstrap import percentile_interval, resample_counts
from rlsf.evaluation.groups import FloatArray
from rlsf.evaluation.schema import Interval
from rlsf.training.max_margin import Objective, hinge_thresholds

#: Widths over which hinges are smoothed, each start from the solution before.
_WIDTHS = tuple(10.0**-power for power in range(10))
_ITERATIONS = 100
#: A feature whose deviation is below this, relative to its size, is taken for constant: rounding tells no models apart.
_CONSTANT = 1e-6

#: From differences d to the loss of each pair, its first and its second derivative.
Loss = Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]


class Coefficient(Section):
    """The weight of one feature."""

    value: float
    """Reward for one standard deviation of the feature."""
    interval: Interval
    """95 % percentile bootstrap over prompts."""


class LinearReward(Section):
    """R(o) = sum_k w_k (x_k(o) - centre_k) / scale_k, known up to a constant."""

    coefficients: dict[str, Coefficient]
    """By feature, in reward a standard deviation."""
    centres: dict[str, float]
    """Mean of each feature over the traces that the reward was fitted to."""
    scales: dict[str, float]
    """Standard deviation of the same."""
    constant: tuple[str, ...]
    """Features that were the same in all of these traces, of which nothing can be said."""

    def rewards(self, features: Mapping[str, FloatArray]) -> FloatArray:
        """The reward of each trace from its features by name, each [n]."""
        total = np.zeros(len(next(iter(features.values()))))
        for name, coefficient in self.coefficients.items():
            total += coefficient.value * (features[name] - self.centres[name]) / self.scales[name]
        return total

    def strongest(self) -> list[str]:
        """Features whose interval leaves 0 out, the largest weight first."""
        sure = [
            name
            for name, found in self.coefficients.items()
            if found.interval is not None and found.interval[0] * found.interval[1] > 0
        ]
        return sorted(sure, key=lambda name: -abs(self.coefficients[name].value))


def recover_linear(
    expert: Mapping[str, FloatArray],
    other: Mapping[str, FloatArray],
    prompt_ids: Sequence[str],
    *,
    objective: Objective = "hinge",
    ridge: float = 0.01,
    resamples: int = 200,
    seed: int = 0,
) -> LinearReward:
    """The linear reward under which the expert's traces are worth more than the others', pair by pair.

    ``expert`` and ``other`` hold features by name, each [n], one trace of a pair each; without ``resamples`` there are
    no intervals. Raises ``InputError`` for no
    pairs and for features that are not finite.
    """
    if not len(prompt_ids):
        raise InputError("no pairs of traces to recover a reward from: give more prompts")
    both = {name: np.concatenate([expert[name], other[name]]).astype(np.float64) for name in expert}
    for name, values in both.items():
        if not np.isfinite(values).all():
            raise InputError(f"feature {name} is not a number in a pair of traces: sample them again")
    centres = {name: float(values.mean()) for name, values in both.items()}
    scales = {name: float(values.std()) for name, values in both.items()}
    varying = [name for name in both if scales[name] > _CONSTANT * max(1.0, abs(centres[name]))]
    differences = np.stack(
        [(expert[name] - other[name]) / scales[name] for name in varying] or [np.zeros(len(prompt_ids))], axis=1
    )
    weights = fit_linear(differences, objective, ridge)
    drawn = _resampled(differences, prompt_ids, weights, objective, ridge, resamples, seed)
    return LinearReward(
        coefficients={
            name: Coefficient(value=float(weights[place]), interval=percentile_interval(drawn[:, place]))
            for place, name in enumerate(varying)
        },
        centres={name: centres[name] for name in varying},
        scales={name: scales[name] for name in varying},
        constant=tuple(name for name in both if name not in varying),
    )


def _resampled(
    differences: FloatArray,
    prompt_ids: Sequence[str],
    weights: FloatArray,
    objective: Objective,
    ridge: float,
    resamples: int,
    seed: int,
) -> FloatArray:
    """The weights [resamples, k] had other prompts been drawn."""
    if not resamples:
        return np.empty((0, len(weights)))
    names, prompt = np.unique(np.array(prompt_ids), return_inverse=True)
    counts = np.concatenate(list(resample_counts(len(names), resamples, seed)))
    return np.stack([fit_linear(differences, objective, ridge, row[prompt], weights) for row in counts])


def fit_linear(
    differences: FloatArray,
    objective: Objective = "hinge",
    ridge: float = 0.01,
    counts: FloatArray | None = None,
    start: FloatArray | None = None,
) -> FloatArray:
    """The w [k] that minimises F for ``differences`` [n, k] and ``counts`` [n], 1 where they are not given."""
    counts = np.ones(len(differences)) if counts is None else counts
    share = counts / counts.sum()
    weights = np.zeros(differences.shape[1]) if start is None else start
    for loss in _losses(objective):
        weights = _newton(differences, share, ridge, loss, weights)
    return weights


def _losses(objective: Objective) -> list[Loss]:
    """Smooth losses, the last of them as good as the objective's own."""
    if objective == "logistic":
        return [_logistic]
    thresholds = hinge_thresholds(objective)
    return [lambda d, width=width: _smooth_hinges(d, thresholds, width) for width in _WIDTHS]


def _logistic(d: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    wrong = np.exp(-np.logaddexp(0.0, d))
    return np.logaddexp(0.0, -d), -wrong, wrong * (1 - wrong)


def _smooth_hinges(
    d: FloatArray, thresholds: Sequence[float], width: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moreau's envelope of max(0, t - d): a parabola where t - d is in [0, width]."""
    short = np.asarray(thresholds)[:, None] - d
    value = np.where(short > width, short - width / 2, np.clip(short, 0, None) ** 2 / (2 * width))
    slope = -np.clip(short / width, 0, 1)
    curvature = ((short > 0) & (short < width)) / width
    return value.sum(0), slope.sum(0), curvature.sum(0)


def _newton(differences: FloatArray, share: FloatArray, ridge: float, loss: Loss, weights: FloatArray) -> FloatArray:
    """Newton's method with halved steps until the gradient vanishes or no step helps."""

    def value(at: FloatArray) -> float:
        return float(share @ loss(differences @ at)[0] + ridge * (at @ at) / 2)

    current = value(weights)
    for _ in range(_ITERATIONS):
        _, slope, curvature = loss(differences @ weights)
        gradient = differences.T @ (share * slope) + ridge * weights
        if np.abs(gradient).max() < 1e-12:
            break
        hessian = (differences.T * (share * curvature)) @ differences + ridge * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (tried := value(weights - size * step)) > current - 1e-4 * size * (gradient @ step) and size > 1e-12:
            size /= 2
        if tried >= current:
            break
        weights, current = weights - size * step, tried
    return weights
