"""How much a run may spend on learning."""

from __future__ import annotations

from pydantic import Field

from rlsf.config import Section


class BudgetConfig(Section):
    """Caps on the tokens that learning takes, so that methods can be compared at the same cost.

    Measuring never counts. A cap is split evenly over the parts of a run that follow one another (rounds, or warm-up,
    reward model and online training); what one part leaves, the next may use. Nothing is begun whose longest possible
    outcome does not fit, so that a cap holds for what was done and nothing is thrown away (docs/budget.md).
    """

    generated_tokens: int | None = Field(default=None, ge=1)
    """Tokens that are sampled in order to learn: traces, dialogues, attempts, completions, and the answers of probes.
    None: no cap."""
    training_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and completions that go forwards and backwards through the policy or a model of rewards, each
    time anew; padding is none. None: no cap."""
