"""An online run as the report sees it: a policy that grows surer while it departs from its earlier self."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rlsf.report.inputs import CheckpointChoice, ReportInputs, RolloutCounts

STEPS, KEPT = 40, 20
REASON = (
    "stopped at step 40: entropy is 0.02 nats a token, limit 0.05: hardly more than one completion is sampled (in a"
    " probe); step 20 is kept: agreement 0.620, the best of 5 probes"
)


def online_inputs(
    inputs: ReportInputs, *, rewards: dict[str, Any] | None = None, algorithm: str = "grpo"
) -> ReportInputs:
    """``inputs`` with online training in place of preferences."""
    data = inputs.recipe.model_dump(mode="json")
    online = {"rewards": rewards or {"self_certainty": {}}, "algorithm": algorithm, "prompts_per_step": 2}
    recipe = type(inputs.recipe).model_validate({**data, "recipe": "intuitor", "online": online})
    return dataclasses.replace(
        inputs,
        recipe=recipe,
        rounds=(),
        rollouts=RolloutCounts(prompts=80, completions=640, steps=STEPS),
        checkpoints=(CheckpointChoice(STEPS, KEPT, REASON, learning_rate=3e-5, stopped=STEPS),),
        events=(*_events(), {"event": "run", "seconds": 61.0}),
    )


def _events() -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    events: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        done, noise = step / STEPS, float(rng.normal(0, 0.02))
        events.append(
            {
                **{"event": "training", "round": 1, "step": step, "entropy": 0.5 - 0.4 * done, "loss": noise},
                **{"reward": 17 + 3 * done + noise, "rewards/SelfCertainty/mean": 17 + 3 * done + noise},
                **{"reward_std": 1.1 - 0.9 * done + noise, "frac_reward_zero_std": 0.6 * done},
                **{"rollouts/entropy": 0.5 - 0.45 * done, "rollouts/mean_tokens": 14 + 30 * done},
                **{"rollouts/group_agreement": 0.5 + 0.4 * done, "rollouts/commonest_answer": 0.2 + 0.5 * done},
                **{"rollouts/without_answer": 0.2, "rollouts/truncated": 0.1 * done, "rollouts/repetition": 0.2 * done},
            }
        )
    probes = ((0, 0.55, 0.45), (10, 0.58, 0.5), (20, 0.62, 0.6), (30, 0.4, 0.8), (40, 0.2, 0.93))
    for step, agreement, confidence in probes:
        probe = {"agreement": agreement, "confidence": confidence, "entropy": 0.5, "mean_tokens": 9.0}
        events.append({"event": "probe", "round": 1, "step": step, **probe})
    return events
