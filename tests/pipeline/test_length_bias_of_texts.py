"""Length bias on pairs of texts: the same figures by hand, and what the command shows of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.models.reward_model import load_reward_model, with_reward_head
from rlsf.pipeline.reward_bench import evaluate_reward_model, read_pair
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.length_instructions import limits_between, word_count
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.fields import Row
from rlsf.scoring.reward_scores import reward_scores

SHORT, LONG = "The answer is 2.", "First, 1 + 1 = 2. So the answer is 2."
#: Two prompts; an answer stands in two pairs of the first.
ROWS = [
    {"prompt": "What is 1 + 1?", "chosen": LONG, "rejected": SHORT},
    {"prompt": "What is 1 + 1?", "chosen": "It is surely more than 1.", "rejected": SHORT},
    {"prompt": "What is 2 + 0?", "chosen": SHORT, "rejected": LONG},
]
LIMITS = LengthConditioningConfig(minimum_words=3)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model under a head that has learned nothing."""
    folder = tmp_path_factory.mktemp("reward") / "model"
    base = ModelConfig(path=str(MODEL_DIR), device="cpu", dtype="float32")
    with_reward_head(load_model(base), seed=3).save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def rewards_of(model: ModelConfig, *texts: tuple[str, str]) -> list[float]:
    """Of prompts with answers."""
    tokenizer = load_tokenizer(model)
    rows = (Row("x", {"prompt": prompt, "chosen": answer, "rejected": answer}) for prompt, answer in texts)
    pairs = [read_pair(row, tokenizer, RenderConfig()) for row in rows]
    return reward_scores(load_reward_model(model), [[*pair["prompt_ids"], *pair["chosen_ids"]] for pair in pairs])


def test_the_limits_stand_before_the_question(reward_model: Path, data: Path) -> None:
    model = ModelConfig(path=str(reward_model), device="cpu")
    bias = evaluate_reward_model(model, data, None, LIMITS, resamples=5).length_bias
    assert bias.limit_accuracy is not None
    assert bias.limit_accuracy.pairs == 4 * 5, "five answers, each under four limits"
    assert bias.trained_accuracy is not None
    assert bias.trained_accuracy.pairs == 2 * len(ROWS)
    assert bias.longer_chosen == pytest.approx(2 / 3)
    right = {"at_most": 0.0, "at_least": 0.0}
    for row in ROWS:
        short, long = sorted((row["chosen"], row["rejected"]), key=word_count)
        for limit, order in zip(
            limits_between(word_count(short), word_count(long)), ((short, long), (long, short)), strict=True
        ):
            asked = limit.asked_of(row["prompt"], LIMITS)
            kept, broken = rewards_of(model, *((asked, answer) for answer in order))
            right[limit.kind] += (kept > broken) / len(ROWS)
    assert bias.length_accuracy is not None
    assert bias.length_accuracy.accuracy == pytest.approx(sum(right.values()) / 2)


def test_the_command_shows_and_writes_them(reward_model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    command = ["eval", "--reward-model", str(reward_model), "--data", str(data), "--model.device", "cpu"]
    assert execute([*command, "--conditioning.minimum-words", "3", "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "out" / "reward_evaluation.json").read_text())["length_bias"]
    for name, key in (
        ("shorter and longer alike", "balanced"),
        ("answer that keeps a limit", "length_accuracy"),
        ("limit that an answer keeps", "limit_accuracy"),
        ("the same, as in training", "trained_accuracy"),
    ):
        (line,) = (line for line in lines if line.startswith(name))
        assert line[len(name) :].split()[:2] == [str(written[key]["pairs"]), f"{100 * written[key]['accuracy']:.1f}"]
