"""Runs under a budget, one of each kind of learning: what they spend, recounted, and that a resume spends the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from run_files import manifest, rows, weights
from small_settings import SMALL, SMALL_ONLINE, on_bundled_model

from rlsf.demo.settings import demo_settings
from rlsf.errors import InputError
from rlsf.pipeline import budgeting
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.metrics import MetricsLog
from rlsf.pipeline.run import learn, warm_up
from rlsf.pipeline.spent import read_spent
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge, parse_overrides

Build = Callable[..., Recipe]
Open = Callable[..., Run]

#: Tokens of six attempts of 64, the most that a prompt of these runs may take.
OF_PROMPT = 6 * 64
REWARD_MODEL = ("reward_model.max_steps=4", "reward_model.batch_size=4", "reward_model.save_every=2")
#: Of each kind of learning: the recipe, its options, and caps that cut it short.
KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, int]]] = {
    "preferences": ("rlsf-trace", ("training.rounds=2",), {"generated_tokens": 3600, "training_tokens": 3000}),
    "judged": ("core-po", (), {"generated_tokens": 4200, "training_tokens": 1500}),
    "reward model": ("rlsf-rm", REWARD_MODEL, {"generated_tokens": 2600, "training_tokens": 3400}),
    "online": ("rlif-self-certainty", (), {"generated_tokens": 2100, "training_tokens": 1800}),
    "negative-aware": ("nft", (), {"generated_tokens": 3000, "training_tokens": 2500}),
    "warm-up": (
        "rise-verify",
        ("online.warm_up.steps=3",),
        {"generated_tokens": 3000, "training_tokens": 6000},
    ),
    "dialogues": ("rise-introspection", (), {"generated_tokens": 7500, "training_tokens": 3500}),
    "attempts": ("drr", (), {"generated_tokens": 700, "training_tokens": 1600}),
}


@pytest.fixture(scope="module")
def built(labelled_data: tuple[Path, Path]) -> Build:
    """A function from the name of a kind, overrides and caps to its small recipe on the bundled model."""

    def build(kind: str, *overrides: str, caps: Mapping[str, int] | None = None) -> Recipe:
        name, own, usual = KINDS[kind]
        small = SMALL if resolve(name).online is None else SMALL_ONLINE
        settings = merge(merge(demo_settings(name), small), on_bundled_model(*labelled_data))
        layer = merge(settings, parse_overrides([*own, *overrides]))
        return resolve(name, None, merge(layer, {"budget": dict(usual if caps is None else caps)}))

    return build


def learned(run: Run) -> dict[str, float]:
    """What learning spent, without what depends on the clock."""
    with run:
        warm_up(run)
        learn(run)
        spent = asdict(read_spent(run.folder))
    assert spent.pop("seconds_learning") > 0
    assert spent.pop("seconds_measuring") == 0
    return spent


def recounted(folder: Path) -> int:
    """Tokens in tables of traces, in completions of online training, and in answers of probes."""
    tables = rows(folder, "traces/**/*.parquet") | rows(folder, "checkpoints/warm-up/traces/*.parquet")
    tokens = sum(len(row["token_ids"]) for table in tables.values() for row in table)
    events = MetricsLog(folder / "metrics.jsonl").events()
    tokens += sum(event["written_tokens"] for event in events if event["event"] == "probe")
    lengths = [event for event in events if event["event"] == "training" and "completions/mean_length" in event]
    per_rollout = {"rlif-self-certainty": 8, "rlsf-rm": 8, "rise-verify": 8, "nft": 16}
    recipe = resolve(None, folder / "recipe.yaml")
    return tokens + round(sum(event["completions/mean_length"] * per_rollout[recipe.recipe] for event in lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_caps_hold_and_the_same_is_counted_again(kind: str, tmp_path: Path, built: Build, open_run: Open) -> None:
    recipe = built(kind)
    spent = learned(open_run(recipe, tmp_path / "run"))
    for cap in ("generated_tokens", "training_tokens"):
        limit = getattr(recipe.budget, cap)
        assert limit / 4 < spent[cap] <= limit, cap
    assert spent["generated_tokens"] == recounted(tmp_path / "run")
    assert learned(open_run(recipe, tmp_path / "run", resume=True)) == spent


@pytest.mark.parametrize("kind", ["preferences", "dialogues", "attempts"])
def test_neither_workers_nor_batches_change_what_is_taken(
    kind: str, tmp_path: Path, built: Build, open_run: Open
) -> None:
    one = learned(open_run(built(kind), tmp_path / "one"))
    other = learned(open_run(built(kind, "sampling.workers=2", "sampling.batch_tokens=2000"), tmp_path / "other"))
    assert one == other
    first, second = (rows(tmp_path / name, "traces/**/*.parquet") for name in ("one", "other"))
    assert {place: [row["token_ids"] for row in table] for place, table in first.items()} == {
        place: [row["token_ids"] for row in table] for place, table in second.items()
    }


class Killed(BaseException):
    """In the place of a signal."""


@pytest.mark.parametrize("kind", ["preferences", "online", "dialogues"])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_run_spends_what_a_straight_one_does(
    kind: str, after: int, tmp_path: Path, built: Build, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = built(kind)
    straight = learned(open_run(recipe, tmp_path / "straight"))
    record, count = MetricsLog.record, 0

    def recorded(log: MetricsLog, event: Mapping[str, Any]) -> None:
        nonlocal count
        record(log, event)
        count += event["event"] != "time"
        if count == after:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MetricsLog, "record", recorded)
        learned(open_run(recipe, tmp_path / "cut"))
    assert learned(open_run(recipe, tmp_path / "cut", resume=True)) == straight
    assert weights(tmp_path / "cut") == weights(tmp_path / "straight")


def test_prompts_are_taken_in_their_order_and_rounds_share_the_cap(
    tmp_path: Path, built: Build, open_run: Open
) -> None:
    recipe = built("preferences", caps={"generated_tokens": 2800})
    run = open_run(recipe, tmp_path / "run")
    learned(run)
    asked = [prompt.id for prompt in run.prompts]
    tables = rows(tmp_path / "run", "traces/round-*/*.parquet")
    before = 0
    for round_ in (1, 2):
        sampled = [row for place, table in sorted(tables.items()) if f"round-{round_}" in place for row in table]
        ids = list(dict.fromkeys(row["prompt_id"] for row in sampled))
        tokens, reserve = sum(len(row["token_ids"]) for row in sampled), budgeting.PROBES_LEFT_FOR * 4 * 64
        allowed = manifest(tmp_path / "run", f"traces/round-{round_}")["inputs"]["generated_tokens"]
        assert ids == asked[: len(ids)]
        assert len(ids) < len(asked)
        assert tokens <= allowed < tokens + OF_PROMPT  # not one prompt more was sure to fit
        assert allowed == 1400 * round_ - reserve - before
        before = tokens + probed(tmp_path / "run")


def probed(folder: Path) -> int:
    """Tokens of the probes of the first round."""
    events = MetricsLog(folder / "metrics.jsonl").events()
    return sum(event["written_tokens"] for event in events if event["event"] == "probe" and event["round"] == 1)


def test_what_nothing_can_be_learned_from_is_refused_with_what_is_enough(
    tmp_path: Path, built: Build, open_run: Open
) -> None:
    enough = budgeting.PROBES_LEFT_FOR * 4 * 64 + OF_PROMPT
    told = f"^budget.generated_tokens={enough - 1} leaves .* set it to {enough} or more$"
    tight = ("training.rounds=1", "ranking.rule=best_versus_worst")
    with pytest.raises(InputError, match=told):
        learned(open_run(built("preferences", *tight, caps={"generated_tokens": enough - 1}), tmp_path / "less"))
    with pytest.raises(InputError, match=r"^budget\.training_tokens=5 leaves 5 tokens for the first optimiser step"):
        learned(open_run(built("attempts", caps={"training_tokens": 5}), tmp_path / "little"))


def test_without_a_budget_nothing_is_left_out(tmp_path: Path, built: Build, open_run: Open) -> None:
    run = open_run(built("dialogues", caps={}), tmp_path / "run")
    spent = learned(run)
    assert manifest(tmp_path / "run", "examples/round-1")["counts"]["prompts"] == len(run.prompts) - 4
    assert not list((tmp_path / "run" / "traces").rglob("wave-*"))
    assert spent["generated_tokens"] == recounted(tmp_path / "run")


def test_nothing_is_spent_before_a_run_begins(tmp_path: Path) -> None:
    assert set(asdict(read_spent(RunFolder(tmp_path / "nowhere"))).values()) == {0}
