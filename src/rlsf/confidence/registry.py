"""The signals that a recipe can name."""

from __future__ import annotations

from rlsf.confidence import maps, reasoning, span, whole, words
from rlsf.confidence.signal import Signal
from rlsf.errors import InputError, near_names

_TOP_TWO = ("logprob", "top1_logprob", "top2_logprob")

SIGNALS: dict[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal(
            name="answer_disparity",
            description="mean probability disparity over the answer (arXiv 2507.21931)",
            unit="probability",
            statistics=_TOP_TWO,
            needs_answer=True,
            needs_pieces=False,
            quantity=span.answer_disparity,
            confidence_map=maps.identity,
        ),
        Signal(
            name="answer_top_gap",
            description="mean gap between the two likeliest tokens over the answer (arXiv 2402.10200)",
            unit="probability",
            statistics=("top1_logprob", "top2_logprob"),
            needs_answer=True,
            needs_pieces=False,
            quantity=span.answer_top_gap,
            confidence_map=maps.identity,
        ),
        Signal(
            name="answer_probability",
            description="mean probability of the answer's tokens",
            unit="probability",
            statistics=("logprob",),
            needs_answer=True,
            needs_pieces=False,
            quantity=span.answer_probability,
            confidence_map=maps.identity,
        ),
        Signal(
            name="answer_entropy",
            description="mean entropy over the answer; confidence 1 - H / log V",
            unit="nats",
            statistics=("entropy",),
            needs_answer=True,
            needs_pieces=False,
            quantity=span.answer_entropy,
            confidence_map=maps.one_minus_relative_entropy,
        ),
        Signal(
            name="mean_logprob",
            description="mean log-probability of all tokens; confidence its exponential, the geometric mean",
            unit="nats",
            statistics=("logprob",),
            needs_answer=False,
            needs_pieces=False,
            quantity=whole.mean_logprob,
            confidence_map=maps.exponential,
        ),
        Signal(
            name="mean_disparity",
            description="mean probability disparity over all tokens",
            unit="probability",
            statistics=_TOP_TWO,
            needs_answer=False,
            needs_pieces=False,
            quantity=whole.mean_disparity,
            confidence_map=maps.identity,
        ),
        Signal(
            name="minimum_disparity",
            description="smallest probability disparity of any token but the first",
            unit="probability",
            statistics=_TOP_TWO,
            needs_answer=False,
            needs_pieces=False,
            quantity=whole.minimum_disparity,
            confidence_map=maps.identity,
        ),
        Signal(
            name="self_certainty",
            description="mean KL(U || p) over all tokens (arXiv 2502.18581); confidence KL / (KL + log V)",
            unit="nats",
            statistics=("logsumexp", "mean_logit"),
            needs_answer=False,
            needs_pieces=False,
            quantity=whole.self_certainty,
            confidence_map=maps.self_certainty_share,
        ),
        Signal(
            name="trace_confidence",
            description="geometric mean probability of the least sure tenth of the numbers, signs and answer",
            unit="nats",
            statistics=("logprob",),
            needs_answer=True,
            needs_pieces=True,
            quantity=reasoning.trace_confidence,
            confidence_map=maps.exponential,
        ),
        Signal(
            name="verbalised",
            description="the confidence that the completion states in words (arXiv 2507.16806)",
            unit="probability",
            statistics=(),
            needs_answer=True,
            needs_pieces=False,
            quantity=words.verbalised,
            confidence_map=maps.identity,
        ),
    )
}


def get_signal(name: str) -> Signal:
    """The signal called ``name``; raises ``InputError`` with the nearest names for an unknown one."""
    signal = SIGNALS.get(name)
    if signal is None:
        raise InputError(
            f"unknown confidence signal {name!r}{near_names(name, SIGNALS)}: use one of {', '.join(SIGNALS)}"
        )
    return signal
