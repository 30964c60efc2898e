"""How a policy learns to improve its answer over the turns of a dialogue with itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.training.weighted_sft_config import WeightedSftConfig

Rule = Literal["all", "better", "best", "success"]
#: What a dialogue says to every answer: in our own words, right answer or wrong.
FEEDBACK = "This answer may not be right. Work it out again from the start.\n{question}"


class IntrospectionConfig(Section):
    """Recursive introspection (arXiv 2407.18219): dialogues of attempts, and regression weighted by their rewards."""

    samples: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 16), min_length=1)
    """Attempts sampled in each turn of the dialogues that are learned from; the best one stays in the dialogue. As
    published: one first attempt of the policy's own, then the best of 16."""
    reward: Literal["confidence", "majority", "gold"] = "confidence"
    """``confidence``: the recipe's signal, in [0, 1], and 0 without an answer; no label is read. ``gold``, as
    published: 1 for a right answer, 0 for a wrong one, -1 for none. ``majority``, without labels: 1 for the answer that
    more of a turn's attempts give than any other (arXiv 2210.11610), else 0; where several answers lead, 0 for all."""
    success: float = 0.9
    """Reward from which an attempt is a success, which ends its dialogue. For ``gold`` any number in (0, 1] says the
    same; for ``confidence`` it is the threshold above which RLSF prefers a trace (arXiv 2507.21931)."""
    select: Rule = "all"
    """Which turns are learned: ``all``, those ``better`` than the turn before, those that no earlier turn beats
    (``best``), or ``success`` alone. But for the last, the first turn is always learned, right or wrong."""
    attempts: Literal["best", "all"] = "best"
    """Which attempts of a learned turn are examples: the one that stays in the dialogue, or all that can be used, each
    with its own reward; of ``select=success`` those that are a success."""
    drop_duplicates: bool = True
    """Leave out examples that are there already, and empty answers."""
    feedback: str = FEEDBACK
    """What is said to every answer, with ``{question}`` for the question and its options."""
    window: int = Field(default=1, ge=1)
    """Earlier answers that a turn sees, the most recent ones. Two training turns never hold more than one."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling attempts, in training and at inference."""
    repetition_limit: float = Field(default=0.5, gt=0, le=1)
    """Attempts in which so large a share of the runs of four tokens came before are dropped, as those cut at
    ``sampling.max_new_tokens`` are."""
    rounds: int = Field(default=1, ge=1)
    """Rounds of dialogues and training, each with the newest policy."""
    turns: int = Field(default=5, ge=1)
    """Turns at inference, of one sample each."""
    vote: Literal["majority", "confidence"] = "majority"
    """What settles on one of the turns' answers: the most frequent one, or the one with the largest summed
    confidence."""
    training: WeightedSftConfig = WeightedSftConfig()

    @model_validator(mode="after")
    def _feedback_says_something(self) -> IntrospectionConfig:
        if not self.feedback.strip():
            raise ValueError("introspection.feedback is empty: say what asks for another answer")
        return self
