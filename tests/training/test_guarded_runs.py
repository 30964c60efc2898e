"""Whole runs under the guard: what a resumed one decides, and that a healthy one is left alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collapse import LIMITS, PAST, START
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsf.training.guard import Guard
from rlsf.training.guard_config import GuardConfig

# A run that is resumed

SIGNS = st.fixed_dictionaries(
    {},
    optional={
        sign: st.sampled_from([past, inside]) for sign, past, inside in PAST if sign not in ("mean_tokens", "truncated")
    }
    | {"mean_tokens": st.sampled_from([20.0, 96.0, 400.0]), "truncated": st.sampled_from([0.25, 1.0, math.nan])},
)
PROBES = st.builds(
    lambda agreement, confidence, signs: {**START, **signs, "agreement": agreement, "confidence": confidence},
    st.sampled_from([0.25, 0.4, 0.5, 0.55, 0.6]),
    st.sampled_from([0.7, 0.8]),
    SIGNS,
)


def lived(held: Guard, events: list[tuple[str, int, dict[str, float]]]) -> list[Any]:
    """What the guard decides after each event, until training stops."""
    decisions = []
    for kind, step, signs in events:
        if held.stopped:
            break
        if kind == "probe":
            decisions.append(held.add(step, signs))
        else:
            held.watch(step, signs)
        decisions.append((held.stopped, held.best_step, held.explain()))
    return decisions


@settings(max_examples=25, deadline=None)
@given(st.lists(SIGNS, min_size=1, max_size=12), st.lists(PROBES, min_size=12, max_size=12), st.integers(1, 3))
def test_a_resumed_run_decides_the_same_at_every_cut(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[dict[str, float]],
    probes: list[dict[str, float]],
    persistence: int,
) -> None:
    events: list[tuple[str, int, dict[str, float]]] = []
    for step, signs in enumerate(batches):
        if step % 3 == 0:
            events.append(("probe", step, probes[step]))
        events.append(("rollouts", step, {**START, **signs} if step else START))
    config = GuardConfig(patience=3, persistence=persistence, **LIMITS)
    whole = Guard(config)
    expected = lived(whole, events)
    folder = tmp_path_factory.mktemp("cut")
    for cut in range(len(events) + 1):
        before = Guard(config)
        decisions = lived(before, events[:cut])
        before.save(folder)
        after = Guard.load(config, folder)
        assert after == before
        assert decisions + lived(after, events[cut:]) == expected
        assert after == whole


def test_no_checkpoint_no_state(tmp_path: Path) -> None:
    assert Guard.load(GuardConfig(), None) == Guard(GuardConfig())
    assert Guard.load(GuardConfig(), tmp_path).best_step is None


# Healthy trainings, with the noise of what is measured


def healthy(seed: int, *, prompts: int = 16, probed: int = 64, steps: int = 200) -> Guard:
    """A training that works, seen through batches of few prompts: entropy to a fifth, four times the length, groups
    that come to agree, and probes of which half of the prompts are answered anew each time, with a fixed chance that
    rises."""
    random = np.random.default_rng(seed)
    held = Guard(GuardConfig(patience=None))
    fixed, order = random.random(probed), random.random(probed)
    for step in range(steps + 1):
        learnt = 1 - math.exp(-step / 40)
        if step % held.config.every == 0:
            chance = 0.55 + 0.15 * learnt
            luck = np.where(order < 0.5, fixed, random.random(probed))
            measured = {"mean_tokens": 40 * (1 + 3 * learnt), "entropy": 0.3 * (1 - 0.8 * learnt)}
            held.add(step, {**measured, "agreement": float((luck < chance).mean()), "confidence": 0.6 + 0.3 * learnt})
        answers = random.integers(0, 4, prompts)
        signs = {
            "entropy": 0.5 * (1 - 0.8 * learnt) * random.lognormal(0, 0.15),
            "mean_tokens": 60 * (1 + 2 * learnt) * random.lognormal(0, 0.1),
            "truncated": random.binomial(8 * prompts, 0.1 + 0.2 * learnt) / (8 * prompts),
            "repetition": random.normal(0.1 + 0.05 * learnt, 0.02),
            "without_answer": random.binomial(8 * prompts, 0.3 * (1 - learnt)) / (8 * prompts),
            "commonest_answer": np.bincount(answers).max() / prompts,
            "zero_variance": random.binomial(prompts, 0.2 + 0.6 * learnt) / prompts,
        }
        held.watch(step, signs)
    return held


def test_a_healthy_training_rings_no_alarm() -> None:
    """Nothing but the drop of agreement, and that in less than one training of a hundred (21 probes each)."""
    alarms = [held.alarm for held in map(healthy, range(200)) if held.alarm is not None]
    assert {alarm.sign for alarm in alarms} <= {"confidence"}
    assert len(alarms) <= 2


def test_the_noise_of_the_simulation_would_ring_a_drop_of_a_tenth() -> None:
    """Without the allowance for few prompts most of the same trainings would be stopped."""
    probes = [[probe["agreement"] for probe in healthy(seed).probes] for seed in range(50)]
    falls = [max(max(seen[:place]) - seen[place] for place in range(1, len(seen))) for seen in probes]
    assert sum(fall >= 0.1 for fall in falls) > 25
