"""Answers by asking: an answer prompt after the trace, and the model's continuation aligned back to the trace.

The way of the published RLSF code (arXiv 2507.21931): the answer span is the longest run of tokens that the trace
shares with the continuation. Four defects of that code are repaired unless ``occurrence="earliest"`` asks for it as
it was:

- of equally long runs it takes the first, where an intermediate result may stand in for the final one: here the last;
- a full stop shared by both is a span: here the run must hold a token with a letter or digit of the answer;
- where digits are tokens, the 1 of any 12 is a span for the answer 18, as is the article "A" for the option A: here the
  run must meet a place where the trace writes that number or names that option, and the span covers all of it;
- " B" after an answer prompt and "B" in "(B)" are different tokens of most vocabularies, and nothing is shared: here
  the last place where the trace writes the answer, in whatever form, is the span then.

The prompt and the continuation are for asking only; the trace keeps its tokens and its text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsf.answers.answer import Answer
from rlsf.answers.choice import announced_letter, find_choices, find_options, option_letters
from rlsf.answers.config import AnswerConfig
from rlsf.answers.finding import Finding, Occurrence
from rlsf.answers.number import find_numbers
from rlsf.answers.token_text import TokenText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = Sequence[int] | NDArray[np.integer]

_DECORATION = re.compile(r"[\s:*_\"'`“‘$]*")


def elicitation_text(config: AnswerConfig, choices: Sequence[str] = ()) -> str:
    """What is appended to a trace to ask for its answer: ``config.prompt``, or a default for numbers or choices."""
    if config.prompt is not None:
        return config.prompt
    if not choices:
        return "\nTherefore, as a number, the final answer is"
    options = ", ".join(f"({letter}) {choice}" for letter, choice in zip(option_letters(choices), choices, strict=True))
    return f"\nThe options are {options}.\nTherefore, the letter of the correct option is"


def elicitation_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt_token_ids: Ids,
    token_ids: Ids,
    config: AnswerConfig,
    choices: Sequence[str] = (),
) -> tuple[int, ...]:
    """The ids to continue for a trace's answer: prompt, trace without the special tokens that end it, answer prompt."""
    trace = [int(token_id) for token_id in token_ids]
    token_text = TokenText.from_ids(tokenizer, trace)
    spoken = np.flatnonzero(token_text.ends > token_text.starts)
    kept = trace[: int(spoken[-1]) + 1] if len(spoken) else []
    asked = tokenizer.encode(elicitation_text(config, choices), add_special_tokens=False)
    return (*(int(token_id) for token_id in prompt_token_ids), *kept, *asked)


def align(
    trace_ids: Ids,
    continuation_ids: Ids,
    tokenizer: PreTrainedTokenizerBase,
    occurrence: Literal["last", "earliest"] = "last",
    choices: Sequence[str] = (),
) -> Finding:
    """The answer that the continuation names, at the longest run of tokens it shares with the trace.

    Special tokens and line breaks are passed over on both sides. ``last`` takes the last of the longest runs that hold
    a part of the answer, or, where tokens share nothing, the last place that writes it; ``earliest`` takes the first of
    all the longest runs, as published.
    """
    trace, continuation = TokenText.from_ids(tokenizer, trace_ids), TokenText.from_ids(tokenizer, continuation_ids)
    named = _named_answer(continuation.text, choices)
    if not named:
        return Finding(None, f"the elicited continuation {continuation.text.strip()!r} names no answer")
    answer = named[0].answer
    places = _places(trace.text, answer, choices)
    trace_tokens, continuation_tokens = _spoken_tokens(trace), _spoken_tokens(continuation)
    counts = np.ones((len(trace_tokens), len(continuation_tokens)), dtype=bool)
    if occurrence == "last":
        counts &= _carriers(continuation, named)[continuation_tokens]
        counts &= _carriers(trace, places)[trace_tokens, None]
    run = _longest_run(
        np.asarray(trace_ids)[trace_tokens], np.asarray(continuation_ids)[continuation_tokens], counts, occurrence
    )
    if run is not None:
        start, end = int(trace_tokens[run.start]), int(trace_tokens[run.start + run.length - 1]) + 1
        return Finding(Answer(answer, *(_cover(trace, start, end, places) if occurrence == "last" else (start, end))))
    if places and occurrence == "last":
        return Finding(Answer(answer, *trace.span_of_characters(places[-1].start, places[-1].end)))
    return Finding(None, f"the elicited answer {answer!r} does not stand in the trace")


class _Run(NamedTuple):
    start: int
    length: int


def _named_answer(text: str, choices: Sequence[str]) -> list[Occurrence]:
    """The first answer in a continuation; a letter may be followed by the text of its option."""
    if not choices:
        return list(find_numbers(text))[:1]
    options = find_options(text, choices)
    decoration = _DECORATION.match(text)
    letter = announced_letter(text, decoration.end() if decoration else 0, option_letters(choices))
    first = letter or next(iter(find_choices(text, choices)), None)
    if first is None:
        return []
    return [first, *(option for option in options if option.answer == first.answer and option != first)]


def _places(text: str, answer: str, choices: Sequence[str]) -> list[Occurrence]:
    """Where a trace writes an answer, from left to right, an option's own text before its letter."""
    found = [*find_options(text, choices), *find_choices(text, choices)] if choices else find_numbers(text)
    return [place for place in found if place.answer == answer]


def _spoken_tokens(token_text: TokenText) -> NDArray[np.intp]:
    """Positions of the tokens that are neither special nor line breaks."""
    pieces = [
        token_text.text[start:end]
        for start, end in zip(token_text.starts.tolist(), token_text.ends.tolist(), strict=True)
    ]
    return np.flatnonzero(np.array([bool(piece.strip() or piece.strip("\r\n")) for piece in pieces], dtype=bool))


def _carriers(token_text: TokenText, answers: Sequence[Occurrence]) -> NDArray[np.bool_]:
    """Which tokens contribute a letter or digit to one of the answers, of shape [T]."""
    carriers = np.zeros(len(token_text), dtype=bool)
    for answer in answers:
        first, last = token_text.span_of_characters(answer.start, answer.end)
        for position in range(first, last):
            start = max(int(token_text.starts[position]), answer.start)
            end = min(int(token_text.ends[position]), answer.end)
            carriers[position] |= any(character.isalnum() for character in token_text.text[start:end])
    return carriers


def _cover(trace: TokenText, start: int, end: int, places: Sequence[Occurrence]) -> tuple[int, int]:
    """The tokens [start, end), widened to the whole of the last of the ``places`` that they touch."""
    for place in reversed(places):
        first, last = trace.span_of_characters(place.start, place.end)
        if first < end and last > start:
            return min(start, first), max(end, last)
    return start, end


def _longest_run(
    trace: NDArray[np.integer],
    continuation: NDArray[np.integer],
    counts: NDArray[np.bool_],
    occurrence: Literal["last", "earliest"],
) -> _Run | None:
    """The longest contiguous run of ids common to both that holds a pair (trace, continuation) that ``counts``.

    ``lengths[i]`` is the length of the common run that ends at trace position i and the current continuation position,
    ``since[i]`` how long ago that run, or what preceded it, held such a pair.
    """
    best: _Run | None = None
    lengths = np.zeros(len(trace), dtype=np.intp)
    since = np.full(len(trace), len(trace) + len(continuation))
    for position, token_id in enumerate(continuation):
        lengths = np.where(trace == token_id, np.append(1, lengths[:-1] + 1), 0)
        since = np.where(counts[:, position], 0, np.append(len(trace) + len(continuation), since[:-1] + 1))
        holding = np.where(lengths > since, lengths, 0)
        longest = int(holding.max(initial=0))
        if longest == 0:
            continue
        ends = np.flatnonzero(holding == longest)
        candidate = _Run(int(ends[-1 if occurrence == "last" else 0]) - longest + 1, longest)
        if best is None or _prefer(candidate, best, occurrence):
            best = candidate
    return best


def _prefer(candidate: _Run, best: _Run, occurrence: Literal["last", "earliest"]) -> bool:
    if candidate.length != best.length:
        return candidate.length > best.length
    return candidate.start > best.start if occurrence == "last" else candidate.start < best.start
