"""How a recipe learns, in words: the algorithm, its rewards, and whether it reads gold answers."""

from __future__ import annotations

from dataclasses import dataclass

from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import RECIPES


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A training algorithm by its short name, with the arXiv id of its paper."""

    name: str
    tag: str
    arxiv: str


_DPO = Algorithm("DPO", "dpo", "2305.18290")
_IPO = Algorithm("IPO", "ipo", "2310.12036")
_WEIGHTED = Algorithm("reward-weighted regression", "reward-weighted-regression", "2407.18219")
_MAJORITY = Algorithm("supervised fine-tuning", "sft", "2210.11610")
_ONLINE = {
    "grpo": Algorithm("GRPO", "grpo", "2402.03300"),
    "rloo": Algorithm("RLOO", "rloo", "2402.14740"),
    "nft": Algorithm("NFT", "nft", "2505.18116"),
}


def algorithm(recipe: Recipe) -> Algorithm:
    """What turns feedback into an update."""
    if recipe.online is not None:
        return _ONLINE[recipe.online.algorithm]
    if recipe.introspection is not None:
        return _MAJORITY if learns_the_majority(recipe) else _WEIGHTED
    return _IPO if recipe.training.loss == "ipo" else _DPO


def learns_the_majority(recipe: Recipe) -> bool:
    """Whether the samples of the majority's answer are learned and no others, so that all have the same weight."""
    introspection = recipe.introspection
    return introspection is not None and introspection.reward == "majority" and introspection.select == "success"


def tags(recipe: Recipe) -> list[str]:
    """Tags of a model card: the algorithm's, and self-feedback where nothing else teaches and no bound is meant."""
    feedback = "supervised" if recipe.needs_labels else "bound" if bound(recipe) else "self-feedback"
    return ["rlsf", "trl", algorithm(recipe).tag, feedback, "calibration"]


def rewards(recipe: Recipe) -> str:
    """``self_certainty``, or ``correctness + 0.5 x self_certainty``; empty for preferences."""
    if recipe.introspection is not None:
        named = {"gold": "gold answers", "majority": "agreement with the majority"}
        return named.get(recipe.introspection.reward, f"confidence ({recipe.signal})")
    chosen = recipe.online.rewards.chosen if recipe.online else {}
    return " + ".join(
        name if section.weight == 1 else f"{section.weight:g} x {name}" for name, section in chosen.items()
    )


def judged_by(recipe: Recipe) -> str:
    """``P(True), composite, renormalised`` where a judge ranks the traces, and not the signal whose calibration is
    measured; else empty."""
    ranks = recipe.reward_model is not None or (recipe.online is None and recipe.introspection is None)
    judge = recipe.judge
    return f"P(True), {judge.confidence}, {judge.probability}" if judge is not None and ranks else ""


def how(recipe: Recipe) -> str:
    """In a few words: ``GRPO, reward self_certainty``, or ``DPO on preference pairs``."""
    if recipe.acceptance is not None:
        scorer = "an acceptance model of its records" if recipe.acceptance.by == "model" else "its own confidence"
        return f"accepting attempts of a frozen policy, or trying again, by {scorer}"
    name = algorithm(recipe).name
    if learns_the_majority(recipe):
        return f"{name} on its own samples that give the majority's answer"
    if recipe.introspection is not None:
        return f"{name} on dialogues with itself, reward {rewards(recipe)}"
    if recipe.online is not None:
        return f"{name}, reward {rewards(recipe)}"
    by_chance = recipe.ranking.order == "random"
    pairs = f"preference pairs{', ranked by chance' if by_chance else ', ranked by P(True)' if recipe.judge else ''}"
    if recipe.conditioning is not None:
        pairs += " and comparisons of prompts that differ by a length limit"
    return f"a reward model on {pairs}" if recipe.reward_model is not None else f"{name} on {pairs}"


def labels(recipe: Recipe) -> str:
    """One sentence: whether gold answers were learned from."""
    if not recipe.needs_labels:
        return "It learned without labels: gold answers of the prompts were not read, even where the data hold some."
    if recipe.acceptance is not None:
        return "What accepts attempts learned from gold answers: this is a supervised method, not self-feedback."
    needing = " and ".join(recipe.online.rewards.needing_labels) if recipe.online else "gold"
    return f"It learned from gold answers (reward {needing}): this is a supervised method, not self-feedback."


def bound(recipe: Recipe) -> str:
    """One sentence of a shipped recipe that is there to compare others with; empty for others."""
    card = RECIPES.get(recipe.recipe)
    return f"A bound to compare methods with ({card.summary})." if card is not None and card.kind == "bound" else ""


def paper(recipe: Recipe) -> str:
    """The paper of a shipped recipe; empty for others."""
    card = RECIPES.get(recipe.recipe)
    return "" if card is None else card.paper
