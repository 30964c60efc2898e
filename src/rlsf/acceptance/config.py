"""How attempts of a frozen policy are accepted or tried again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.models.config import ModelConfig
from rlsf.training.acceptance_config import AcceptanceTrainingConfig

#: What a dialogue says to a rejected attempt: in our own words.
REJECTION = "This answer was rejected. Work it out again from the start.\n{question}"


class AcceptanceConfig(Section):
    """An accept-or-retry loop around a policy that is not trained (arXiv 2501.01457)."""

    by: Literal["model", "confidence"] = "model"
    """What scores an attempt, in [0, 1]: ``model``, an acceptance model trained on the policy's own records, or the
    ``confidence`` of the recipe's signal, which trains nothing."""
    model: ModelConfig | None = None
    """The causal language model whose body the acceptance model starts from, a smaller one, say; none: the policy's."""
    labels: Literal["gold", "majority"] = "gold"
    """What makes an attempt right: the ``gold`` answer, or, without labels, that of most of ``votes`` samples."""
    votes: int = Field(default=8, ge=2)
    """Samples of each question that vote, where ``labels`` is ``majority``."""
    rounds: int = Field(default=4, ge=2)
    """Most attempts at a question, in the records and at inference; the last one is returned as it is."""
    retry: Literal["dialogue", "independent"] = "dialogue"
    """What follows a rejection: ``dialogue``, the rejected attempt and ``rejection`` stay before the policy, or
    ``independent``, the question alone is asked afresh."""
    rejection: str = REJECTION
    """What a dialogue says to a rejected attempt, with ``{question}`` for the question and its options."""
    window: int = Field(default=1, ge=1)
    """Rejected attempts that a dialogue shows, the most recent ones."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling attempts, in the records and at inference."""
    held_out: float = Field(default=0.2, gt=0, le=0.5)
    """Share of the questions whose records are kept out of training, to choose the threshold on."""
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["tuned"] = "tuned"
    """The least score that is accepted; a score of 0, as that of an attempt without an answer, never is. ``tuned``: the
    one with which the loop is most accurate by its closed form, given the rates of acceptance on the records kept
    out."""
    abstain: bool = False
    """Give no answer where the last attempt is rejected too, instead of that attempt's."""
    training: AcceptanceTrainingConfig = AcceptanceTrainingConfig()

    @model_validator(mode="after")
    def _rejection_says_something(self) -> AcceptanceConfig:
        if not self.rejection.strip():
            raise ValueError("acceptance.rejection is empty: say what asks for another attempt")
        return self
