"""What is compared: the recipe of every method, the seeds, and the file that keeps both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from rlsf.errors import InputError
from rlsf.evaluation.config import OF_SEVERAL, Mode
from rlsf.pipeline.folder import UNIMPORTANT_KEYS
from rlsf.prompts.config import PromptConfig
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import RECIPES, recipe_card
from rlsf.recipes.resolve import Layer, differences, flatten, merge, resolve

#: The model as given, where methods are counted by name.
BEFORE = "before"
#: The recipe whose way of asking and reading the model as given is measured by.
MEASURES = "rlsf"
#: In every section that trains a policy; not of reward models, which no question is asked.
_EVERY_CHECKPOINT: Layer = {
    "training": {"keep_checkpoints": "all"},
    "online": {"keep_checkpoints": "all"},
    "introspection": {"training": {"keep_checkpoints": "all"}},
}


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Methods by name, how the model as given is measured, and the seeds of the runs of each."""

    methods: Mapping[str, Recipe]
    start: Recipe
    seeds: tuple[int, ...]
    settings: Mapping[str, str]
    """What was set for all methods, by key of the recipe."""
    command: str = ""
    curve: bool = False
    """Whether every checkpoint of the runs is measured, for their cost curves."""

    def content(self) -> dict[str, Any]:
        """``comparison.yaml``; a plan with the same content makes the same runs."""
        return {
            "command": self.command,
            "settings": dict(self.settings),
            "recipes": list(self.methods),
            "seeds": list(self.seeds),
            "curve": self.curve,
            "start": self.start.model_dump(mode="json"),
            "methods": {name: recipe.model_dump(mode="json") for name, recipe in self.methods.items()},
        }

    def changed(self, content: Mapping[str, Any]) -> list[str]:
        """``key: old -> new`` where the plan that was kept as ``content`` is another one."""
        mine, content = self.content(), {"curve": False, **content}
        asked = differences(*({key: one[key] for key in ("recipes", "seeds", "curve")} for one in (content, mine)))
        if asked:
            return asked
        decisive = [{key: one[key] for key in ("start", "methods")} for one in (content, mine)]
        return [line for line in differences(*decisive) if not _within_recipe(line).startswith(UNIMPORTANT_KEYS)]


def _within_recipe(key: str) -> str:
    """``sampling.workers`` of ``methods.rlsf.sampling.workers`` and of ``start.sampling.workers``."""
    return key.split(".", 1 if key.startswith("start.") else 2)[-1]


def make_plan(
    names: Sequence[str],
    seeds: Sequence[int],
    base: Callable[[str], Layer],
    overrides: Layer,
    *,
    settings: Mapping[str, str] | None = None,
    command: str = "",
    curve: bool = False,
) -> Plan:
    """The methods called ``names``, each the shipped recipe under its ``base`` and under ``overrides``.

    Overrides of a section that a recipe has set to null do not reach it. For a ``curve`` all checkpoints of a policy
    are kept, unless something else is said of them. Raises ``InputError`` for a recipe without a policy, for an
    override that reaches none, and for settings that do not go together, each with its recipe.
    """
    for key, instead in (("seed", "--seeds"), ("recipe", "--recipes")):
        if key in overrides:
            raise InputError(f"--{key} is one of the things that are compared: say {instead}")
    methods, reached = {}, set[str]()
    for name in names:
        bare = resolve(name, None, base(name))
        fitting = fitting_overrides(overrides, bare)
        reached |= {key for key, _ in flatten(fitting)}
        kept = fitting_overrides(_EVERY_CHECKPOINT, bare) if curve else {}
        methods[name] = _resolved(name, merge(kept, merge(base(name), fitting)))
        require_policy(name, methods[name])
    for key, _ in flatten(overrides):
        if key and key not in reached:
            raise InputError(f"--{key} reaches none of {', '.join(names)}: each has a section above it set to null")
    start = _resolved(
        MEASURES, merge(base(BEFORE), fitting_overrides(overrides, resolve(MEASURES, None, base(BEFORE))))
    )
    said = {key: str(value) for key, value in flatten(overrides) if key} if settings is None else settings
    return Plan(methods, start.model_copy(update={"prompts": PromptConfig()}), tuple(seeds), said, command, curve)


def _resolved(name: str, layer: Layer) -> Recipe:
    try:
        recipe = resolve(name, None, layer)
    except InputError as error:
        raise InputError(f"recipe {name}: {error}") from error
    if recipe.acceptance is None and "greedy" not in recipe.evaluation.modes:
        raise InputError(f"recipe {name}: methods are compared by greedy decoding: leave greedy in evaluation.modes")
    if recipe.evaluation_data is None:
        raise InputError("nothing to measure on: say --data PRESET, or --eval-data FILE beside --prompts FILE")
    return recipe


def fitting_overrides(overrides: Mapping[str, Any], section: BaseModel) -> Layer:
    """``overrides`` without what is in sections that ``section`` has set to null."""
    fitting: Layer = {}
    for key, value in overrides.items():
        current = getattr(section, key, ...)
        if not isinstance(value, Mapping):
            fitting[key] = value
        elif isinstance(current, BaseModel):
            fitting[key] = fitting_overrides(value, current)
        elif current is not None:
            fitting[key] = value
    return {key: value for key, value in fitting.items() if value != {}}


def require_policy(name: str, recipe: Recipe) -> None:
    """Raise ``InputError`` for a recipe that neither trains a policy nor tries again."""
    if not has_policy(recipe):
        raise InputError(
            f"recipe {name} trains a reward model and no policy, which a comparison could ask: leave it out"
        )


def has_policy(recipe: Recipe) -> bool:
    """Whether a recipe trains a policy, or puts a loop around one."""
    return recipe.reward_model is None or recipe.online is not None


def what_is_compared(name: str) -> Layer:
    """Of the ways in which a recipe is measured those with one answer a question, as a layer: others are not compared.

    Sampling the K traces that they choose from takes longer than all else that is measured.
    """
    return {"evaluation": {"modes": [mode for mode in resolve(name).evaluation.modes if mode not in OF_SEVERAL]}}


def mode_of(recipe: Recipe) -> Mode:
    """How a method is measured: greedily, or by its loop where the policy stays as it is."""
    return "greedy" if recipe.acceptance is None else "retry"


def chosen_recipes(text: str) -> list[str]:
    """The names of ``rlsf,nft``, or of ``all``: every recipe with a policy. Raises ``InputError`` for unknown ones."""
    if text == "all":
        return [name for name in RECIPES if has_policy(resolve(name))]
    names = _parts(text)
    for name in names:
        recipe_card(name)
    return _once(names, "--recipes")


def chosen_seeds(text: str) -> list[int]:
    """0, 1 and 2 of ``3``; 0 and 5 of ``0,5``; 5 of ``5,``. Raises ``InputError`` for what is no number."""
    parts = _parts(text)
    wrong = next((part for part in parts if not part.isdecimal()), None)
    if wrong is not None or not parts or (parts == ["0"] and "," not in text):
        raise InputError(f"--seeds {text}: say how many (3), or which (0,5 or 5,)")
    return list(range(int(text))) if "," not in text else [int(part) for part in _once(parts, "--seeds")]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _once(parts: Iterable[str], option: str) -> list[str]:
    seen: list[str] = []
    for part in parts:
        if part in seen:
            raise InputError(f"{option}: {part} is there twice")
        seen.append(part)
    if not seen:
        raise InputError(f"{option} names nothing: say one,two")
    return seen
