"""The forms that ``trace_confidence`` could have taken: sets of values times means of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rlsf.confidence.reasoning import WEAKEST
from rlsf.confidence.values import Span, value_spans
from rlsf.traces import Trace

Floats = NDArray[np.float64]


def _answer(trace: Trace) -> Span:
    assert trace.answer is not None
    return trace.answer.start, trace.answer.end


def answer(trace: Trace, pieces: Sequence[str]) -> list[Span]:
    """The answer alone."""
    return [_answer(trace)]


def digits(trace: Trace, pieces: Sequence[str]) -> list[Span]:
    """Every token with a digit by itself, and those of the answer."""
    first, last = _answer(trace)
    return [
        (token, token + 1)
        for token, piece in enumerate(pieces)
        if first <= token < last or any(map(str.isdecimal, piece))
    ]


def numbers(trace: Trace, pieces: Sequence[str]) -> list[Span]:
    """Numbers as wholes, and the answer."""
    spans = value_spans(pieces, _answer(trace))
    held = [span for span in spans if any(map(str.isalnum, "".join(pieces[slice(*span)])))]
    return held or [_answer(trace)]


def numbers_and_signs(trace: Trace, pieces: Sequence[str]) -> list[Span]:
    """Numbers as wholes, the signs of arithmetic between them, and the answer: ``trace_confidence``."""
    return value_spans(pieces, _answer(trace))


def tokens(trace: Trace, pieces: Sequence[str]) -> list[Span]:
    """Every token but the first, which CoT-decoding imposes."""
    return [(token, token + 1) for token in range(min(1, len(pieces) - 1), len(pieces))]


def weakest(logprobs: Floats, share: float) -> float:
    """Geometric mean over the least sure ``share`` of the values; all of them, or the single least sure at 0."""
    return math.exp(np.sort(logprobs)[: max(1, math.ceil(share * len(logprobs)))].mean())


def joint(logprobs: Floats) -> float:
    """The product: the probability of all values together."""
    return math.exp(logprobs.sum())


SETS = {
    "answer": answer,
    "digit tokens": digits,
    "numbers": numbers,
    "numbers, signs": numbers_and_signs,
    "all tokens": tokens,
}
MEANS: dict[str, Callable[[Floats], float]] = {
    "mean": partial(weakest, share=1.0),
    "weakest half": partial(weakest, share=0.5),
    "weakest tenth": partial(weakest, share=WEAKEST),
    "minimum": partial(weakest, share=0.0),
    "product": joint,
}


def _form(
    spans_of: Callable[[Trace, Sequence[str]], list[Span]],
    mean: Callable[[Floats], float],
    trace: Trace,
    pieces: Sequence[str],
) -> float:
    logprob = trace.statistics.logprob
    return mean(np.array([logprob[first:last].sum(dtype=np.float64) for first, last in spans_of(trace, pieces)]))


FORMS = {
    f"{values}: {name}": partial(_form, spans_of, mean)
    for values, spans_of in SETS.items()
    for name, mean in MEANS.items()
    if values != "answer" or name == "product"
}
