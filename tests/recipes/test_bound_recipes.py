"""The recipes that are there to compare others with."""

from __future__ import annotations

import pytest
import yaml

from rlsf.recipes import RECIPES, differences, recipe_card, resolve
from rlsf.recipes.resolve import flatten
from rlsf.rewards.config import RewardsConfig, RewardSection

BOUNDS = {"grpo-gold", "sft-majority", "random-pairs"}


def test_what_kind_each_recipe_is() -> None:
    assert {name for name, card in RECIPES.items() if card.kind == "bound"} == BOUNDS
    assert {name for name, card in RECIPES.items() if card.kind == "labelled"} == {"rlcr", "nft", "rise-verify", "drr"}
    for name, card in RECIPES.items():
        if card.kind != "bound":
            assert (card.kind == "labelled") == card.needs_labels == resolve(name).needs_labels


def test_random_pairs_are_rlsf_without_confidence() -> None:
    one, other = (resolve(name).model_dump() for name in ("rlsf", "random-pairs"))
    assert differences(one, other) == [
        "ranking.order: 'confidence' -> 'random'",
        "recipe: 'rlsf' -> 'random-pairs'",
        "training.selection.enabled: True -> False",
    ]


def test_right_answers_are_all_that_the_upper_bound_learns_from() -> None:
    recipe = resolve("grpo-gold")
    assert recipe.online is not None
    assert recipe.label_readers == ["online.rewards.correctness"]
    assert recipe.online.rewards == RewardsConfig(correctness=RewardSection())
    published = {
        **{"algorithm": "grpo", "num_generations": 64, "max_completion_length": 1024, "learning_rate": 1e-6},
        **{"beta": 0.04, "steps_per_rollout": 1, "num_iterations": 1, "scale_rewards": "group", "loss_type": "grpo"},
    }
    settings = dict(flatten(recipe.online.model_dump()))
    assert {key: settings[key] for key in published} == published
    assert recipe.online.completions_per_step == 1024


def test_the_majority_is_learned_as_published() -> None:
    introspection = resolve("sft-majority").introspection
    assert introspection is not None
    assert (introspection.samples, introspection.temperature, introspection.training.batch_size) == ((32,), 0.7, 32)
    assert (introspection.reward, introspection.attempts, introspection.drop_duplicates) == ("majority", "all", False)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_what_matters_is_written_out(name: str) -> None:
    # What is not named in a recipe's file would follow our defaults when they change.
    written = dict(flatten(yaml.safe_load(recipe_card(name).yaml)))
    for key in {
        "grpo-gold": ("online.temperature", "online.epsilon", "online.epochs", "online.lr_scheduler_type"),
        "sft-majority": ("introspection.training.tau", "introspection.select", "introspection.training.learning_rate"),
        "random-pairs": ("ranking.threshold", "training.nll_weight"),
    }[name]:
        assert key in written, key
