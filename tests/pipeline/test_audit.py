"""Audits of the bundled model: what is measured and kept, and one model against itself, which nothing tells apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rlsf.audit import FEATURES, recover_linear
from rlsf.audit.result import Audit, verdict
from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR, write_data
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.models.reward_model import load_reward_model
from rlsf.recipes import resolve
from rlsf.rewards.reward_model import RewardModelScore
from rlsf.scoring.reward_scores import reward_scores

SMALL = {
    "sampling": {"max_new_tokens": 48, "workers": 1, "shard_prompts": 16},
    "evaluation": {"bootstrap": 100},
}
#: Dotted overrides of the same.
OVERRIDES = (
    *("--sampling.max-new-tokens", "48", "--sampling.workers", "1", "--sampling.shard-prompts", "16"),
    *("--evaluation.bootstrap", "100", "--audit.bootstrap", "40", "--audit.model.max-steps", "6"),
    *("--audit.model.batch-size", "8", "--audit.model.learning-rate", "0.001", "--audit.question-traces", "2"),
)
Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_data(tmp_path_factory.mktemp("data"), self_training=60, test=16, seed=5)


@pytest.fixture(scope="module")
def longer(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, trained on the longest of six of its own traces for other questions."""
    from rlsf.demo.tasks import generate
    from rlsf.prompts import render
    from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
    from rlsf.training.policy import save_policy

    config = ModelConfig(path=str(MODEL_DIR), device="cpu", dtype="float32")
    model, tokenizer = load_model(config), load_tokenizer(config)
    requests = [
        SamplingRequest(p.id, render(p.prompt.without_gold(), tokenizer, resolve().render).token_ids)
        for p in generate("train", 64, seed=9)
    ]
    sampling = SamplingConfig(strategy="sampling", branches=6, max_new_tokens=48)
    groups = list(TransformersEngine(model, tokenizer).sample(requests, sampling))
    ended = [[trace for trace in group if not trace.truncated] for group in groups]
    longest = [max(group, key=lambda trace: len(trace.token_ids)) for group in ended if group]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4)
    for _ in range(2):
        for trace in longest:
            ids = torch.tensor([[*trace.prompt_token_ids, *trace.token_ids]], dtype=torch.int64)
            labels = ids.clone()
            labels[:, : len(trace.prompt_token_ids)] = -100
            optimiser.zero_grad()
            model(ids, labels=labels).loss.backward()
            optimiser.step()
    folder = tmp_path_factory.mktemp("longer") / "policy"
    save_policy(model.eval(), tokenizer, folder, dtype=None)
    return folder


@pytest.fixture(scope="module")
def command(data: tuple[Path, Path]) -> Command:
    prompts, questions = data

    def build(after: Path, output: Path, *more: str) -> list[str]:
        models = ["--before", str(MODEL_DIR), "--after", str(after), "--prompts", str(prompts)]
        return ["audit", *models, "--eval-data", str(questions), "--output", str(output), *OVERRIDES, *more]

    return build


@pytest.fixture(scope="module")
def audited(longer: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited") / "audit"
    assert execute(command(longer, folder)) == 0
    return folder


def read(folder: Path) -> Audit:
    return Audit.model_validate_json((folder / "audit.json").read_text())


def test_what_an_audit_counts(audited: Path, longer: Path) -> None:
    found = read(audited)
    assert (found.prompts, found.held_out_prompts, found.pairs) == (60, 18, 60)
    assert (found.before, found.after, found.same_model) == (str(MODEL_DIR), str(longer), False)
    assert found.differences["tokens"].after > found.differences["tokens"].before + 3
    assert found.linear is not None
    assert set(found.linear.coefficients) | set(found.linear.constant) == set(FEATURES)
    assert found.separation.keys() == {"features", "model"}
    assert verdict(found).startswith("Held-out pairs are told apart by the features ")


def test_the_spread_and_the_baselines_are_there(audited: Path) -> None:
    found = read(audited)
    assert len(found.separation["features"].spread.values) == 3
    assert found.separation["features"].spread.values[0] == pytest.approx(found.separation["features"].pairs.accuracy)
    assert {"features", "model", "tokens", "answer_disparity"} <= set(found.correctness)
    both = found.correctness["features"]["both"]
    assert both.traces == 2 * 2 * 16
    assert all(low <= high for low, high in found.coefficient_ranges.values())


def test_no_reward_is_measured_on_prompts_that_it_was_fitted_to(audited: Path) -> None:
    pairs = pq.read_table(audited / "pairs.parquet").to_pylist()
    held_out = [pair for pair in pairs if pair["held_out"]]
    assert not {pair["prompt_id"] for pair in held_out} & {p["prompt_id"] for p in pairs if not p["held_out"]}
    right = sum(0.5 + 0.5 * _sign(pair["chosen_reward"] - pair["rejected_reward"]) for pair in held_out)
    assert read(audited).separation["features"].pairs.accuracy == pytest.approx(right / len(held_out))
    columns = {name: [pair for pair in pairs if not pair["held_out"]] for name in FEATURES}
    chosen, rejected = (
        {name: np.array([pair[f"{side}_{name}"] for pair in rows]) for name, rows in columns.items()}
        for side in ("chosen", "rejected")
    )
    again = recover_linear(chosen, rejected, [p["prompt_id"] for p in pairs if not p["held_out"]], resamples=0)
    linear = read(audited).linear
    assert linear is not None
    assert {name: found.value for name, found in again.coefficients.items()} == pytest.approx(
        {name: found.value for name, found in linear.coefficients.items()}
    )
    manifest = json.loads((audited / "checkpoints" / "reward-model" / "manifest.json").read_text())
    differ = [pair for pair in pairs if not pair["held_out"] and pair["chosen_ids"] != pair["rejected_ids"]]
    assert manifest["counts"]["pairs"] == len(differ)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def test_the_reward_model_serves_other_trainings_and_the_command_that_measures(
    audited: Path, tmp_path: Path, capsys: Any
) -> None:
    path = audited / "reward_model"
    recipe = resolve("rlsf-online", None, {"online": {"rewards": {"reward_model": {"path": str(path)}}}})
    assert recipe.online is not None
    chosen = recipe.online.rewards.reward_model
    assert chosen is not None
    assert chosen.path == str(path)
    pairs = pq.read_table(audited / "pairs.parquet").to_pylist()[:3]
    plain, white = (
        RewardModelScore(path, tokenizer=load_tokenizer(ModelConfig(path=str(MODEL_DIR))), normalise=how)
        for how in ("none", "whiten")
    )
    ids = [pair["chosen_ids"] for pair in pairs], [pair["prompt_ids"] for pair in pairs]
    model = load_reward_model(ModelConfig(path=str(path), device="cpu"))
    expected = reward_scores(model, [pair["prompt_ids"] + pair["chosen_ids"] for pair in pairs])
    assert plain(*ids) == pytest.approx(expected, abs=1e-5)
    assert white(*ids) == pytest.approx([(r - white.mean) / white.deviation for r in expected], abs=1e-4)
    bench = tmp_path / "pairs.jsonl"
    bench.write_text(json.dumps({"prompt": "What is 1 + 1?", "chosen": "It is 2.", "rejected": "3"}) + "\n")
    assert execute(["eval", "--reward-model", str(path), "--data", str(bench)]) == 0
    assert "1 pair of 1 prompt:" in capsys.readouterr().out


def test_a_resumed_audit_is_the_same_and_other_settings_are_refused(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (audited / "audit.json").read_bytes()
    pairs = (audited / "pairs.parquet").read_bytes()
    (audited / "audit.json").unlink()
    assert execute(["audit", "--resume", "--output", str(audited)]) == 0
    assert (audited / "audit.json").read_bytes() == before
    assert (audited / "pairs.parquet").read_bytes() == pairs
    shown = capsys.readouterr()
    assert "reward model: " not in shown.err, "nothing was trained again"
    assert "After shorter, %" in shown.out, "a file or a pipe has every row on one line"
    assert execute(["audit", "--resume", "--output", str(audited), "--audit.objective", "logistic"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "begun with other settings (audit.objective: 'hinge' -> 'logistic')" in message
    assert execute(["audit", "--output", str(audited), "--before", str(MODEL_DIR), "--after", str(MODEL_DIR)]) == 2


@pytest.fixture(scope="module")
def against_itself(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Audit]:
    def build(*more: str) -> Audit:
        folder = tmp_path_factory.mktemp("itself") / "audit"
        assert execute(command(MODEL_DIR, folder, *more)) == 0
        return read(folder)

    return build


def test_one_model_against_itself_is_told_apart_by_chance(
    against_itself: Callable[..., Audit], capsys: pytest.CaptureFixture[str]
) -> None:
    """About one half, within three standard errors of 72 pairs of 18 prompts."""
    found = against_itself("-n", "4", "--audit.rewards", "features")
    assert "both models are one" in " ".join(capsys.readouterr().err.split())
    assert found.same_model
    assert found.pairs == 240
    assert found.separation["features"].pairs.accuracy == pytest.approx(0.5, abs=0.18)
    said = verdict(found)
    assert said.startswith("Both models are one: there is nothing to recover, and held-out pairs are told apart in ")
    assert said.endswith("where 50 % is chance."), "what a reward of noise says of right and wrong is not told"
    other = found.model_copy(update={"same_model": False})
    assert verdict(other).startswith("Held-out pairs are told apart by the features no better than chance (")
    assert verdict(other).endswith("nothing shows what was rewarded, and the weights are those of chance.")


def test_greedy_traces_of_one_model_are_the_same(against_itself: Callable[..., Audit]) -> None:
    found = against_itself("--greedy")
    assert found.identical == found.pairs == 60
    assert found.separation.keys() == {"features"}, "a reward model has nothing to learn from"
    assert found.separation["features"].pairs.accuracy == 0.5
    assert found.linear is not None
    assert all(one.value == 0 for one in found.linear.coefficients.values())
    nothing = found.model_copy(update={"separation": {}})
    assert verdict(nothing) == "Both models are one: there is nothing to recover."
    assert "wrote the same traces" in verdict(nothing.model_copy(update={"same_model": False}))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--audit.objectiv", "hinge"), "unknown key 'audit.objectiv' (did you mean 'objective'?)"),
        (("--audit.ridge", "0"), "audit.ridge=0: input should be greater than 0"),
        (("--greedy", "-n", "2"), "audit.traces=2: greedy decoding gives one trace a prompt"),
        (("--audit.model.use-margin", "true"), "audit.model.use_margin means nothing in an audit"),
        (("--prompts.limit", "2"), "2 prompts leave none to hold out"),
        (("--model", "x"), "an audit has two models: say --before x --after MODEL"),
        (("--model.path=x",), "an audit has two models: say --before x --after MODEL"),
    ],
)
def test_mistakes(
    more: tuple[str, ...], message: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(command(MODEL_DIR, tmp_path / "audit", *more)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "audit").exists()


def test_models_of_different_vocabularies_are_refused(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(MODEL_DIR)))
    tokenizer.add_tokens(["<new>"])
    other = tmp_path / "other"
    load_model(ModelConfig(path=str(MODEL_DIR))).save_pretrained(other)
    tokenizer.save_pretrained(other)
    assert execute(command(other, tmp_path / "audit")) == 2
    assert f"{other} has another vocabulary than" in " ".join(capsys.readouterr().err.split())


def test_weights_that_are_not_there_are_missed_before_anything_is_sampled(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in MODEL_DIR.glob("*.json"):
        shutil.copy(path, empty)
    assert execute(command(empty, tmp_path / "audit")) == 2
    assert f"{empty} has no weights" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "audit").exists()


def test_help_lists_the_two_models_and_no_third(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["audit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--before", "--after", "--prompts", "--eval-data", "--recipe"))
    assert "--model STR" not in shown
    assert "to learn from" not in shown


def test_both_models_must_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["audit", "--before", str(MODEL_DIR), "--output", str(tmp_path / "audit")]) == 2
    assert "say both models: --before MODEL --after MODEL" in " ".join(capsys.readouterr().err.split())
    assert execute(["audit", "--resume"]) == 2
    capsys.readouterr()
    assert execute(["audit", "--resume", "--output", str(tmp_path / "none")]) == 2
    assert f"nothing to resume: {tmp_path / 'none'} is not the folder of an audit" in capsys.readouterr().err
