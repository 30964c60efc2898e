"""What learning is expected to take of a recipe's budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlsf.training.budget_config import BudgetConfig
from rlsf.training.config import SelectionConfig


@dataclass(frozen=True, slots=True)
class LearningTokens:
    """Tokens as a budget counts them (docs/budget.md): sampled in order to learn, and trained on."""

    generated: int
    training: int

    @classmethod
    def about(cls, generated: float, training: float) -> LearningTokens:
        """Of estimates."""
        return cls(round(generated), round(training))

    def beside(self, budget: BudgetConfig) -> str:
        """These in words, each with what the budget says of it."""
        generated = _beside(self.generated, "generated", budget.generated_tokens)
        comma = "," if generated.endswith("%") else ""
        return f"{generated}{comma} and {_beside(self.training, 'training', budget.training_tokens)}"


def _beside(tokens: int, kind: str, cap: int | None) -> str:
    said, key = f"{tokens:,} {kind} tokens", f"budget.{kind}_tokens"
    if cap is None:
        return f"{said} (no {key})"
    if cap < tokens:
        return f"{said}, of which {key}={cap} allows {math.floor(100 * cap / tokens)}%"
    return f"{said} (within {key}={cap})"


def probe_answers(selection: SelectionConfig, steps: int, held_out: int) -> int:
    """The answers that all probes of a training ask for: of every held-out prompt, before it, between and after."""
    return (1 + math.ceil(steps / selection.every)) * held_out if held_out else 0
