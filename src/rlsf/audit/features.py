"""The figures of a trace that a reward may have paid for, as people name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlsf.confidence import get_signal
from rlsf.traces import Trace

#: From a trace, with the start's token statistics, and the text of its tokens to a figure.
Value = Callable[[Trace, Sequence[str]], float]


@dataclass(frozen=True, slots=True)
class Feature:
    """A figure of a trace; ``more`` and ``less`` say what a reward with that sign of coefficient paid for."""

    name: str
    description: str
    more: str
    less: str
    value: Value


def _confidence(name: str) -> Value:
    signal = get_signal(name)

    def value(trace: Trace, pieces: Sequence[str]) -> float:
        # As in evaluation, no answer is one without confidence.
        return signal.confidence(trace, pieces) or 0.0

    return value


def _steps(trace: Trace, pieces: Sequence[str]) -> float:
    parts = re.split(r"[.!?]+(?=\s|$)|\n", trace.text)
    return float(sum(bool(part.strip()) for part in parts))


def _entropy(trace: Trace, pieces: Sequence[str]) -> float:
    return float(np.mean(trace.statistics.entropy, dtype=np.float64))


#: In the order in which they are shown. Confidences and entropy are the start's, for traces of either model.
FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature(
            "tokens",
            "length in tokens",
            "longer traces",
            "shorter traces",
            lambda trace, pieces: float(len(trace.token_ids)),
        ),
        Feature("steps", "sentences and lines", "more steps", "fewer steps", _steps),
        Feature(
            "answer_disparity",
            "the start's confidence in the answer",
            "surer answers",
            "less sure answers",
            _confidence("answer_disparity"),
        ),
        Feature(
            "trace_confidence",
            "the start's confidence in the least sure numbers, signs and answer",
            "surer calculations",
            "less sure calculations",
            _confidence("trace_confidence"),
        ),
        Feature(
            "self_certainty",
            "the start's mean KL(U || p), as a share",
            "more self-certainty",
            "less self-certainty",
            _confidence("self_certainty"),
        ),
        Feature("entropy", "the start's mean entropy, nats a token", "higher entropy", "lower entropy", _entropy),
        Feature(
            "has_answer",
            "whether an answer is found",
            "giving an answer",
            "giving no answer",
            lambda trace, pieces: float(trace.answer is not None),
        ),
        Feature(
            "truncated",
            "whether the token budget cut it",
            "running into the token budget",
            "ending within the token budget",
            lambda trace, pieces: float(trace.truncated),
        ),
    )
}


def feature_values(trace: Trace, pieces: Sequence[str]) -> dict[str, float]:
    """Every feature of a trace whose statistics are the start's; ``pieces`` holds the text of each token.

    A trace without an answer has confidence 0 in it. Raises ``ModelError`` where statistics are not finite.
    """
    return {name: feature.value(trace, pieces) for name, feature in FEATURES.items()}
