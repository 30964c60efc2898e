"""Answer formats, answer spans in token positions, equivalence and voting."""

from rlsf.answers.answer import Answer
from rlsf.answers.canonical import canonical
from rlsf.answers.find import find_answer
from rlsf.answers.finding import Finding
from rlsf.answers.token_text import TokenText

__all__ = ["Answer", "Finding", "TokenText", "canonical", "find_answer"]
