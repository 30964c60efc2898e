"""The recipes that ship, by name: a literal table, no registration magic."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Literal

from rlsf.errors import InputError, near_names

Kind = Literal["self-feedback", "labelled", "bound"]


@dataclass(frozen=True, slots=True)
class RecipeCard:
    """What a recipe is, in one line, and which paper it follows.

    ``kind``: whether it learns from itself, from gold answers, or is there to compare the others with, from below or
    above. ``needs_labels`` says of each kind whether gold answers are learned from.
    """

    name: str
    summary: str
    paper: str
    kind: Kind = "self-feedback"
    needs_labels: bool = False

    @property
    def yaml(self) -> str:
        """The recipe's file, as shipped."""
        return (resources.files("rlsf.recipes") / f"{self.name.replace('-', '_')}.yaml").read_text(encoding="utf-8")


RECIPES: dict[str, RecipeCard] = {
    card.name: card
    for card in (
        RecipeCard(
            "rlsf",
            "CoT-decoding traces ranked by answer-span disparity, all confident pairs, DPO",
            "arXiv 2507.21931",
        ),
        RecipeCard(
            "rlsf-trace",
            "the same loop ranked by confidence over the reasoning, pairs with different answers, DPO with NLL",
            "arXiv 2507.21931, signal and pairing ours",
        ),
        RecipeCard(
            "rlsf-rm",
            "a reward model on RLSF's confidence-ranked pairs, and RLOO by its score",
            "arXiv 2507.21931, RLOO for the paper's PPO",
        ),
        RecipeCard(
            "rlsf-online",
            "GRPO, reward: RLSF's answer-span disparity of fresh completions",
            "arXiv 2507.21931, online part ours",
        ),
        RecipeCard(
            "rise-introspection",
            "dialogues of attempts, supervised learning weighted by confidence, votes over turns",
            "arXiv 2407.18219, rewards without labels ours",
        ),
        RecipeCard(
            "core-po",
            "samples ranked by P(True) of their reasoning and answer, DPO in rounds against a fixed reference",
            "arXiv 2505.17454, judging questions and pairing ours",
        ),
        RecipeCard(
            "rc-rm",
            "a reward model on the ranked pairs and on comparisons of prompts with and without a length limit",
            "arXiv 2502.00814, limits and pairs ours",
        ),
        RecipeCard(
            "rc-dpo",
            "DPO on the ranked pairs and on comparisons of prompts with and without a length limit",
            "arXiv 2502.00814, limits and pairs ours",
        ),
        RecipeCard("intuitor", "GRPO, reward: self-certainty, with a divergence term", "arXiv 2505.19590"),
        RecipeCard("rlif-self-certainty", "GRPO, reward: self-certainty", "arXiv 2506.17219"),
        RecipeCard("rlif-token-entropy", "GRPO, reward: minus the tokens' mean entropy", "arXiv 2506.17219"),
        RecipeCard("rlif-trajectory-entropy", "GRPO, reward: the completion's log-probability", "arXiv 2506.17219"),
        RecipeCard(
            "rlcr",
            "GRPO, reward: correctness less the Brier score of a confidence in words",
            "arXiv 2507.16806",
            kind="labelled",
            needs_labels=True,
        ),
        RecipeCard(
            "nft",
            "supervised learning on right completions, and on wrong ones by the policy that they imply",
            "arXiv 2505.18116",
            kind="labelled",
            needs_labels=True,
        ),
        RecipeCard(
            "rise-verify",
            "GRPO over solutions and gradings of them in one batch",
            "arXiv 2505.13445",
            kind="labelled",
            needs_labels=True,
        ),
        RecipeCard(
            "drr",
            "a loop that accepts an attempt or tries again, by a light model of the frozen policy's own records",
            "arXiv 2501.01457, all but the three steps ours",
            kind="labelled",
            needs_labels=True,
        ),
        RecipeCard(
            "grpo-gold",
            "upper bound: GRPO, reward: whether the answer is right",
            "arXiv 2402.03300, rewards of arXiv 2411.15124",
            kind="bound",
            needs_labels=True,
        ),
        RecipeCard(
            "sft-majority",
            "lower bound: supervised learning on samples that give the majority's answer, without confidence",
            "arXiv 2210.11610, ties ours",
            kind="bound",
        ),
        RecipeCard(
            "random-pairs",
            "lower bound: the loop of rlsf with traces ranked by chance",
            "arXiv 2507.21931, the order ours",
            kind="bound",
        ),
    )
}


def recipe_card(name: str) -> RecipeCard:
    """The card of a recipe; raises ``InputError`` with the near names for an unknown one."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}{near_names(name, RECIPES)}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
