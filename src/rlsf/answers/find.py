"""The final answer of a trace, found in its text by format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rlsf.answers.answer import Answer
from rlsf.answers.choice import find_choices
from rlsf.answers.config import AnswerConfig
from rlsf.answers.delimited import find_boxed, find_pattern, find_tagged
from rlsf.answers.finding import Finding, Occurrence
from rlsf.answers.number import find_numbers
from rlsf.answers.token_text import TokenText
from rlsf.answers.verbalised import confidence_spans


def find_answer(token_text: TokenText, config: AnswerConfig, choices: Sequence[str] = ()) -> Finding:
    """The last (or earliest) answer of a trace in the format of ``config``, or the reason why there is none.

    ``choices`` are the texts of the question's options. Raises ``ValueError`` for the format ``elicited``, which
    needs the model's continuation: see ``rlsf.answers.align``.
    """
    chosen = choose_occurrence(token_text.text, config, choices)
    if chosen is None:
        return Finding(None, _failure(token_text.text, config, choices))
    return Finding(Answer(chosen.answer, *token_text.span_of_characters(chosen.start, chosen.end)))


def choose_occurrence(text: str, config: AnswerConfig, choices: Sequence[str] = ()) -> Occurrence | None:
    """The last (or earliest) possible answer of a text; None where there is none."""
    occurrences = find_occurrences(text, config, choices)
    return occurrences[-1 if config.occurrence == "last" else 0] if occurrences else None


def find_occurrences(text: str, config: AnswerConfig, choices: Sequence[str] = ()) -> list[Occurrence]:
    """Every possible answer of a text in the format of ``config``, from left to right."""
    match resolve_format(config, choices):
        case "number":
            return _outside(find_numbers(text), confidence_spans(text))
        case "choice":
            return find_choices(text, choices)
        case "boxed":
            return list(find_boxed(text))
        case "tag":
            return list(find_tagged(text, config.tag))
        case "regex":
            return list(find_pattern(text, config.pattern or ""))
        case other:
            raise ValueError(f"answers of the format {other!r} are not found in the text of a trace alone")


def _outside(occurrences: Iterable[Occurrence], spans: Sequence[tuple[int, int]]) -> list[Occurrence]:
    return [found for found in occurrences if not any(start <= found.start < end for start, end in spans)]


def resolve_format(config: AnswerConfig, choices: Sequence[str]) -> str:
    """The format of ``config``, with ``auto`` decided by whether the question has options."""
    if config.format != "auto":
        return config.format
    return "choice" if choices else "number"


def _failure(text: str, config: AnswerConfig, choices: Sequence[str]) -> str:
    if not text.strip():
        return "the trace is empty"
    match resolve_format(config, choices):
        case "choice":
            return "no option letter or option text in the trace" if choices else "no option letter in the trace"
        case "boxed":
            return "a \\boxed{ is empty or never closed" if "\\boxed" in text else "no \\boxed{...} in the trace"
        case "tag":
            opened = f"<{config.tag}>".lower() in text.lower()
            return f"<{config.tag}> is empty or never closed" if opened else f"no <{config.tag}> in the trace"
        case "regex":
            return f"no match of {config.pattern!r} in the trace"
        case _:
            return "no number in the trace"
