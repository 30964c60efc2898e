"""Answer formats, answer spans in token positions, equivalence and voting."""

from rlsf.answers.answer import Answer
from rlsf.answers.canonical import canonical
from rlsf.answers.elicited import align, elicitation_ids, elicitation_text
from rlsf.answers.equivalence import Grader, Verdict, equivalent
from rlsf.answers.find import find_answer
from rlsf.answers.finding import Finding
from rlsf.answers.token_text import TokenText
from rlsf.answers.voting import SameAnswer, Vote, aggregate, clear_majority, elect, group_answers, majority

__all__ = [
    "Answer",
    "Finding",
    "Grader",
    "SameAnswer",
    "TokenText",
    "Verdict",
    "Vote",
    "aggregate",
    "align",
    "canonical",
    "clear_majority",
    "elect",
    "elicitation_ids",
    "elicitation_text",
    "equivalent",
    "find_answer",
    "group_answers",
    "majority",
]
