"""The recipes against length bias keep the settings of their paper, as far as it states them."""

from __future__ import annotations

import pytest

from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.recipes import resolve
from rlsf.recipes.resolve import flatten

PUBLISHED = {
    "rc-rm": ("reward_model", {"learning_rate": 1e-5, "use_margin": False}),
    "rc-dpo": ("training", {"learning_rate": 1e-6, "loss": "sigmoid", "nll_weight": 0.0, "use_margin": False}),
}
OF_BOTH = {"epochs": 5.0, "batch_size": 64, "trainer.lr_scheduler_type": "cosine", "trainer.warmup_steps": 10}


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_keep_the_papers_settings(name: str) -> None:
    recipe = resolve(name)
    section, expected = PUBLISHED[name]
    settings = dict(flatten(recipe.model_dump()[section]))
    for key, value in {**expected, **OF_BOTH}.items():
        assert settings[key] == value, key
    assert recipe.online is None
    assert not recipe.needs_labels


def test_they_learn_from_the_same_pairs() -> None:
    first, second = (resolve(name) for name in PUBLISHED)
    assert first.conditioning == second.conditioning == LengthConditioningConfig()
    assert (first.sampling, first.signal, first.ranking) == (second.sampling, second.signal, second.ranking)
    assert second.training.likelihood == "conditional"
