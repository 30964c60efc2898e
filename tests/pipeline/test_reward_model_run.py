"""RLSF's reward-model route end to end on the bundled model, and what is measured of the reward model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_files import events, manifest, weights

from rlsf.cli.app import execute
from rlsf.demo.settings import demo_settings
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_tokenizer
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.context import Run
from rlsf.pipeline.online import online_stage
from rlsf.pipeline.ranking import rank_stage
from rlsf.pipeline.reward_bench import evaluate_reward_model, read_pair
from rlsf.pipeline.reward_modelling import reward_model_stage, score_pairs, split_pairs
from rlsf.pipeline.run import run_all, sample_round
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.fields import Row
from rlsf.recipes import Recipe, resolve
from rlsf.recipes.resolve import merge, parse_overrides
from rlsf.scoring.reward_scores import reward_scores

Build = Callable[..., Recipe]
Open = Callable[..., Run]

SMALL = {
    "sampling": {"branches": 4, "max_new_tokens": 48, "workers": 1, "shard_prompts": 8},
    "evaluation": {"bootstrap": 100},
    "ranking": {"threshold": 0.0},
    "reward_model": {"max_steps": 6, "batch_size": 4, "save_every": 2, "held_out": 0.25},
    "online": {
        "max_steps": 2,
        "prompts_per_step": 2,
        "num_generations": 4,
        "max_completion_length": 48,
        "device_batch_size": None,
        "save_every": 1,
        "guard": {"prompts": 4, "every": 1},
    },
}


@pytest.fixture(scope="module")
def reward_recipe(labelled_data: tuple[Path, Path]) -> Build:
    from rlsf.demo import MODEL_DIR

    questions, test = labelled_data
    data = {
        "model": {"path": str(MODEL_DIR)},
        "prompts": {"path": str(questions)},
        "evaluation_data": {"path": str(test)},
    }

    def build(*overrides: str) -> Recipe:
        settings = merge(merge(demo_settings("rlsf-rm"), SMALL), data)
        return resolve("rlsf-rm", None, merge(settings, parse_overrides(overrides)))

    return build


@pytest.fixture(scope="module")
def whole(reward_recipe: Build, open_run: Open, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: sample, rank, reward model, online."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with open_run(reward_recipe(), folder) as run:
        assert run_all(run) is not None
    return folder


def learn(run: Run) -> None:
    sample_round(run, 1)
    rank_stage(run, 1)
    reward_model_stage(run)
    online_stage(run)


def test_a_run_leaves_a_reward_model_and_a_policy(whole: Path) -> None:
    measured = events(whole)
    assert [event["step"] for event in measured if event["event"] == "reward_model"] == [1, 2, 3, 4, 5, 6]
    assert [event["step"] for event in measured if event["event"] == "training"] == [1, 2]
    phases = [event.get("phase") for event in measured if event["event"] == "sampling"]
    assert phases == ["evaluate before", "sample", "evaluate after"], (
        "the guard has the traces that the pairs came from"
    )
    assert all("rewards/RewardModelScore/mean" in event for event in measured if event["event"] == "training")
    evaluation = json.loads((whole / "reward_model" / "evaluation.json").read_text())
    counts = manifest(whole, "checkpoints/reward-model")["counts"]
    assert evaluation["pairs"] == counts["held_out_pairs"] > 0
    ranked = pq.read_table(whole / "preferences" / "round-1" / "pairs.parquet").num_rows
    assert counts["pairs"] + counts["too_long"] == ranked - counts["held_out_pairs"], "it learns from the others alone"
    assert evaluation["accuracy"] == counts["accuracy"]
    assert weights(whole, "reward_model").keys() >= {"score.weight"}
    assert (whole / "report.html").read_text().count('id="reward-model"') == 1


def test_what_is_measured_are_the_held_out_pairs_as_the_saved_model_scores_them(whole: Path) -> None:
    pairs = pq.read_table(whole / "preferences" / "round-1" / "pairs.parquet")
    learned_from, kept_out = split_pairs(pairs, 0.25, seed=0)
    assert not {*learned_from["prompt_id"].to_pylist()} & {*kept_out["prompt_id"].to_pylist()}
    model = load_reward_model(ModelConfig(path=str(whole / "reward_model"), device="cpu"))
    right = 0.0
    for row in kept_out.to_pylist():
        chosen, rejected = reward_scores(
            model, [row["prompt_ids"] + row["chosen_ids"], row["prompt_ids"] + row["rejected_ids"]]
        )
        right += chosen > rejected
    evaluation = json.loads((whole / "reward_model" / "evaluation.json").read_text())
    assert evaluation["accuracy"] == pytest.approx(right / kept_out.num_rows)
    scored = score_pairs(model, kept_out.to_pylist())
    assert [pair.chosen_tokens for pair in scored] == [len(ids) for ids in kept_out["chosen_ids"].to_pylist()]


def test_interrupted_between_and_in_the_stages(
    whole: Path, reward_recipe: Build, open_run: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    class Stop(Exception):
        pass

    def stopping(run: Run) -> None:
        record = run.metrics.record

        def stop(event: Any) -> None:
            record(event)
            if event.get("event") == "reward_model" and event["step"] == 5:
                raise Stop

        monkeypatch.setattr(run.metrics, "record", stop)

    with open_run(reward_recipe(), folder) as run:
        stopping(run)
        with pytest.raises(Stop):
            learn(run)
    assert not (folder / "reward_model").exists()
    with open_run(reward_recipe(), folder, resume=True) as run:
        learn(run)
    assert weights(folder, "reward_model") == weights(whole, "reward_model")
    assert weights(folder) == weights(whole)
    before = (folder / "reward_model" / "model.safetensors").stat().st_mtime_ns
    with open_run(reward_recipe(), folder, resume=True) as run:
        learn(run)
    assert (folder / "reward_model" / "model.safetensors").stat().st_mtime_ns == before


def test_other_pairs_another_reward_model(whole: Path, reward_recipe: Build, open_run: Open, tmp_path: Path) -> None:
    """And optimised against by clipped GRPO, with two passes over each batch, where `whole` takes RLOO."""
    folder = tmp_path / "run"
    every_two = ("online.num_iterations=2", "online.save_every=2", "online.guard.every=2")
    changes = ("reward_model.use_margin=false", "online.algorithm=grpo", *every_two)
    with open_run(reward_recipe(*changes), folder) as run:
        learn(run)
    assert weights(folder, "reward_model") != weights(whole, "reward_model")
    steps = [event for event in events(folder) if event["event"] == "training"]
    assert ["clip_ratio/region_mean" in event for event in steps] == [True, True]
    assert "rewards/RewardModelScore/mean" in steps[0]
    (folder / "checkpoints" / "reward-model" / "manifest.json").unlink()
    with (
        open_run(reward_recipe(*changes), folder, resume=True) as run,
        pytest.raises(InputError, match="stage 'reward model' is not finished"),
    ):
        online_stage(run)


def test_a_reward_model_alone(reward_recipe: Build, open_run: Open, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with open_run(reward_recipe("online=null", "reward_model.held_out=0", "evaluation.modes=[greedy]"), folder) as run:
        summary = run_all(run)
    assert summary is not None
    assert summary["after"] is None
    assert (folder / "reward_model" / "model.safetensors").is_file()
    assert not (folder / "policy").exists()
    assert not (folder / "reward_model" / "evaluation.json").exists()
    assert (folder / "report.html").exists()


def test_sections_that_do_not_fit_together() -> None:
    for overrides, message in (
        (["reward_model=null"], r"online\.rewards\.reward_model has no reward model to score by"),
        (["online.rewards.reward_model=null", "online.rewards.self_certainty.weight=1"], "that nothing scores by"),
        (["online.rewards.reward_model.path=other"], "that nothing scores by"),
    ):
        with pytest.raises(InputError, match=message):
            resolve("rlsf-rm", None, parse_overrides(overrides))
    recipe = resolve("rlsf-rm", None, parse_overrides(["online.rewards.reward_model.path=other", "reward_model=null"]))
    assert recipe.reward_model is None


def test_prompts_are_held_out_by_their_ids_alone() -> None:
    table = pa.table({"prompt_id": [f"q{n % 10}" for n in range(40)], "number": list(range(40))})
    inside, outside = split_pairs(table, 0.3, seed=3)
    assert inside.num_rows + outside.num_rows == 40
    assert len(set(outside["prompt_id"].to_pylist())) == 3
    turned = table.take(list(range(39, -1, -1)))
    assert set(split_pairs(turned, 0.3, seed=3)[1]["prompt_id"].to_pylist()) == set(outside["prompt_id"].to_pylist())
    assert set(split_pairs(table, 0.3, seed=4)[1]["prompt_id"].to_pylist()) != set(outside["prompt_id"].to_pylist())
    larger = set(split_pairs(table, 0.5, seed=3)[1]["prompt_id"].to_pylist())
    assert set(outside["prompt_id"].to_pylist()) < larger
    assert split_pairs(table, 0.0, seed=3)[1].num_rows == 0


# Pairs of texts


def bench(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "bench.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


PAIR = {"prompt": "What is 1 + 1?", "chosen": "1 + 1 = 2. The answer is 2.", "rejected": "The answer is 3."}


def test_texts_become_what_the_policy_would_have_read_and_written(whole: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(whole / "reward_model")))
    pair = read_pair(Row("file:1", {**PAIR, "subset": "sums"}), tokenizer, RenderConfig())
    assert pair["subset"] == "sums"
    said = tokenizer.decode(pair["prompt_ids"] + pair["chosen_ids"])
    assert said.endswith("A: 1 + 1 = 2. The answer is 2." + tokenizer.eos_token)
    assert pair["rejected_ids"][-1] == tokenizer.eos_token_id


def test_pairs_of_one_prompt_are_those_with_its_text(whole: Path) -> None:
    """Ids of a benchmark may start anew in each subset, or differ among pairs of one prompt."""
    tokenizer = load_tokenizer(ModelConfig(path=str(whole / "reward_model")))
    rows = [{**PAIR, "id": 0}, {**PAIR, "id": 1}, {**PAIR, "id": 1, "prompt": "What is 2 + 2?"}]
    first, again, other = (read_pair(Row("f:1", row), tokenizer, RenderConfig())["prompt_id"] for row in rows)
    assert first == again != other


def test_a_benchmark_may_be_any_file_of_rows(whole: Path, tmp_path: Path) -> None:
    """RewardBench's own columns, as Parquet, JSON lines and CSV."""
    models = {"chosen_model": "a", "rejected_model": "b"}
    rows = [{**PAIR, **models, "subset": name, "id": 1, "prompt": f"What is {name} + 1?"} for name in "123"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bench.parquet")
    names = [*rows[0]]
    lines = [names, *([row[name] for name in names] for row in rows)]
    (tmp_path / "bench.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    model = ModelConfig(path=str(whole / "reward_model"))
    expected = evaluate_reward_model(model, bench(tmp_path, *rows), bins=4, resamples=20)
    assert (expected.accuracy.pairs, expected.accuracy.prompts, [*expected.accuracy.by_subset]) == (3, 3, [*"123"])
    for suffix in ("parquet", "csv"):
        assert evaluate_reward_model(model, tmp_path / f"bench.{suffix}", bins=4, resamples=20) == expected
    assert max(point.upper - point.lower for point in expected.accuracy.reliability) == 0.25


def test_a_benchmark_by_the_function_and_by_the_command(whole: Path, tmp_path: Path, capsys: Any) -> None:
    long = {**PAIR, "chosen": "1 + 1 " * 400, "subset": "long"}
    data = bench(tmp_path, {**PAIR, "subset": "a"}, {**PAIR, "subset": "b", "id": 7}, long)
    found = evaluate_reward_model(ModelConfig(path=str(whole / "reward_model")), data, resamples=20)
    assert (found.accuracy.pairs, found.too_long) == (2, 1)
    assert set(found.accuracy.by_subset) == {"a", "b"}
    output = tmp_path / "out"
    command = ["eval", "--reward-model", str(whole / "reward_model"), "--data", str(data), "--output", str(output)]
    assert execute(command) == 0
    shown = capsys.readouterr().out
    assert "2 pairs of 1 prompt:" in shown
    assert "1 pair left out" in shown
    assert "Chosen longer by, tokens" in shown
    assert f"\n+{found.accuracy.by_difference[0].least} " in shown, "one difference is told once"
    assert json.loads((output / "reward_evaluation.json").read_text())["accuracy"] == found.accuracy.accuracy


def test_mistakes_in_a_benchmark(whole: Path, tmp_path: Path) -> None:
    model = ModelConfig(path=str(whole / "reward_model"))
    for row, message in (
        ({"prompt": "x", "chosen": "y"}, r"bench\.jsonl:1: no column 'rejected'"),
        ({**PAIR, "chosen": [{"role": "user"}]}, r"bench\.jsonl:1: 'chosen' is no text but list: give the text"),
        ({**PAIR, "rejected": " "}, r"bench\.jsonl:1: 'rejected' is empty: give its text, or leave the pair out"),
        ({**PAIR, "chosen": "1 " * 3000}, "none of 1 pairs fits the reward model's context"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_reward_model(model, bench(tmp_path, row))
    with pytest.raises(InputError, match="no such file"):
        evaluate_reward_model(model, tmp_path / "absent.jsonl")
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(InputError, match=r"none\.json: no pairs in it: give rows with prompt, chosen, rejected"):
        evaluate_reward_model(model, tmp_path / "none.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no pairs to measure the reward model on: say --data"),
        (("--data", "DATA", "--resume"), "leave out --resume and workers"),
        (("--data", "DATA", "--workers", "2"), "leave out --resume and workers"),
        (("--data", "DATA", "--prompts", "DATA"), "--prompts: nothing is learned here"),
        (("--data", "DATA", "--eval-data", "OTHER"), "mean the same: say one of them"),
        (("--data", "DATA", "--model", "x"), "a reward model is measured alone"),
    ],
)
def test_options_that_would_be_passed_over(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bench(tmp_path, PAIR)
    other = data.with_name("other.jsonl")
    other.write_bytes(data.read_bytes())
    said = [{"DATA": str(data), "OTHER": str(other)}.get(option, option) for option in options]
    assert execute(["eval", "--reward-model", "any", *said]) == 2
    assert message in capsys.readouterr().err
