"""How preference pairs become comparisons of prompts that differ by a length limit."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from rlsf.config import Section


def _both_placeholders(wording: str) -> str:
    if any(wording.count(placeholder) != 1 for placeholder in ("{question}", "{words}")):
        raise ValueError(f"{wording!r} must hold {{question}} and {{words}}, once each")
    return wording


Wording = Annotated[str, AfterValidator(_both_placeholders)]
Range = tuple[float, float]


class LengthConditioningConfig(Section):
    """Response-conditioned Bradley-Terry, against length bias (arXiv 2502.00814).

    Lengths are numbers of words. The paper, as far as we could read it, says neither how a limit is drawn nor which
    responses are too short to have one: the ranges, the even chance of both kinds and ``minimum_words`` are ours.
    """

    below: Range = (0.5, 0.9)
    """Limits below the response's length, as shares of it: it breaks an upper limit here, and keeps a lower one."""
    above: Range = (1.1, 1.5)
    """Limits above the response's length, as shares of it: it keeps an upper limit here, and breaks a lower one."""
    upper_share: float = Field(default=0.5, ge=0, le=1)
    """The chance that a limit is an upper one."""
    minimum_words: int = Field(default=10, ge=2)
    """Pairs with a response of fewer words stay ordinary pairs only, and are counted."""
    rejected_weight: float = Field(default=1.0, gt=0)
    """Lambda, the weight of the comparisons with the rejected response, of which the chosen ones weigh 1."""
    at_most: Wording = "Use at most {words} words.\n\n{question}"
    """A question with an upper limit."""
    at_least: Wording = "Use at least {words} words.\n\n{question}"
    """A question with a lower limit."""

    @model_validator(mode="after")
    def _ranges_on_their_sides(self) -> LengthConditioningConfig:
        if not 0 < self.below[0] <= self.below[1] < 1:
            raise ValueError(f"conditioning.below={list(self.below)}: give two shares in order between 0 and 1")
        if not 1 < self.above[0] <= self.above[1]:
            raise ValueError(f"conditioning.above={list(self.above)}: give two shares in order above 1")
        return self
