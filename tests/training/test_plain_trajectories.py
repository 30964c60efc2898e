"""Objectives that TRL lacks take the steps of a plain PyTorch loop, which shares no code with the trainer.

Reward-weighted supervised learning has its own such test in ``test_weighted_sft``, a reward model's in
``test_reward_model``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from test_trl_parity import STEPS, our_run
from tiny_policy import tiny_model, tiny_pairs

BETA = 0.3
BATCH = 6
#: Small enough that steps do not blow up the rounding of float32, against float64 here.
LEARNING_RATE = 0.05
#: As the trainer's: gradients as they are, at one rate.
TRAINER = {
    **{"train_sampling_strategy": "sequential", "optim": "sgd", "save_strategy": "no"},
    **{"lr_scheduler_type": "constant", "max_grad_norm": 1e9},
}


def conditioned_pairs() -> pa.Table:
    """Ordinary pairs, then each with its two comparisons of prompts, the second at half the weight."""
    rows = []
    for number, pair in enumerate(tiny_pairs(6).to_pylist()):
        plain, limited = pair["prompt_ids"], [30 + number, 29, *pair["prompt_ids"]]
        rows += [
            {**pair, "rejected_prompt_ids": plain, "weight": 1.0},
            {**pair, "rejected_ids": pair["chosen_ids"], "rejected_prompt_ids": limited, "weight": 1.0},
            {**pair, "chosen_ids": pair["rejected_ids"], "prompt_ids": limited, "rejected_prompt_ids": plain},
        ]
        rows[-1]["weight"] = 0.5
    return pa.Table.from_pylist(rows)


def edge_pairs() -> pa.Table:
    """Pairs of no gap, of one trace on both sides, of a trace and its beginning, and of traces of one token."""
    rows = tiny_pairs(6).to_pylist()
    rows[0]["chosen_confidence"] = rows[0]["rejected_confidence"]
    rows[1]["rejected_ids"] = rows[1]["chosen_ids"]
    rows[2]["rejected_ids"] = rows[2]["chosen_ids"][:-1]
    rows[3]["chosen_ids"], rows[4]["rejected_ids"] = [1], [5]
    return pa.Table.from_pylist(rows)


def weights(rows: list[dict[str, Any]], *, by_gap: bool) -> list[float]:
    """A pair's own weight, and that of its gap in confidence over the mean gap of the data."""
    gaps = [row["chosen_confidence"] - row["rejected_confidence"] for row in rows]
    mean = sum(gaps) / len(gaps)
    return [row.get("weight", 1.0) * (gap / mean if by_gap else 1.0) for row, gap in zip(rows, gaps, strict=True)]


def logprob(model: Any, prompt: list[int], trace: list[int], joint: bool) -> torch.Tensor:
    """sum_t log p(y_t | y_<t) over the trace, or over prompt and trace but for the first token; one row, no padding."""
    ids = [*prompt, *trace]
    each = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    places = range(0 if joint else len(prompt) - 1, len(ids) - 1)
    return torch.stack([each[place, ids[place + 1]] for place in places]).sum()


def places_of(step: int, rows: int) -> range:
    """The rows of a step, in their order; an epoch's last step has those that are left."""
    first = step % math.ceil(rows / BATCH) * BATCH
    return range(first, min(first + BATCH, rows))


def plain_run(pairs: pa.Table, **settings: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The loss written out pair by pair in float64, and theta <- theta - rate x gradient."""
    model, reference, rows = tiny_model().double(), tiny_model().double(), pairs.to_pylist()
    joint, smoothing = settings.get("likelihood") == "joint", settings.get("label_smoothing", 0.0)
    ipo = settings.get("loss") == "ipo"
    scale = settings.get("margin_scale", 1.0) if settings.get("use_margin") else 0.0
    weighed = weights(rows, by_gap=settings.get("use_weight", False))
    losses = []
    for step in range(STEPS):
        places = places_of(step, len(rows))
        total = torch.zeros((), dtype=torch.float64)
        for row, weight in ((rows[place], weighed[place]) for place in places):
            other_prompt = row.get("rejected_prompt_ids", row["prompt_ids"])
            sides = (row["prompt_ids"], row["chosen_ids"]), (other_prompt, row["rejected_ids"])
            chosen, rejected = (logprob(model, *side, joint) for side in sides)
            with torch.no_grad():
                start = [logprob(reference, *side, joint) for side in sides]
            ratios = chosen - start[0], rejected - start[1]
            z = BETA * (ratios[0] - ratios[1]) - scale * row["margin"]
            right, wrong = torch.log(1 + torch.exp(-z)), torch.log(1 + torch.exp(z))
            preference = (1 - smoothing) * right + smoothing * wrong
            if ipo:
                h = ratios[0] / len(row["chosen_ids"]) - ratios[1] / len(row["rejected_ids"])
                preference = (h - 1 / (2 * BETA)) ** 2
            total = total + weight * preference
            total = total - settings.get("nll_weight", 0.0) * chosen / len(row["chosen_ids"])
        loss = total / len(places)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= LEARNING_RATE * parameter.grad
        losses.append(loss.detach().item())
    return losses, {name: value.detach() for name, value in model.named_parameters()}


@pytest.mark.parametrize(
    ("pairs", "settings"),
    [
        pytest.param(tiny_pairs(18), {"label_smoothing": 0.2}, id="cDPO"),
        pytest.param(tiny_pairs(18), {"use_margin": True, "margin_scale": 1.5}, id="ODPO offset"),
        pytest.param(tiny_pairs(18), {"use_weight": True}, id="weight"),
        pytest.param(
            tiny_pairs(18),
            {"label_smoothing": 0.1, "use_margin": True, "use_weight": True, "nll_weight": 0.7},
            id="all with NLL",
        ),
        pytest.param(tiny_pairs(18), {"loss": "ipo", "use_weight": True, "nll_weight": 0.3}, id="IPO, weight and NLL"),
        pytest.param(
            edge_pairs(), {"use_weight": True, "label_smoothing": 0.1}, id="no gap, one trace twice, one token"
        ),
        pytest.param(
            tiny_pairs(15),  # the third step has three: a pass of two, and one of a single pair
            {"use_margin": True, "use_weight": True, "nll_weight": 0.7, "device_batch_size": 2},
            id="passes of different sizes",
        ),
        pytest.param(conditioned_pairs(), {"likelihood": "conditional"}, id="Rc-DPO conditional"),
        pytest.param(conditioned_pairs(), {"likelihood": "joint"}, id="Rc-DPO joint"),
    ],
)
def test_steps_are_those_of_plain_pytorch(tmp_path: Path, pairs: pa.Table, settings: dict[str, Any]) -> None:
    ours = our_run(
        pairs, tmp_path, batch_size=BATCH, beta=BETA, learning_rate=LEARNING_RATE, trainer=TRAINER, **settings
    )
    losses, after = plain_run(pairs, **settings)
    assert ours[0] == pytest.approx(losses, abs=1e-5)
    moved = 0.0
    for (name, mine), (_, start) in zip(ours[1].model.named_parameters(), tiny_model().named_parameters(), strict=True):
        torch.testing.assert_close(mine.double(), after[name], atol=1e-5, rtol=0, msg=name)
        moved = max(moved, (mine - start).detach().abs().max().item())
    assert moved > 1e-2, "the steps are a thousand times as large"


def test_the_loop_starts_where_the_closed_form_says() -> None:
    """At the reference every z is 0: the loss is log 2."""
    assert plain_run(tiny_pairs(18))[0][0] == pytest.approx(math.log(2), abs=1e-12)
