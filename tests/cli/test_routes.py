"""Keys of a training that a recipe does not do are refused, with the key that does something."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rlsf.cli.options import RecipeOptions
from rlsf.errors import InputError


@pytest.mark.parametrize(
    ("recipe", "key", "instead"),
    [
        ("rise-introspection", "training.rounds=2", "say introspection.rounds"),
        ("rise-introspection", "training.batch_size=4", "say introspection.training.batch_size"),
        ("rlif-self-certainty", "training.max_steps=4", "say online.max_steps"),
        ("drr", "training.epochs=4", "say acceptance.training.epochs"),
        ("rc-rm", "training.epochs=4", "say reward_model.epochs"),
        ("rlif-self-certainty", "training.use_weight=true", "see the keys of online in `rlsf run --recipe"),
    ],
)
def test_keys_of_another_training_are_refused(recipe: str, key: str, instead: str) -> None:
    name = key.partition("=")[0]
    with pytest.raises(InputError, match=rf"^{name} has no effect: recipe {recipe} learns .*: {re.escape(instead)}"):
        RecipeOptions(recipe=recipe).resolve((key,))


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        ("rlsf", "training.rounds", 2),
        ("rise-introspection", "introspection.rounds", 2),
        ("drr", "acceptance.rounds", 2),
    ],
)
def test_keys_of_its_own_change_a_recipe(recipe: str, key: str, value: int) -> None:
    found: Any = RecipeOptions(recipe=recipe).resolve((f"{key}={value}",))
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
