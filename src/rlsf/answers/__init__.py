"""Answer formats, answer spans in token positions, equivalence and voting."""

from rlsf.answers.answer import Answer

__all__ = ["Answer"]
