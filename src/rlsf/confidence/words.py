"""What the trace says of its own confidence, in words."""

from __future__ import annotations

from collections.abc import Sequence

from rlsf.answers.verbalised import stated_confidence
from rlsf.traces import Trace


def verbalised(trace: Trace, pieces: Sequence[str]) -> float | None:
    """The number in the last ``<confidence>`` of the trace's text (arXiv 2507.16806); None where none can be read."""
    return stated_confidence(trace.text)
