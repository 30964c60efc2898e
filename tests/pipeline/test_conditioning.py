"""Ranked pairs to comparisons of prompts that a length limit tells apart: the stage, and what learns from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from run_files import events, manifest

from rlsf.errors import InputError
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.conditioning import condition_stage, limited_prompts, numbers_of_pairs
from rlsf.pipeline.context import Run
from rlsf.pipeline.length_bias import measure_length_bias
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.ranking import CONFIDENCE_SCHEMA
from rlsf.pipeline.reward_modelling import own_reward_model, reward_model_stage, split_pairs
from rlsf.pipeline.training import train_stage
from rlsf.preferences import PREFERENCE_SCHEMA
from rlsf.preferences.length_instructions import LengthLimit, word_count
from rlsf.prompts import render
from rlsf.recipes import Recipe
from rlsf.scoring.reward_scores import reward_scores

Build = Callable[..., Recipe]
Open = Callable[..., Run]

CONDITIONED = ("--conditioning.minimum_words", "3")
REWARD_MODEL = ("--reward_model.max_steps", "2", "--reward_model.batch_size", "4", "--reward_model.held_out", "0.25")
PLAIN_STEPS = ("--training.max_steps", "2", "--training.selection.enabled", "false")


@pytest.fixture
def ranked(small_recipe: Build, open_run: Open, tmp_path: Path) -> Callable[..., Run]:
    """A function from overrides to a run whose pairs are ranked: a worked solution over a direct answer, and back."""

    def build(*overrides: str) -> Run:
        run = open_run(small_recipe(*overrides), tmp_path / "run")
        rows = [_pair(run, number) for number in range(len(run.prompts))]
        folder = run.folder.preferences(1)
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=PREFERENCE_SCHEMA), folder / "pairs.parquet")
        pq.write_table(pa.Table.from_pylist([], schema=CONFIDENCE_SCHEMA), folder / "confidences.parquet")
        Manifest("rank", {}, {"pairs": len(rows)}).write(folder)
        return run

    return build


def _pair(run: Run, number: int) -> dict[str, Any]:
    prompt = run.prompts[number]
    rendered = render(prompt, run.tokenizer, run.recipe.render)
    texts = [" First, 23 + 15 = 38. 38 - 4 = 34. So the answer is 34.", " The answer is 34."]
    row: dict[str, Any] = {
        "prompt": rendered.text,
        "prompt_ids": rendered.token_ids,
        "prompt_id": prompt.id,
        "margin": 1.5,
    }
    for side, text, confidence in zip(
        ("chosen", "rejected"), texts[:: -1 if number % 3 else 1], (0.9, 0.4), strict=True
    ):
        ids = [*run.tokenizer(text)["input_ids"], run.tokenizer.eos_token_id]
        row |= {side: text, f"{side}_ids": ids, f"{side}_confidence": confidence}
        row[f"{side}_trace_id"] = f"{prompt.id}#{int(side == 'rejected')}"
    return row


def test_the_stage(ranked: Callable[..., Run]) -> None:
    with ranked(*CONDITIONED) as run:
        made = condition_stage(run, 1)
        pairs = pq.read_table(run.folder.conditioned(1) / "pairs.parquet")
        assert made.counts["comparisons"] == 2 * made.counts["pairs"] == pairs.num_rows * 2 // 3 > 0
        assert condition_stage(run, 1).digest == made.digest
        config = run.recipe.conditioning
        assert config is not None
        questions = {prompt.id: prompt for prompt in run.prompts}
        for row in pairs.to_pylist():
            if row["part"] == "ordinary":
                assert row["prompt_ids"] == row["rejected_prompt_ids"]
                continue
            limit = LengthLimit(row["limit_kind"], row["limit_words"])
            assert limit.kept_by(word_count(row["chosen"])) == (row["part"] == "rejected")
            side = "rejected_prompt" if row["part"] == "chosen" else "prompt"
            # The text is the prompt's own with the sentence before the question, and the ids are those of the text.
            question = questions[row["prompt_id"]].question
            asked = row[side].replace(limit.asked_of(question, config), question)
            assert asked == row["prompt" if side == "rejected_prompt" else "rejected_prompt"] != row[side]
            assert row[f"{side}_ids"] == run.tokenizer(row[side])["input_ids"]
    assert [event["comparisons"] for event in events(run.folder.path) if event["event"] == "conditioning"] == [
        made.counts["comparisons"]
    ]


def test_pairs_too_short_stay_ordinary(ranked: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    with ranked("--conditioning.minimum_words", "10") as run:
        warnings: list[str] = []
        monkeypatch.setattr(type(run.progress), "warn", lambda _, text: warnings.append(text))
        counts = condition_stage(run, 1).counts
        assert (counts["too_short"], counts["comparisons"]) == (counts["pairs"], 0)
        assert "minimum_words=10 words and stay ordinary pairs; where that is most of them, lower it" in warnings[0]


def test_preferences_are_learned_from_all_of_them(ranked: Callable[..., Run]) -> None:
    with ranked(*CONDITIONED, *PLAIN_STEPS, "--training.likelihood", "joint", "--training.nll_weight", "0") as run:
        train_stage(run, 1)
        assert manifest(run.folder.path, "checkpoints/round-1")["counts"]["pairs"] == 3 * len(run.prompts)
        assert (run.folder.policy / "model.safetensors").exists()


def test_a_reward_model_learns_from_all_and_is_measured_on_ranked_pairs(ranked: Callable[..., Run]) -> None:
    with ranked(*CONDITIONED, *REWARD_MODEL) as run:
        reward_model_stage(run)
        table = pq.read_table(run.folder.preferences(1) / "pairs.parquet")
        learned_from, kept_out = split_pairs(table, 0.25, run.recipe.seed)
        counts = manifest(run.folder.path, "checkpoints/reward-model")["counts"]
        assert (counts["pairs"], counts["held_out_pairs"]) == (3 * learned_from.num_rows, kept_out.num_rows)
        found = json.loads((run.folder.reward_model / "evaluation.json").read_text())
        assert found["pairs"] == found["length_bias"]["pairs"] == kept_out.num_rows > 0
        assert found["accuracy"] == pytest.approx(found["length_bias"]["accuracy"]["accuracy"])
        own = own_reward_model(run)
        assert own is not None
        _check_length_accuracy(run, load_reward_model(own), kept_out, found["length_bias"])


def _check_length_accuracy(run: Run, model: Any, pairs: pa.Table, found: dict[str, Any]) -> None:
    """By hand: 4 and 16 words are parted by at most 9 and by at least 10."""
    config, prompts = run.recipe.conditioning, {prompt.id: prompt for prompt in run.prompts}
    assert config is not None
    limited = limited_prompts(run.prompts, run.tokenizer, run.recipe.render, config)
    right = {"at_most": 0.0, "at_least": 0.0}
    for row in pairs.to_pylist():
        short, long = sorted(("chosen", "rejected"), key=lambda side, row=row: word_count(row[side]))
        assert (word_count(row[short]), word_count(row[long])) == (4, 16)
        for limit, kept, broken in (
            (LengthLimit("at_most", 9), short, long),
            (LengthLimit("at_least", 10), long, short),
        ):
            assert prompts[row["prompt_id"]].question in limited(row["prompt_id"], limit)[0]
            ids = list(limited(row["prompt_id"], limit)[1])
            rewards = reward_scores(model, [[*ids, *row[f"{side}_ids"]] for side in (kept, broken)])
            right[limit.kind] += (rewards[0] > rewards[1]) / pairs.num_rows
    assert found["length_accuracy"]["accuracy"] == pytest.approx(sum(right.values()) / 2)
    again = measure_length_bias(model, pairs, config, limited, numbers_of_pairs(1), resamples=10)
    assert again.length_accuracy is not None
    assert again.length_accuracy.accuracy == found["length_accuracy"]["accuracy"]


def test_what_cannot_learn_from_it_is_refused(small_recipe: Build) -> None:
    with pytest.raises((InputError, ValidationError), match=r"training\.use_weight weighs pairs by a gap"):
        small_recipe(*CONDITIONED, "--training.use_weight", "true")
    with pytest.raises((InputError, ValidationError), match="conditioning makes pairs that nothing learns from"):
        small_recipe(*CONDITIONED, name="intuitor")
