"""Published methods as data, and how a run's recipe is resolved."""

from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import RECIPES, RecipeCard, recipe_card
from rlsf.recipes.resolve import differences, parse_overrides, resolve, to_yaml

__all__ = ["RECIPES", "Recipe", "RecipeCard", "differences", "parse_overrides", "recipe_card", "resolve", "to_yaml"]
