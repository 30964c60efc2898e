"""The score of a reward model as a reward of TRL's online trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policy import tiny_model, tiny_tokenizer

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.models import ModelConfig
from rlsf.models.reward_model import with_reward_head
from rlsf.rewards import RewardModelScore
from rlsf.rewards.build import build_rewards
from rlsf.rewards.config import RewardsConfig

PROMPTS = [[2, 3], [2, 3], [4, 5, 6], [4, 5, 6]]
COMPLETIONS = [[7, 8, 1], [9], [10, 11, 12, 13, 1], [0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reward model with a random head, its tokenizer, and what was measured of it."""
    model: Any = with_reward_head(tiny_model(), seed=5)
    model.save_pretrained(tmp_path / "reward_model")
    tiny_tokenizer().save_pretrained(tmp_path / "reward_model")
    (tmp_path / "reward_model" / "evaluation.json").write_text(json.dumps({"reward_mean": 0.5, "reward_deviation": 2}))
    return tmp_path / "reward_model"


def by_hand() -> list[float]:
    model: Any = with_reward_head(tiny_model(), seed=5)
    with torch.no_grad():
        return [
            (model.model(torch.tensor([prompt + said])).last_hidden_state[0, -1] @ model.score.weight[0]).item()
            for prompt, said in zip(PROMPTS, COMPLETIONS, strict=True)
        ]


def test_the_score_at_the_last_token_of_prompt_and_completion(folder: Path) -> None:
    score = RewardModelScore(folder, tokenizer=tiny_tokenizer())
    found = score(prompts=["a"] * 4, completions=["b"] * 4, completion_ids=COMPLETIONS, prompt_ids=PROMPTS)
    assert found == pytest.approx(by_hand(), abs=1e-5)
    assert not score.model.training
    assert len(set(found)) == 4


def test_whitened_by_what_was_measured(folder: Path) -> None:
    score = RewardModelScore(str(folder), normalise="whiten")
    assert score(completion_ids=COMPLETIONS, prompt_ids=PROMPTS) == pytest.approx(
        [(value - 0.5) / 2 for value in by_hand()], abs=1e-5
    )


def test_of_a_recipe(folder: Path, tmp_path: Path) -> None:
    def build(own: ModelConfig | None, **section: Any) -> Any:
        return build_rewards(
            RewardsConfig.model_validate({"reward_model": section}),
            tokenizer=tiny_tokenizer(),
            answer=AnswerConfig(),
            num_generations=2,
            reward_model=own,
        )["reward_model"]

    own = ModelConfig(path=str(folder))
    assert build(own).config == own
    assert build(own, normalise="whiten").deviation == 2
    elsewhere = ModelConfig(path=str(tmp_path), device="cpu")
    assert build(elsewhere, path=str(folder)).config == ModelConfig(path=str(folder), device="cpu")
    assert build(None, path=str(folder)).config.path == str(folder)
    with pytest.raises(InputError, match=r"has no reward model to score by: set online\.rewards\.reward_model\.path"):
        build(None)


def test_refusals(folder: Path) -> None:
    with pytest.raises(InputError, match="give the training data a column 'prompt_ids'"):
        RewardModelScore(folder)(completion_ids=COMPLETIONS)
    with pytest.raises(InputError, match="normalise='mean': use none or whiten"):
        RewardModelScore(folder, normalise="mean")  # pyright: ignore[reportArgumentType]
    other = tiny_tokenizer()
    other.add_tokens(["more"])
    with pytest.raises(InputError, match="has another vocabulary than the policy"):
        RewardModelScore(folder, tokenizer=other)
    (folder / "evaluation.json").write_text(json.dumps({"reward_mean": 0.5, "reward_deviation": 0}))
    with pytest.raises(InputError, match="all rewards are equal"):
        RewardModelScore(folder, normalise="whiten")
    (folder / "evaluation.json").unlink()
    with pytest.raises(InputError, match=r"evaluation\.json is missing, which normalise=whiten"):
        RewardModelScore(folder, normalise="whiten")
