"""How a policy judges its own samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlsf.config import Section

Probability = Literal["renormalised", "raw"]
Confidence = Literal["reasoning", "answer", "composite"]
StatementEnds = Literal["sentences", "lines"]


class JudgeConfig(Section):
    """P(True) of a reasoning and of its answer, by the policy that sampled them (CORE-PO, arXiv 2505.17454)."""

    confidence: Confidence = "composite"
    """``reasoning``: C(r|x). ``answer``: C(a|x,r). ``composite``: their product C(a|x,r) C(r|x), the paper's."""
    reasoning: Literal["monolithic", "statement_wise"] = "monolithic"
    """``monolithic``: the whole reasoning at once, beside other attempts. ``statement_wise``: the mean over its
    statements of C(r_t | x, r_<t); its cost grows with the square of their number."""
    context: int = Field(default=4, ge=0)
    """M: how many other sampled reasonings of the question a reasoning is judged beside (monolithic only)."""
    own_attempt: bool = True
    """Whether a reasoning also has its own place among the attempts that it is judged beside: then all samples of a
    question have one beginning, read once. ``false``: the others alone, and every question is read whole."""
    statements: StatementEnds = "sentences"
    """Where statements end (statement_wise only): ``sentences``: at the ends of sentences and of lines; ``lines``: at
    those of lines alone."""
    probability: Probability = "renormalised"
    """``renormalised``: p_true / (p_true + p_false). ``raw``: p_true, which also falls where the model would rather say
    something else."""
    true_word: str = Field(default="True", min_length=1)
    """What the model is asked to say of what is correct; its variants in case and in the space before it count too."""
    false_word: str = Field(default="False", min_length=1)
    """What it is asked to say of what is not."""
    template: Literal["full", "terse"] = "full"
    """How it is asked: ``full`` in sentences, ``terse`` in few words, for small models with short contexts."""

    @model_validator(mode="after")
    def _two_words(self) -> JudgeConfig:
        words = [word.strip().lower() for word in (self.true_word, self.false_word)]
        if not all(words) or words[0] == words[1]:
            raise ValueError(
                f"judge.true_word={self.true_word!r} and judge.false_word={self.false_word!r}: they must differ in more"
                " than case and white space"
            )
        return self
