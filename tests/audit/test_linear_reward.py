"""Linear inverse reinforcement learning: directions, bounds and exactness of the fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from rlsf.audit import fit_linear, recover_linear
from rlsf.errors import InputError
from rlsf.training.max_margin import Objective, pair_loss, published_loss

TRUE = np.array([1.0, -0.5, 0.0, 0.25])
OBJECTIVES: tuple[Objective, ...] = ("hinge", "logistic", "margin")


def gaussian_pairs(count: int = 400, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Differences of Gaussian features, the one of higher true reward (with noise) less the other."""
    random = np.random.default_rng(seed)
    difference = random.normal(size=(count, 4)) - random.normal(size=(count, 4))
    return difference * np.sign(difference @ TRUE + noise * random.normal(size=count))[:, None]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def objective_value(weights: np.ndarray, differences: np.ndarray, objective: Objective, ridge: float) -> float:
    losses = pair_loss(torch.tensor(differences @ weights), objective)
    return float(losses.mean()) + ridge * float(weights @ weights) / 2


def descend(loss: object, steps: int, differences: np.ndarray) -> np.ndarray:
    """Adam at a rate of 0.05 from zero, no ridge: the norm after these steps."""
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.05)
    pairs = torch.tensor(differences)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(pairs @ weights).mean().backward()  # pyright: ignore[reportCallIssue]
        optimiser.step()
    return weights.detach().numpy()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_direction_is_recovered(objective: Objective) -> None:
    assert cosine(fit_linear(gaussian_pairs(), objective), TRUE) > 0.99


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_direction_by_gradient_descent(objective: Objective) -> None:
    """The card's vector: Adam at 0.05 for 400 steps."""
    found = descend(lambda d: pair_loss(d, objective), 400, gaussian_pairs())
    assert cosine(found, TRUE) > 0.99


def test_the_published_objective_grows_without_bound_and_ours_does_not() -> None:
    pairs = gaussian_pairs(noise=0.5)
    published = [np.linalg.norm(descend(published_loss, steps, pairs)) for steps in (100, 200, 400)]
    assert published[1] > 1.8 * published[0]
    assert published[2] > 1.8 * published[1]
    ours = [np.linalg.norm(descend(lambda d: pair_loss(d, "margin"), steps, pairs)) for steps in (200, 400, 800)]
    assert ours[2] == pytest.approx(ours[1], rel=0.02)
    assert ours[2] < published[0]


def test_weight_decay_bounds_the_published_objective_and_chooses_a_length_alone() -> None:
    """It is homogeneous: ten times the decay gives a tenth of the same weights."""
    pairs = gaussian_pairs(120, noise=0.5)

    def value(weights: np.ndarray, ridge: float) -> float:
        losses = published_loss(torch.tensor(pairs @ weights))
        return float(losses.mean()) + ridge * float(weights @ weights) / 2

    one, tenth = (
        minimize(value, np.zeros(4), (ridge,), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12}).x
        for ridge in (0.1, 1.0)
    )
    assert cosine(one, tenth) > 0.9999
    assert np.linalg.norm(one) == pytest.approx(10 * np.linalg.norm(tenth), rel=1e-2)
    assert cosine(one, TRUE) > 0.98


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_no_general_method_finds_better_weights(objective: Objective, noise: float) -> None:
    pairs, ridge = gaussian_pairs(120, noise), 0.01
    ours = fit_linear(pairs, objective, ridge)
    reached = objective_value(ours, pairs, objective, ridge)
    for start in (ours, np.zeros(4)):
        other = minimize(objective_value, start, (pairs, objective, ridge), method="Powell", options={"xtol": 1e-10})
        assert reached <= other.fun + 1e-8
        assert reached == pytest.approx(other.fun, abs=2e-3)
    random = np.random.default_rng(1)
    for size in (1e-4, 1e-2, 1.0):
        moved = [objective_value(ours + size * random.normal(size=4), pairs, objective, ridge) for _ in range(20)]
        assert min(moved) > reached - 1e-8


def test_the_hinge_is_the_support_vector_machine_without_intercept() -> None:
    pairs, ridge = gaussian_pairs(200, noise=1.0), 0.05
    both = np.concatenate([pairs, -pairs])
    machine = LinearSVC(
        loss="hinge", C=1 / (ridge * len(both)), fit_intercept=False, dual=True, tol=1e-10, max_iter=1_000_000
    )
    machine.fit(both, np.repeat([1, -1], len(pairs)))
    assert fit_linear(pairs, "hinge", ridge) == pytest.approx(machine.coef_[0], abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(OBJECTIVES), st.integers(1, 5))
def test_counts_are_copies(seed: int, objective: Objective, most: int) -> None:
    random = np.random.default_rng(seed)
    pairs, counts = random.normal(size=(30, 3)), random.integers(0, most + 1, size=30)
    counts[0] = 1
    repeated = fit_linear(np.repeat(pairs, counts, axis=0), objective)
    assert fit_linear(pairs, objective, counts=counts) == pytest.approx(repeated, abs=1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_units_and_constants_of_features_do_not_matter(objective: Objective) -> None:
    random = np.random.default_rng(3)
    other = {name: random.normal(size=60) for name in ("one", "two")}
    expert = {"one": other["one"] + random.normal(0.5, 1, 60), "two": other["two"] + random.normal(0, 1, 60)}
    prompts = [str(n) for n in range(60)]
    plain = recover_linear(expert, other, prompts, objective=objective, resamples=20)
    changed = [{"one": 1000 * side["one"] + 7, "two": side["two"] / 50 - 3} for side in (expert, other)]
    scaled = recover_linear(*changed, prompts, objective=objective, resamples=20)
    for name, coefficient in plain.coefficients.items():
        assert scaled.coefficients[name].value == pytest.approx(coefficient.value, abs=1e-6)
    assert scaled.rewards(changed[0]) == pytest.approx(plain.rewards(expert), abs=1e-5)


def test_what_is_constant_is_named_and_left_out() -> None:
    random = np.random.default_rng(0)
    other = {"length": random.normal(size=40), "answer": np.ones(40)}
    expert = {"length": other["length"] + 1.0, "answer": np.ones(40) + 1e-9}
    found = recover_linear(expert, other, [str(n // 2) for n in range(40)], resamples=50)
    assert found.constant == ("answer",)
    assert found.strongest() == ["length"]
    assert found.coefficients["length"].value > 0


def test_no_difference_no_reward() -> None:
    same = {"length": np.arange(20.0)}
    found = recover_linear(same, same, [str(n) for n in range(20)], resamples=20)
    assert found.coefficients["length"].value == 0
    assert found.strongest() == []


def test_an_interval_holds_what_is_true_and_narrows() -> None:
    random = np.random.default_rng(5)
    widths = []
    for count in (100, 1600):
        other = {"x": random.normal(size=count)}
        expert = {"x": other["x"] + random.normal(0.4, 1, size=count)}
        found = recover_linear(expert, other, [str(n) for n in range(count)], objective="logistic", resamples=100)
        interval = found.coefficients["x"].interval
        assert interval is not None
        assert interval[0] < found.coefficients["x"].value < interval[1]
        widths.append(interval[1] - interval[0])
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(16), rel=0.5)


def test_unusable_features() -> None:
    with pytest.raises(InputError, match="no pairs"):
        recover_linear({"x": np.array([])}, {"x": np.array([])}, [])
    with pytest.raises(InputError, match="feature x is not a number"):
        recover_linear({"x": np.array([np.nan])}, {"x": np.array([1.0])}, ["a"])
