"""The trace browser: tokens shaded by what the model thought of them, the answer span marked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlsf.invisible import NAMED
from rlsf.report.inputs import BranchSet, BranchView, QuestionView

#: Tokens drawn on one page; beyond it, branches of higher rank are left out (and said to be).
TOKEN_BUDGET = 40_000
#: A longer trace shows its beginning, its end and the surroundings of its answer.
TRACE_HEAD, TRACE_TAIL, ANSWER_SURROUNDINGS = 300, 500, 60
#: Entropy is shaded from certainty to this many equally likely tokens.
ENTROPY_CHOICES = 10
#: What is shown for characters that are invisible; line ends and tabs keep their effect beside the mark.
_MARKS = NAMED | {ord("\n"): "↵\n", ord("\t"): "⇥\t"}
#: Stands for the end-of-sequence token, which has no text.
END = "⟨end⟩"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: text, the three shading levels (0 sure ... 9 unsure) and the hover text."""

    text: str
    probability_level: int
    disparity_level: int
    entropy_level: int
    hover: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens inside or outside the answer span; ``skipped`` tokens before them are not shown."""

    tokens: tuple[Token, ...]
    answer: bool
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Branch:
    """A trace ready to be drawn."""

    rank: int
    first_token: str
    first_probability: float
    confidence: float | None
    surest: bool
    answer: str | None
    failure: str | None
    correct: bool | None
    truncated: bool
    tokens: int
    chosen: int
    rejected: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """The branches of one policy; ``hidden`` were left out for the size of the page."""

    label: str
    branches: tuple[Branch, ...]
    hidden: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One question with its sides. ``marks`` is the greedy answer's correctness on each side."""

    question: str
    choices: tuple[str, ...]
    gold: str | None
    group: str
    sides: tuple[Side, ...]
    marks: tuple[bool | None, ...]


def panels(questions: Sequence[QuestionView], budget: int = TOKEN_BUDGET) -> list[Panel]:
    """Questions ready to be drawn, with as many branches each as the token budget allows (at least one)."""
    shown = _branches_within(questions, budget)
    return [
        Panel(
            question=question.question,
            choices=question.choices,
            gold=question.gold,
            group=question.group,
            sides=tuple(_side(one, shown) for one in question.sets),
            marks=tuple(one.branches[0].correct if one.branches else None for one in question.sets),
        )
        for question in questions
    ]


def _branches_within(questions: Sequence[QuestionView], budget: int) -> int:
    """The largest number of branches per side whose visible tokens fit the budget."""
    sets = [one.branches for question in questions for one in question.sets]
    most, used = max(map(len, sets), default=0), 0
    for rank in range(most):
        used += sum(min(len(one[rank].pieces), TRACE_HEAD + TRACE_TAIL) for one in sets if rank < len(one))
        if used > budget:
            return max(1, rank)
    return most


def _side(one: BranchSet, shown: int) -> Side:
    confidences = [view.confidence for view in one.branches if view.confidence is not None]
    surest = max(confidences, default=None)
    first = next((place for place, view in enumerate(one.branches) if view.confidence == surest), None)
    branches = tuple(
        _branch(view, surest=surest is not None and place == first) for place, view in enumerate(one.branches[:shown])
    )
    return Side(one.label, branches, len(one.branches) - len(branches))


def _branch(view: BranchView, *, surest: bool) -> Branch:
    trace = view.trace
    empty = len(trace.token_ids) == 0
    return Branch(
        rank=trace.index,
        first_token="" if empty else visible(view.pieces[0]).strip() or "space",
        first_probability=math.nan if empty else float(trace.statistics.probability[0]),
        confidence=view.confidence,
        surest=surest,
        answer=trace.answer_text,
        failure=trace.failure,
        correct=view.correct,
        truncated=trace.truncated,
        tokens=len(trace.token_ids),
        chosen=view.chosen,
        rejected=view.rejected,
        segments=tuple(_segments(view)),
    )


def _segments(view: BranchView) -> Iterator[Segment]:
    answer = view.trace.answer
    start, end = (answer.start, answer.end) if answer else (0, 0)
    tokens = _tokens(view)
    previous = -1
    for inside, places in itertools.groupby(_visible_places(len(tokens), start, end), lambda at: start <= at < end):
        for run in _runs(list(places)):
            yield Segment(tuple(tokens[run[0] : run[-1] + 1]), inside, run[0] - previous - 1)
            previous = run[-1]


def _visible_places(length: int, start: int, end: int) -> list[int]:
    if length <= TRACE_HEAD + TRACE_TAIL:
        return list(range(length))
    around = range(max(0, start - ANSWER_SURROUNDINGS), min(length, end + ANSWER_SURROUNDINGS)) if end else range(0)
    return sorted({*range(TRACE_HEAD), *around, *range(length - TRACE_TAIL, length)})


def _runs(places: Sequence[int]) -> Iterator[list[int]]:
    """Maximal runs of consecutive places."""
    for _, run in itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        yield [place for _, place in run]


def _tokens(view: BranchView) -> list[Token]:
    statistics = view.trace.statistics
    texts = [visible(piece) for piece in view.pieces]
    if view.trace.finish_reason == "eos" and view.pieces and not view.pieces[-1]:
        texts[-1] = END
    columns = zip(texts, statistics.probability, statistics.disparity, statistics.entropy, strict=True)
    return [
        Token(
            text=text,
            probability_level=level(float(probability)),
            disparity_level=level(float(disparity)),
            entropy_level=level(1 - float(entropy) / math.log(ENTROPY_CHOICES)),
            hover=f"p {probability:.3f} · disparity {disparity:.3f} · entropy {entropy:.2f} nats",
        )
        for text, probability, disparity, entropy in columns
    ]


def level(sureness: float) -> int:
    """0 (sure) to 9 (unsure) in steps of a tenth; a value outside [0, 1], or none, counts as its nearest end."""
    if math.isnan(sureness):
        return 9
    return min(9, max(0, math.floor((1 - sureness) * 10 + 1e-6)))


def visible(piece: str) -> str:
    """The piece with a mark for what cannot be seen, so that every token can be pointed at and none reorders others.

    Line ends and tabs keep their effect beside the mark; other control characters and those that set the direction of
    writing are named in its place. An empty piece is a mark alone.
    """
    return piece.translate(_MARKS) if piece else "∅"
