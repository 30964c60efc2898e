"""What examples are remade for, who is asked, and from which policy each round trains; nothing is sampled here."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_sampled_dialogues import recipe_with, trace

import rlsf.training
from rlsf.introspection.attempts import Attempt, Turn
from rlsf.pipeline import introspection as stage
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.sampled_dialogues import SampledDialogues
from rlsf.prompts.prompt import Prompt
from rlsf.recipes import Recipe

PROMPTS = [Prompt(str(number), "How many?", gold="5") for number in range(20)]


def dialogues(*_: Any) -> SampledDialogues:
    attempt = Attempt(trace("1", 0, "0.5", "5"), 0.5, 1)
    return SampledDialogues([[Turn(attempt, (attempt,))]], ["sampled"])


def run_of(folder: Path, recipe: Recipe) -> Any:
    return SimpleNamespace(
        recipe=recipe,
        prompts=PROMPTS,
        folder=RunFolder(folder),
        metrics=SimpleNamespace(record=lambda event: None),
        policy_config=lambda round_: f"policy of round {round_}",
        model_to_train=lambda model: model,
        launcher=None,
        tokenizer=None,
        title=lambda title, round_: title,
    )


@pytest.mark.parametrize(
    ("reward", "gold_matters", "signal_matters"),
    [("gold", True, False), ("confidence", False, True), ("majority", False, False)],
)
def test_examples_are_remade_for_what_decides_their_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reward: str, gold_matters: bool, signal_matters: bool
) -> None:
    monkeypatch.setattr(stage, "sample_dialogues", dialogues)
    recipe = recipe_with(f"introspection.reward={reward}")
    other_gold = [dataclasses.replace(prompt, gold="6") for prompt in PROMPTS]
    other_signal = recipe_with(f"introspection.reward={reward}", "signal=answer_disparity")
    other_turns = recipe_with(f"introspection.reward={reward}", "introspection.turns=3")
    other_rule = recipe_with(f"introspection.reward={reward}", "introspection.select=best")
    first, gold, signal, turns, rule = (
        stage.examples_stage(run_of(tmp_path / str(number), settings), 1, prompts).digest
        for number, (settings, prompts) in enumerate(
            [
                *((recipe, PROMPTS), (recipe, other_gold), (other_signal, PROMPTS)),
                *((other_turns, PROMPTS), (other_rule, PROMPTS)),
            ]
        )
    )
    assert (gold != first, signal != first) == (gold_matters, signal_matters)
    assert (turns != first, rule != first) == (False, True), "turns are of inference alone"


def test_held_out_prompts_hold_no_dialogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    kept: list[str] = []
    monkeypatch.setattr(stage, "examples_stage", lambda run, round_, prompts: asked.extend(one.id for one in prompts))
    monkeypatch.setattr(stage, "train_stage", lambda run, round_, examples, kept_out: kept.extend(kept_out))
    stage.introspection_stage.__wrapped__(run_of(tmp_path, recipe_with()), 1)  # type: ignore[attr-defined]
    assert len(kept) == len(PROMPTS) // 5
    assert sorted(asked + kept) == sorted(prompt.id for prompt in PROMPTS)


def test_a_round_trains_the_policy_of_the_round_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(stage, "sample_dialogues", dialogues)
    monkeypatch.setattr(stage, "probe_targets", lambda *_: {})
    monkeypatch.setattr(rlsf.training, "train_weighted", lambda **arguments: given.update(arguments))
    run = run_of(tmp_path, recipe_with())
    run.progress = SimpleNamespace(stage=lambda *_: nullcontext(lambda done: None))
    stage.examples_stage(run, 2, PROMPTS)
    stage.train_on_examples(run, 2)
    assert given["model"] == "policy of round 2"
    (rewarded,) = given["examples"]
    assert rewarded.reward == 0.5
    assert list(rewarded.example.completion_ids) == trace("1", 0, "0.5").token_ids.tolist()
    assert given["policy_folder"] == run.folder.round_policy(2, 2)
