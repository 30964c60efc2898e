"""Tokens of online trainings as they are sampled and read, and caps that no step may pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from online_runs import KINDS, Events, Interrupted, online_config, rows, train

from rlsf.errors import InputError
from rlsf.training.budget_config import BudgetConfig
from rlsf.training.rollouts import SeededRollouts
from rlsf.training.spending import Allowance, OnlineSpending

#: The longest of a step: 16 completions of 8 tokens, after prompts of at most 4.
SAMPLED, READ = 16 * 8, 16 * (8 + 4)
#: Whatever is sampled and read while a test looks.
Seen = dict[str, int]


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """What engines sample and passes read meanwhile, apart from all counting."""
    seen = {"generated": 0, "completions": 0, "read": 0}
    sample, prepare = SeededRollouts._sample, SeededRollouts._prepare_inputs

    def sampled(trainer: Any, *args: Any) -> Any:
        traces = sample(trainer, *args)
        seen["generated"] += sum(len(trace.token_ids) for trace in traces)
        seen["completions"] += len(traces)
        return traces

    def prepared(trainer: Any, batch: Any) -> Any:
        inputs = prepare(trainer, batch)
        seen["read"] += int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum())
        return inputs

    with monkeypatch.context() as patch:
        patch.setattr(SeededRollouts, "_sample", sampled)
        patch.setattr(SeededRollouts, "_prepare_inputs", prepared)
        yield seen


@pytest.mark.parametrize("kind", ["grpo", "rloo", "nft", "verification"])
def test_what_is_counted_is_what_is_sampled_and_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    with watched(monkeypatch) as seen:
        result = train(tmp_path, record=events, **KINDS[kind])
    assert (result.generated_tokens, result.completions) == (seen["generated"], seen["completions"])
    assert result.training_tokens == seen["read"] > 0
    last = events.told["training", result.steps]
    assert (last["generated_tokens"], last["training_tokens"]) == (result.generated_tokens, result.training_tokens)


def test_probes_count_and_selection_does_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events()
    with watched(monkeypatch) as seen:
        result = train(
            tmp_path, record=events, probe=lambda model, step: {"agreement": 0.5, "written_tokens": 100 + step}
        )
    assert [probe["step"] for probe in result.probes] == [0, 4, 6]
    assert result.generated_tokens == seen["generated"] + 100 + 104 + 106
    assert events.told["probe", 4]["written_tokens"] == 104
    assert all("written_tokens" not in probe for probe in result.probes)


@pytest.mark.parametrize("kind", ["grpo", "nft", "verification"])
@pytest.mark.parametrize("capped", ["generated_tokens", "training_tokens"])
def test_a_step_begins_where_its_longest_outcome_fits(
    tmp_path: Path, kind: str, capped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", **KINDS[kind])
    cap = getattr(whole, capped) * 3 // 4
    trainers: list[Any] = []
    lacks = OnlineSpending.lacks
    monkeypatch.setattr(
        OnlineSpending, "lacks", lambda self, trainer: (trainers.append(trainer), lacks(self, trainer))[1]
    )
    with watched(monkeypatch) as seen:
        result = capped_training(tmp_path / "capped", {capped: cap}, **KINDS[kind])
    spent = {"generated_tokens": seen["generated"], "training_tokens": seen["read"]}
    assert 0 < spent[capped] == getattr(result, capped) <= cap
    assert result.steps < whole.steps
    assert f"budget.{capped}" in result.reason
    spending, (generated, trained) = trainers[-1].spending, trainers[-1].spending.most_of_step(trainers[-1])
    assert spent[capped] + {"generated_tokens": generated, "training_tokens": trained}[capped] > cap
    assert spending.ended_by == capped


def capped_training(folder: Path, caps: dict[str, int], *, probe_tokens: int = 0, **changes: Any) -> Any:
    """A training that is always resumed, with a guard that probes."""
    return train(folder, resume=True, allowance=Allowance(**caps, probe_tokens=probe_tokens), **changes)


def test_a_capped_training_that_is_interrupted_spends_the_same(tmp_path: Path) -> None:
    caps = {"generated_tokens": 600}
    options: dict[str, Any] = {"save_every": 2, "guard": {**online_config().guard.model_dump(), "every": 2}}
    straight, events = Events(), Events(stop=3)
    whole = capped_training(tmp_path / "whole", caps, record=straight, epochs=5.0, **options)
    with pytest.raises(Interrupted):
        capped_training(tmp_path / "cut", caps, record=events, epochs=5.0, **options)
    events.stop = None
    again = capped_training(tmp_path / "cut", caps, record=events, epochs=5.0, **options)
    assert whole.steps > 3
    assert events.told == straight.told
    for name in ("steps", "best_step", "reason", "generated_tokens", "training_tokens", "completions"):
        assert getattr(again, name) == getattr(whole, name)
    probed: list[int] = []
    done = capped_training(tmp_path / "cut", caps, probed=probed, epochs=5.0, **options)
    assert (done.generated_tokens, done.steps, probed) == (whole.generated_tokens, whole.steps, [])


def test_the_end_is_probed_out_of_what_was_kept_for_it(tmp_path: Path) -> None:
    def probe(model: Any, step: int) -> dict[str, float]:
        return {"agreement": 0.1 * step, "written_tokens": 50}

    cap = 2 * SAMPLED + 3 * 50
    result = capped_training(tmp_path, {"generated_tokens": cap}, probe=probe, probe_tokens=50, epochs=9.0)
    assert result.probes[-1]["step"] == result.steps == result.best_step
    assert result.generated_tokens <= cap


@pytest.mark.parametrize(("kind", "enough"), [("generated_tokens", SAMPLED + 2 * 30), ("training_tokens", READ)])
def test_a_cap_below_the_first_step_is_refused_with_what_is_enough(tmp_path: Path, kind: str, enough: int) -> None:
    assert max(len(row["prompt_ids"]) for row in rows(online_config())) == 4
    allowed = Allowance(**{kind: enough - 1}, probe_tokens=30, budget=BudgetConfig(**{kind: enough - 1}))
    with pytest.raises(InputError, match=f"^budget.{kind}={enough - 1} leaves .* set it to {enough} or more$"):
        train(tmp_path / "less", allowance=allowed)
    allowed = Allowance(**{kind: enough}, probe_tokens=30)
    assert train(tmp_path / "enough", allowance=allowed).steps >= 1
