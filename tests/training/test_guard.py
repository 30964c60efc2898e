"""The guard against collapse: when each alarm rings, that it does not ring before, and what is said of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from collapse import LIMITS, PAST, START
from pydantic import ValidationError

from rlsf.errors import InputError
from rlsf.training.guard import REASONS, Guard
from rlsf.training.guard_config import GuardConfig


def guard(**options: Any) -> Guard:
    return Guard(GuardConfig(**{"patience": None, **LIMITS, **options}))


def watched(held: Guard, *batches: dict[str, float], first_step: int = 0) -> list[bool]:
    """Whether training has stopped after each batch of rollouts, the start's first."""
    answers = []
    for step, changed in enumerate(batches, start=first_step):
        held.watch(step, {**START, **changed})
        answers.append(held.stopped)
    return answers


@pytest.mark.parametrize(("sign", "past", "inside"), PAST)
def test_rollouts_past_a_limit_stop_after_persistence(sign: str, past: float, inside: float) -> None:
    held = guard(persistence=3)
    assert watched(held, {}, {sign: past}, {sign: past}, {sign: past}) == [False, False, False, True]
    assert held.alarm is not None
    assert (held.alarm.sign, held.alarm.value, held.alarm.limit, held.alarm.step) == (sign, past, past, 3)
    assert not any(watched(guard(persistence=3), {}, *[{sign: inside}] * 20))


@pytest.mark.parametrize(("sign", "past", "inside"), PAST)
def test_only_batches_in_a_row_count(sign: str, past: float, inside: float) -> None:
    held = guard(persistence=3)
    assert not any(watched(held, {}, *[{sign: past}, {sign: past}, {sign: inside}] * 10))
    assert held.past_limit[sign] == 0


@pytest.mark.parametrize(("sign", "past", "inside"), [case for case in PAST if case[0] != "entropy"])
def test_a_probe_past_a_limit_stops_at_once(sign: str, past: float, inside: float) -> None:
    held = guard()
    held.add(0, {**START, "agreement": 0.5})
    held.add(10, {**START, "agreement": 0.40625, sign: inside})
    assert not held.stopped
    held.add(20, {**START, "agreement": 0.40625, sign: past})
    assert held.stopped
    assert held.alarm is not None
    assert (held.alarm.sign, held.alarm.step, held.alarm.observations) == (sign, 20, 0)


def test_greedy_answers_may_become_certain() -> None:
    """Worked solutions are of near-certain tokens: a fortieth of the entropy of short unsure answers is no collapse."""
    held = guard()
    held.add(0, {**START, "agreement": 0.5})
    held.add(10, {**START, "agreement": 0.90625, "entropy": START["entropy"] / 40})
    assert not held.stopped


@pytest.mark.parametrize(("sign", "past", "inside"), PAST)
def test_none_switches_an_alarm_off(sign: str, past: float, inside: float) -> None:
    option = {"entropy": "entropy_floor", "mean_tokens": "length_limit"}.get(sign, f"{sign}_limit")
    held = guard(persistence=1, **{option: None})
    assert not any(watched(held, {}, *[{sign: past}] * 5))
    held.add(0, {**START, "agreement": 0.5})
    held.add(10, {**START, "agreement": 0.40625, sign: past})
    assert not held.stopped


def test_defaults_are_those_of_the_documentation() -> None:
    expected = {
        "enabled": True,
        "prompts": 64,
        "every": 10,
        "patience": 4,
        "persistence": 5,
        "entropy_floor": 0.1,
        "length_limit": 3.0,
        "truncated_limit": 0.5,
        "repetition_limit": 0.3,
        "without_answer_limit": 0.5,
        "commonest_answer_limit": 0.3,
        "zero_variance_limit": 0.98,
        "agreement_drop": 0.1,
    }
    assert {name: getattr(GuardConfig(), name) for name in expected} == expected


def test_the_entropy_floor_leaves_less_than_a_tenth_to_gain() -> None:
    """R = b - a e^H: of the gain from H to 0, (e^(H/10) - 1) / (e^H - 1) is left at a tenth of H."""
    floor = GuardConfig().entropy_floor
    assert floor is not None
    left = [math.expm1(floor * h) / math.expm1(h) for h in np.linspace(1e-3, 5, 50)]
    assert max(left) <= 0.1


def test_the_noise_of_two_answers_to_sixteen_prompts() -> None:
    """The bound that the default of ``commonest_answer_limit`` quotes."""
    limit = GuardConfig().commonest_answer_limit
    assert limit is not None
    past = sum(math.comb(16, k) for k in range(17) if max(k, 16 - k) / 16 >= 0.5 + limit) / 2**16
    assert 1 / past == pytest.approx(47, abs=0.5)


class TestLength:
    """Length alone is no collapse."""

    @pytest.mark.parametrize("tokens", [400.0, 20.0])
    def test_it_does_not_count_while_the_policy_agrees_more_than_at_the_start(self, tokens: float) -> None:
        held = guard(persistence=1)
        held.add(0, {**START, "agreement": 0.5})
        assert not any(watched(held, {}, *[{"mean_tokens": tokens}] * 5))
        held.add(10, {**START, "agreement": 0.5, "mean_tokens": tokens})
        assert not any(watched(held, *[{"mean_tokens": tokens}] * 5, first_step=10))
        held.add(20, {**START, "agreement": 0.421875})  # less by 0.078: one standard error is 0.088
        assert not any(watched(held, *[{"mean_tokens": tokens}] * 5, first_step=20))
        held.add(30, {**START, "agreement": 0.40625})
        assert watched(held, {"mean_tokens": tokens}, first_step=30) == [True]

    def test_counting_begins_when_agreement_falls(self) -> None:
        held = guard(persistence=3)
        held.add(0, {**START, "agreement": 0.5})
        watched(held, {}, *[{"mean_tokens": 400.0}] * 9)
        held.add(10, {**START, "agreement": 0.40625})
        assert watched(held, *[{"mean_tokens": 400.0}] * 3, first_step=10) == [False, False, True]


class TestDeparture:
    """Agreement that falls below the best probe's."""

    def test_the_drop_where_prompts_are_many(self) -> None:
        """Three standard errors at 0.5 with 10,000 prompts are 0.021."""
        held = guard(agreement_drop=0.125)
        assert [self._add(held, step, agreement, prompts=10_000) for step, agreement in ((0, 0.5), (10, 0.4))] == [
            False,
            False,
        ]
        assert self._add(held, 20, 0.375, prompts=10_000)
        assert held.alarm is not None
        assert (held.alarm.sign, held.alarm.limit) == ("agreement", 0.375)

    def test_three_standard_errors_where_prompts_are_few(self) -> None:
        """sqrt(2 x 0.5 x 0.5 / 128) = 1/16; the limit is 0.5 - 3/16."""
        assert not self._add(held := guard(prompts=128), 0, 0.5)
        assert not self._add(held, 10, 0.3126)
        assert self._add(held, 20, 0.3125)

    def test_the_number_of_prompts_probed_counts_and_not_that_asked_for(self) -> None:
        """A fourth of the prompts doubles the error: 0.5 - 3/8."""
        assert not self._add(held := guard(prompts=128), 0, 0.5, prompts=32)
        assert not self._add(held, 10, 0.1251, prompts=32)
        assert self._add(held, 20, 0.125, prompts=32)

    def test_the_best_probe_counts_and_not_the_start(self) -> None:
        held = guard(agreement_drop=0.125)
        assert [self._add(held, 10 * i, a, prompts=10_000) for i, a in enumerate((0.5, 0.75, 0.625))] == [
            False,
            False,
            True,
        ]
        assert held.best_step == 10

    @pytest.mark.parametrize(("confidence", "sign"), [(0.8, "confidence"), (0.7, "agreement"), (None, "agreement")])
    def test_surer_of_other_answers(self, confidence: float | None, sign: str) -> None:
        held = guard()
        known = {} if confidence is None else {"confidence": confidence}
        held.add(0, {"agreement": 0.5, "confidence": 0.7})
        held.add(10, {"agreement": 0.125, **known})
        assert held.alarm is not None
        assert held.alarm.sign == sign
        assert ("grows surer" in held.explain()) == (sign == "confidence")

    def test_confidence_may_rise_with_agreement(self) -> None:
        held = guard()
        held.add(0, {"agreement": 0.5, "confidence": 0.7})
        held.add(10, {"agreement": 0.5, "confidence": 0.99})
        assert not held.stopped

    def test_it_can_be_switched_off(self) -> None:
        held = guard(agreement_drop=None)
        assert not self._add(held, 0, 1.0)
        assert not self._add(held, 10, 0.0)

    @staticmethod
    def _add(held: Guard, step: int, agreement: float, **measured: float) -> bool:
        held.add(step, {"agreement": agreement, **measured})
        return held.stopped


class TestChoice:
    """What the guard has from selection."""

    def test_the_best_probe_is_kept_and_patience_runs_out(self) -> None:
        held = guard(patience=2, agreement_drop=None)
        improved = [held.add(10 * i, {"agreement": a}) for i, a in enumerate((0.5, 0.75, 0.75, 0.7))]
        assert improved == [True, True, False, False]
        assert (held.best_step, held.stopped, held.alarm) == (10, True, None)
        assert held.explain() == ("agreement 0.750, the best of 4 probes; stopped after 2 probes without a better one")

    def test_a_probe_is_due_where_training_stops(self) -> None:
        held = guard(persistence=1, every=10)
        assert [step for step in range(1, 25) if held.due(step, 24)] == [10, 20, 24]
        watched(held, {}, {"entropy": 0.0})
        assert held.due(7, 24)

    def test_that_probe_may_be_the_best_and_does_not_revive_training(self) -> None:
        held = guard(persistence=1, patience=4)
        held.add(0, {"agreement": 0.5})
        watched(held, {}, {"entropy": 0.0})
        assert held.add(2, {"agreement": 0.75})
        assert held.stopped
        assert held.alarm is not None
        assert held.alarm.sign == "entropy"
        assert held.best_step == 2

    def test_a_probe_without_agreement(self) -> None:
        with pytest.raises(InputError, match=r"step 10 has no agreement .* online.guard.enabled=false"):
            guard().add(10, {"agreement": math.nan})

    def test_the_first_alarm_is_the_reason(self) -> None:
        held = guard(persistence=1)
        watched(held, {}, {"entropy": 0.0}, {"truncated": 1.0})
        assert held.alarm is not None
        assert (held.alarm.sign, held.alarm.step) == ("entropy", 1)


class TestWhatIsSaid:
    def test_of_rollouts(self) -> None:
        held = guard(persistence=2)
        held.add(0, {"agreement": 0.5})
        held.add(10, {"agreement": 0.75})
        watched(held, {}, {"entropy": 0.03}, {"entropy": 0.02}, first_step=10)
        assert held.explain() == (
            "stopped at step 12: entropy is 0.02 nats a token, limit 0.0625: hardly more than one completion is sampled"
            " (in 2 batches of rollouts in a row); step 10 is kept: agreement 0.750, the best of 2 probes"
        )

    def test_of_a_probe_where_the_start_is_kept(self) -> None:
        held = guard(patience=1)
        held.add(0, {**START, "agreement": 0.5})
        held.add(10, {**START, "agreement": 0.5, "commonest_answer": 0.9})
        assert held.explain() == (
            "stopped at step 10: commonest_answer is 0.900, limit 0.500: different prompts get the same answer (in a"
            " probe); no step was better than the start, which is kept: agreement 0.500, the best of 2 probes"
        )

    def test_without_probes(self) -> None:
        held = guard(persistence=1)
        watched(held, {}, {"zero_variance": 1.0})
        assert held.explain().endswith("; no probe: the last step is kept")

    def test_every_sign_has_a_reason_in_one_line(self) -> None:
        assert set(REASONS) == {sign for sign, _, _ in PAST} | {"agreement", "confidence"}
        for reason in REASONS.values():
            assert "\n" not in reason.format(value=0.5, limit=0.25)


class TestWhatIsNotMeasured:
    def test_it_neither_rings_nor_forgives(self) -> None:
        held = guard(persistence=2)
        assert watched(held, {}, {"repetition": 0.5}, {"repetition": math.nan}, {"repetition": 0.5}) == [
            False,
            False,
            False,
            True,
        ]

    def test_a_sign_starts_with_its_first_value(self) -> None:
        held = guard(persistence=1)
        assert watched(held, {"truncated": math.nan}, {"truncated": 0.9}, {"truncated": 1.0}) == [False] * 3
        assert held.start["truncated"] == 0.9

    def test_probes_without_signs(self) -> None:
        held = guard()
        held.add(0, {"agreement": 0.5})
        held.add(10, {"agreement": 0.5, **START, "entropy": 0.0, "truncated": 1.0})
        assert not held.stopped

    def test_a_step_counts_once(self) -> None:
        """A resumed run may sample the rollouts of its step again."""
        held = guard(persistence=2)
        for step in (0, 1, 1, 1):
            held.watch(step, START if step == 0 else {**START, "entropy": 0.0})
        assert not held.stopped


@pytest.mark.parametrize(
    "options",
    [
        {"entropy_floor": 0.0},
        {"entropy_floor": 1.0},
        {"length_limit": 1.0},
        {"truncated_limit": 1.5},
        {"persistence": 0},
    ],
)
def test_limits_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GuardConfig(**options)


class TestKeepingTheLast:
    def test_the_last_probe_is_kept_while_nothing_is_amiss(self) -> None:
        held = guard(keep="last", patience=1)
        for number, agreement in enumerate((0.5, 0.75, 0.7, 0.7)):
            held.add(10 * number, {"agreement": agreement})
        assert (held.best_step, held.stopped) == (30, False)
        assert held.steps_to_hold == {10, 30}
        assert held.explain() == "agreement 0.700, the last, kept since nothing was amiss, of 4 probes"

    def test_an_alarm_brings_back_the_best(self) -> None:
        held = guard(keep="last", agreement_drop=0.1, prompts=10_000)
        for number, agreement in enumerate((0.5, 0.75, 0.5)):
            held.add(10 * number, {"agreement": agreement})
        assert held.stopped
        assert held.best_step == 10
        assert "step 10 is kept: agreement 0.750, the best of 3 probes" in held.explain()
