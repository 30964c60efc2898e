"""How the final answer is found in a trace."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from rlsf.config import Section


class AnswerConfig(Section):
    """Format and place of the final answer."""

    format: Literal["auto", "number", "choice", "boxed", "tag", "regex", "elicited"] = "auto"
    """``auto``: ``choice`` for a question with options, ``number`` otherwise. ``elicited``: the paper's way, an
    answer prompt is appended and the model's continuation aligned back to the trace."""
    occurrence: Literal["last", "earliest"] = "last"
    """Which match is the answer. ``earliest`` reproduces the published RLSF code."""
    pattern: str | None = None
    """``regex`` only: a regular expression whose group 1 (or whole match) is the answer."""
    tag: str = "answer"
    """``tag`` only: the answer stands between <tag> and </tag>."""
    prompt: str | None = None
    """``elicited`` only: the text appended to a trace; by default one for numbers and one for choices."""
    elicited_tokens: int = Field(default=20, ge=1)
    """``elicited`` only: how many tokens the model may answer with."""

    @model_validator(mode="after")
    def _pattern_is_usable(self) -> AnswerConfig:
        if (self.format == "regex") != (self.pattern is not None):
            raise ValueError("answer.pattern goes with answer.format=regex: set both or neither")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"answer.pattern={self.pattern!r} is not a regular expression: {error}") from error
        return self
