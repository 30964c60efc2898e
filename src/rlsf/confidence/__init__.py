"""Confidence signals: pure functions of a trace's token statistics, its answer span and its tokens' text."""

from rlsf.confidence.registry import SIGNALS, get_signal
from rlsf.confidence.signal import Signal

__all__ = ["SIGNALS", "Signal", "get_signal"]
