"""NFT's loss against the closed forms of arXiv 2505.18116."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.training.nft_objective import (
    LARGEST_LOG_RATIO,
    NftOptions,
    floored,
    group_pass_rates,
    prompt_weights,
    teaches,
    token_losses,
)

log_ratios = st.floats(-4, 4)
mixed_rates = st.integers(1, 15).map(lambda right: right / 16)
floors = st.sampled_from([1.0, 0.5, 0.1])


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slopes(log_ratio: float, rate: float, options: NftOptions) -> tuple[float, float]:
    """dL/dlog pi of a right and of a wrong completion's token, by autograd."""
    at = tensor(log_ratio, log_ratio)[:, None].requires_grad_()
    losses = token_losses(at, tensor(1, 0), tensor(rate, rate), options)
    (gradient,) = torch.autograd.grad(losses.sum(), at)
    return gradient[0, 0].item(), gradient[1, 0].item()


@pytest.mark.parametrize("eps", [1.0, 0.5, 0.1])
@pytest.mark.parametrize(
    ("weight", "right", "wrong"),
    [("one", 1.0, -0.6), ("one_minus_p", 0.625, -0.375), ("root_odds", 1.290994, -0.774597)],
)
def test_on_policy_the_slopes_are_the_tabulated_advantages(weight: Any, right: float, wrong: float, eps: float) -> None:
    # p = 3/8: A+ = w and A- = -w p / (1 - p), whatever the floor
    found = slopes(0.0, 3 / 8, NftOptions(weight=weight, eps=eps))
    assert found == pytest.approx((-right, -wrong), abs=1e-6)


def test_on_policy_the_weights_are_those_of_dr_grpo_and_grpo() -> None:
    rewards = tensor(1, 1, 1, 0, 0, 0, 0, 0)
    centred = rewards - rewards.mean()
    assert slopes(0.0, 3 / 8, NftOptions()) == pytest.approx((-centred[0].item(), -centred[-1].item()))
    population = centred / rewards.std(correction=0)
    root_odds = slopes(0.0, 3 / 8, NftOptions(weight="root_odds"))
    assert root_odds == pytest.approx((-population[0].item(), -population[-1].item()))
    # TRL divides by the sample's deviation plus 1e-4, which is smaller by sqrt(7/8) = 0.935414 but for the 1e-4.
    of_trl = centred / (rewards.std() + 1e-4)
    assert of_trl[0].item() == pytest.approx(1.207381, abs=1e-6)
    assert of_trl[0].item() == pytest.approx(-root_odds[0] * (7 / 8) ** 0.5, rel=3e-4)


@given(log_ratio=log_ratios, rate=mixed_rates, eps=floors, negative_weight=st.floats(0, 2), weight=st.data())
def test_off_policy_the_slopes_are_the_closed_form(
    log_ratio: float, rate: float, eps: float, negative_weight: float, weight: st.DataObject
) -> None:
    name: Any = weight.draw(st.sampled_from(["one", "one_minus_p", "root_odds"]))
    scale = {"one": 1.0, "one_minus_p": 1 - rate, "root_odds": ((1 - rate) / rate) ** 0.5}[name]
    ratio = tensor(log_ratio).exp().item()
    implied = max((1 - rate * ratio) / (1 - rate), eps)
    expected = -scale, scale * negative_weight * rate * ratio / (1 - rate) / implied
    assert slopes(log_ratio, rate, NftOptions(name, eps, negative_weight)) == pytest.approx(expected, rel=1e-9)


def test_the_value_by_hand() -> None:
    # p = 1/2, R = e^-1: right: -1/2 * -1 = 0.5; wrong: -1/2 log((1 - e^-1 / 2) / (1/2)) = -0.244930
    ratios = tensor(-1, -1)[:, None]
    losses = token_losses(ratios, tensor(1, 0), tensor(0.5, 0.5), NftOptions())
    assert losses.flatten().tolist() == pytest.approx([0.5, -0.2449401], abs=1e-6)
    # R = e: (1 - e/2) / (1/2) = -0.718 is under the floor, log eps = log 0.1
    low = token_losses(-ratios, tensor(1, 0), tensor(0.5, 0.5), NftOptions(eps=0.1))
    assert low.flatten().tolist() == pytest.approx([-0.5, 0.5 * 2.302585], abs=1e-6)


@given(log_ratio=log_ratios, rate=mixed_rates)
def test_with_the_floor_at_one_the_loss_of_wrong_ones_is_never_positive(log_ratio: float, rate: float) -> None:
    wrong, rates = tensor(0, 0), tensor(rate, rate)
    losses = token_losses(tensor(log_ratio, 0.0)[:, None], wrong, rates, NftOptions(eps=1.0))
    assert losses[0].item() <= 0.0
    assert losses[1].item() == 0.0


OLD, RIGHT = tensor(0.4, 0.3, 0.2, 0.1), tensor(0.9, 0.1, 0.5, 0.0)
PASS_RATE = 0.49
PLUS = tensor(0.734694, 0.061224, 0.204082, 0.0)


@pytest.mark.parametrize("terms", ["both", "right", "wrong"])
def test_the_optimum_of_a_table_is_what_the_sampler_does_when_right(terms: str) -> None:
    """Of the whole loss, of the positive term alone, and of the negative term alone."""
    assert (OLD @ RIGHT).item() == pytest.approx(PASS_RATE)
    share = torch.cat([OLD * RIGHT * (terms != "wrong"), OLD * (1 - RIGHT) * (terms != "right")])
    verdicts = torch.cat([torch.ones_like(OLD), torch.zeros_like(OLD)])
    logits = OLD.log().clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(1500):
        ratios = (logits.log_softmax(0) - OLD.log()).repeat(2)[:, None]
        rates = torch.full_like(verdicts, PASS_RATE)
        losses = token_losses(ratios, verdicts, rates, NftOptions(eps=1e-3))
        optimiser.zero_grad()
        (share @ losses[:, 0]).backward()
        optimiser.step()
    assert logits.softmax(0).tolist() == pytest.approx(PLUS.tolist(), abs=2e-3)


def test_groups_without_contrast_and_rows_without_verdict_teach_nothing() -> None:
    nan = float("nan")
    verdicts = tensor(1, 1, 0, 0, 1, nan, nan, nan, 1, 0, 1, nan)
    rates = group_pass_rates(verdicts, 2)
    assert rates.tolist() == pytest.approx([1, 1, 0, 0, 1, 1, nan, nan, 0.5, 0.5, 1, 1], nan_ok=True)
    assert teaches(verdicts, rates).nonzero().flatten().tolist() == [8, 9]
    at = torch.full((12, 3), -0.3, dtype=torch.float64, requires_grad=True)
    losses = token_losses(at, verdicts, rates, NftOptions(weight="root_odds"))
    (gradient,) = torch.autograd.grad(losses.sum(), at)
    assert losses.any(dim=1).nonzero().flatten().tolist() == [8, 9]
    assert gradient.isfinite().all()
    assert gradient.any(dim=1).nonzero().flatten().tolist() == [8, 9]


def test_a_missing_verdict_leaves_the_rest_of_its_group() -> None:
    verdicts = tensor(1, float("nan"), 0, 0)
    rates = group_pass_rates(verdicts, 4)
    assert rates.tolist() == pytest.approx([1 / 3] * 4)
    assert teaches(verdicts, rates).tolist() == [True, False, True, True]


def test_extreme_ratios_and_rates_are_cut_as_published() -> None:
    ratios = tensor(50, -200)[:, None].float().requires_grad_()
    losses = token_losses(ratios, tensor(1, 1).float(), tensor(0.5, 0.5).float(), NftOptions(weight="one"))
    assert losses.flatten().tolist() == [-LARGEST_LOG_RATIO, 200.0]
    rate = 1 / 128
    assert slopes(0.0, rate, NftOptions())[0] == pytest.approx(-0.98)
    assert slopes(0.0, 1 - rate, NftOptions())[1] == pytest.approx(0.02 * 0.98 / 0.02)


def test_the_floor_keeps_the_gradient() -> None:
    values = tensor(2.0, 0.5, -3.0).requires_grad_()
    high = floored(values, 1.0)
    assert high.tolist() == [2.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(high.sum(), values)
    assert gradient.tolist() == [1.0, 1.0, 1.0]


def test_weights_by_hand() -> None:
    assert prompt_weights(tensor(0.2, 0.8), "one").tolist() == [1.0, 1.0]
    assert prompt_weights(tensor(0.2, 0.8), "one_minus_p").tolist() == pytest.approx([0.8, 0.2])
    assert prompt_weights(tensor(0.2, 0.8), "root_odds").tolist() == pytest.approx([2.0, 0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "odds"}, "nft.weight='odds'"),
        ({"eps": 0.0}, "nft.eps=0.0"),
        ({"eps": 1.5}, "nft.eps=1.5"),
        ({"negative_weight": -1.0}, "nft.negative_weight=-1.0"),
        ({"negative_weight": float("nan")}, "nft.negative_weight=nan"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NftOptions(**options)
