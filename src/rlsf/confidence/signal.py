"""A confidence signal: what is measured on a trace, in which unit, and how that becomes a confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlsf.errors import InputError, ModelError
from rlsf.tokenstats import TokenStatistics
from rlsf.tokenstats.statistics import UNSERVED
from rlsf.traces import Trace

#: Statistics are float32, so a quantity on the edge of its range may lie beyond it by this much.
ROUNDING = 1e-4

#: The raw quantity of a trace, None where it has none; the second argument is the text of each token.
Quantity = Callable[[Trace, Sequence[str]], float | None]
#: From the raw quantity and the size of the vocabulary to a confidence, increasing in sureness.
ConfidenceMap = Callable[[float, int], float]


@dataclass(frozen=True, slots=True)
class Signal:
    """A named function from a trace to a raw quantity and a confidence.

    ``unit`` is that of the raw quantity. ``statistics`` names the columns of ``TokenStatistics`` it reads (none: it
    looks at the text alone, and serves traces without statistics),
    ``needs_answer`` whether it looks at the answer span, ``needs_pieces`` whether it looks at the tokens' text.
    """

    name: str
    description: str
    unit: str
    statistics: tuple[str, ...]
    needs_answer: bool
    needs_pieces: bool
    quantity: Quantity
    confidence_map: ConfidenceMap

    def raw(self, trace: Trace, pieces: Sequence[str] = ()) -> float | None:
        """The raw quantity in ``unit``; None for a trace without tokens, without the statistics or the answer it needs,
        and where there is none to be read.

        ``pieces`` holds the text of each token, and may be left out where ``needs_pieces`` is false. Raises
        ``InputError`` where only some tokens have the statistics it needs and where a server's trace lacks them,
        ``ModelError`` for a quantity that is not a number or infinite, ``ValueError`` for pieces of another length.
        """
        if len(trace.token_ids) == 0 or (self.needs_answer and trace.answer is None):
            return None
        if self.needs_pieces and len(pieces) != len(trace.token_ids):
            raise ValueError(f"trace {trace.trace_id}: {len(trace.token_ids)} tokens but {len(pieces)} pieces of text")
        read = self._read(trace)
        if self.statistics and not self._measured(trace, read):
            return None
        # Comparisons turn NaN into a disparity of 0, so it is looked for where it comes in.
        undefined = any(np.isnan(getattr(read, name)).any() for name in self.statistics)
        if undefined and trace.statistics.of_likeliest_alone and set(self.statistics) & set(UNSERVED):
            raise InputError(
                f"{self.name} of trace {trace.trace_id} needs {' and '.join(self.statistics)}, and a server sampled it,"
                " which returns its likeliest tokens alone: measure it with `rlsf score` and the model"
            )
        value = math.nan if undefined else self.quantity(trace, pieces)
        if value is None:
            return None
        if not math.isfinite(value):
            raise ModelError(
                f"{self.name} of trace {trace.trace_id} is {value}: the model's logits are not finite or exclude part"
                " of the vocabulary; use a signal of probabilities or disparities, or a model in higher precision"
            )
        return float(value)

    def _measured(self, trace: Trace, read: TokenStatistics) -> bool:
        """Whether the tokens that the signal reads have statistics; raises ``InputError`` where only some have."""
        missing = read.top1_id < 0
        if missing.any() and not missing.all():
            raise InputError(
                f"{self.name} of trace {trace.trace_id} needs statistics that some of its tokens do not have: score all"
                " tokens of the completion"
            )
        return not missing.all()

    def _read(self, trace: Trace) -> TokenStatistics:
        """The statistics that the signal looks at: without the tokens' text no more of a trace than its answer."""
        if trace.answer is None or not self.needs_answer or self.needs_pieces:
            return trace.statistics
        return trace.statistics[trace.answer.start : trace.answer.end]

    def confidence(self, trace: Trace, pieces: Sequence[str] = ()) -> float | None:
        """The confidence in [0, 1], a monotone map of ``raw``; None where ``raw`` is None.

        Raises as ``raw`` does, and ``ModelError`` for a value outside [0, 1] by more than rounding.
        """
        value = self.raw(trace, pieces)
        if value is None:
            return None
        confidence = self.confidence_map(value, trace.statistics.vocabulary_size)
        if not -ROUNDING <= confidence <= 1.0 + ROUNDING:
            raise ModelError(
                f"{self.name} of trace {trace.trace_id} is {value:g} {self.unit}, which maps to {confidence:g}, outside"
                " [0, 1]: its token statistics contradict each other; sample it again"
            )
        return min(max(confidence, 0.0), 1.0)
