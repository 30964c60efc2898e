"""The preference objective against arithmetic done by hand, finite differences and properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsf.training.objective import Objective, PairLogprobs, gap_weights, ipo_loss, sigmoid_loss

LOG_2 = 0.6931471805599453


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def derivative(loss, at: float) -> float:
    """Central difference; its error is of order 1e-8 for losses of order one."""
    step = 1e-4
    return ((loss(tensor(at + step)) - loss(tensor(at - step))) / (2 * step)).item()


def pairs(**changes: torch.Tensor) -> PairLogprobs:
    values = {
        "chosen": tensor(-4.0, -6.0),
        "rejected": tensor(-5.0, -3.0),
        "reference_chosen": tensor(-5.0, -5.0),
        "reference_rejected": tensor(-4.0, -4.0),
        "chosen_length": tensor(4, 3),
        "rejected_length": tensor(2, 5),
        **changes,
    }
    return PairLogprobs(**values)


def test_loss_at_the_reference_is_log_2() -> None:
    # pi = ref: h = 0, -log s(0) = log 2
    assert sigmoid_loss(tensor(0.0), beta=0.1).item() == pytest.approx(LOG_2, abs=1e-12)


def test_loss_of_one_pair_by_hand() -> None:
    # h = (-4 + 5) - (-5 + 4) = 2; z = 0.5 * 2 = 1; -log s(1) = log(1 + e^-1) = 0.313262
    # h = (-6 + 5) - (-3 + 4) = -2; z = -1; log(1 + e) = 1.313262
    losses = Objective(beta=0.5)(pairs())
    assert losses.tolist() == pytest.approx([0.3132616875, 1.3132616875], abs=1e-9)


@pytest.mark.parametrize("h", [-3.0, 0.0, 3.0, 8.0])
def test_gradient_is_minus_beta_times_the_logistic_of_minus_z(h: float) -> None:
    beta = 0.3
    expected = -beta / (1 + math.exp(beta * h))
    assert derivative(lambda x: sigmoid_loss(x, beta=beta), h) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("smoothing", "optimum"), [(0.05, 2.944439), (0.1, 2.197225), (0.2, 1.386294)])
def test_smoothed_loss_has_its_optimum_at_the_log_odds(smoothing: float, optimum: float) -> None:
    # dL/dz = s(z) - (1 - e) vanishes at z = log((1 - e) / e)
    def loss(z: torch.Tensor) -> torch.Tensor:
        return sigmoid_loss(z, beta=1.0, label_smoothing=smoothing)

    assert math.log((1 - smoothing) / smoothing) == pytest.approx(optimum, abs=1e-6)
    assert derivative(loss, optimum) == pytest.approx(0.0, abs=1e-6)
    assert loss(tensor(optimum)) < loss(tensor(optimum + 0.1))
    assert loss(tensor(optimum)) < loss(tensor(optimum - 0.1))


@pytest.mark.parametrize(("z", "slope"), [(-3, -0.852574), (0, -0.4), (3, 0.052574), (8, 0.099665)])
def test_smoothed_gradient(z: float, slope: float) -> None:
    # e = 0.1: s(z) - 0.9, e.g. s(0) - 0.9 = -0.4
    assert derivative(lambda x: sigmoid_loss(x, beta=1.0, label_smoothing=0.1), z) == pytest.approx(slope, abs=2e-6)


@pytest.mark.parametrize(("z", "slope"), [(-3, -1.077574), (0, -0.625), (3, -0.172426), (8, -0.125335)])
def test_smoothing_is_not_that_of_robust_dpo(z: float, slope: float) -> None:
    # Robust DPO, e = 0.1: -(s(-z) + e / (1 - 2e)) never vanishes; ours differs from it by the factor and the sign.
    ours = derivative(lambda x: sigmoid_loss(x, beta=1.0, label_smoothing=0.1), z)
    robust = -(1 / (1 + math.exp(z)) + 0.1 / 0.8)
    assert robust == pytest.approx(slope, abs=2e-6)
    assert abs(ours - robust) > 0.2


def test_smoothed_loss_by_hand() -> None:
    # e = 0.2, z = 0.3 * 1 = 0.3: 0.8 * log(1 + e^-0.3) + 0.2 * log(1 + e^0.3) = 0.8 * 0.554355 + 0.2 * 0.854355
    loss = sigmoid_loss(tensor(1.0), beta=0.3, label_smoothing=0.2)
    assert loss.item() == pytest.approx(0.8 * 0.5543552444 + 0.2 * 0.8543552444, abs=1e-9)


@pytest.mark.parametrize(("offset", "expected"), [(0.7, 1.103186), (-0.2, 0.598139)])
def test_offset_at_initialisation(offset: float, expected: float) -> None:
    # -log s(-offset) = log(1 + e^offset)
    assert sigmoid_loss(tensor(0.0), beta=0.1, offset=offset).item() == pytest.approx(expected, abs=1e-6)


def test_margin_is_scaled_and_subtracted_from_the_logit() -> None:
    # z = 0.5 * 2 - 2 * 0.3 = 0.4 and 0.5 * -2 - 2 * 0.1 = -1.2
    losses = Objective(beta=0.5, margin_scale=2.0)(pairs(margin=tensor(0.3, 0.1)))
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-0.4)), math.log1p(math.exp(1.2))], abs=1e-12)


def test_ipo_normalises_by_length() -> None:
    # h = 1/4 - (-1)/2 = 0.75 and -1/3 - 1/5 = -0.533333; target 1 / (2 * 0.5) = 1
    losses = Objective(loss="ipo", beta=0.5)(pairs())
    assert losses.tolist() == pytest.approx([(0.75 - 1) ** 2, (-8 / 15 - 1) ** 2], abs=1e-12)


def test_ipo_gradient() -> None:
    # d/dc (c/4 - r/2 - 1)^2 = 2 (c/4 - r/2 - 1) / 4 at c = 1, r = -1: 2 * -0.25 / 4 = -0.125
    def loss(chosen: torch.Tensor) -> torch.Tensor:
        return ipo_loss(chosen, tensor(-1.0), tensor(4), tensor(2), beta=0.5)

    assert derivative(loss, 1.0) == pytest.approx(-0.125, abs=1e-8)


def test_nll_is_per_token_of_each_trace() -> None:
    # -(-4) / 4 = 1 and -(-6) / 3 = 2, on top of the losses of test_loss_of_one_pair_by_hand
    plain = Objective(beta=0.5)(pairs())
    with_nll = Objective(beta=0.5, nll_weight=0.5)(pairs())
    assert (with_nll - plain).tolist() == pytest.approx([0.5, 1.0], abs=1e-12)


def test_weight_multiplies_the_preference_but_not_the_nll() -> None:
    weight = tensor(0.5, 1.5)
    plain = Objective(beta=0.5)(pairs())
    weighted = Objective(beta=0.5, nll_weight=1.0)(pairs(weight=weight))
    assert weighted.tolist() == pytest.approx((plain * weight + tensor(1.0, 2.0)).tolist(), abs=1e-12)


def test_gap_weights_have_mean_one() -> None:
    # gaps 0.1, 0.2, 0.6 have mean 0.3
    assert gap_weights(tensor(0.1, 0.2, 0.6)).tolist() == pytest.approx([1 / 3, 2 / 3, 2.0])
    assert gap_weights(tensor(0.0, 0.0)).tolist() == [1.0, 1.0]


logits = st.floats(-50, 50)


@given(logits, st.floats(0.01, 2), st.floats(0, 0.49))
def test_swapping_a_pair_swaps_the_smoothing(h: float, beta: float, smoothing: float) -> None:
    swapped = sigmoid_loss(tensor(-h), beta=beta, label_smoothing=1 - smoothing)
    assert sigmoid_loss(tensor(h), beta=beta, label_smoothing=smoothing).item() == pytest.approx(swapped.item())


@given(logits, st.floats(0.01, 2), st.floats(0, 5))
def test_loss_is_positive_and_grows_with_the_offset(h: float, beta: float, offset: float) -> None:
    plain, harder = (sigmoid_loss(tensor(h), beta=beta, offset=o).item() for o in (0.0, offset))
    assert 0 < plain <= harder


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30))
def test_weights_keep_order_and_mean(gaps: list[float]) -> None:
    weights = gap_weights(torch.tensor(gaps, dtype=torch.float64))
    assert weights.mean().item() == pytest.approx(1.0)
    assert torch.equal(weights.argsort(stable=True), torch.tensor(gaps, dtype=torch.float64).argsort(stable=True))
