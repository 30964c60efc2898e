"""Where completions end that an engine hands over whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlsf.sampling.stopping import decode_text, text_before
from rlsf.traces import FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Endings:
    """Ends of sequences and stop strings, looked for in the tokens of a trace, whatever its engine says of them.

    Engines that decode elsewhere know nothing of a branch's first token, nor all of our ids.
    """

    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    stops: tuple[str, ...]

    def find(self, token_ids: Sequence[int]) -> tuple[int, FinishReason] | None:
        """How many of the tokens belong to the trace and why it ends there, None where nothing ends it."""
        ends = (place for place, token in enumerate(token_ids) if token in self.eos_ids)
        until = next(ends, len(token_ids))
        if self.stops and self._holds_stop(token_ids[:until]):
            stopped = next(count for count in range(1, until + 1) if self._holds_stop(token_ids[:count]))
            return stopped, "stop"
        return None if until == len(token_ids) else (until + 1, "eos")

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of a trace: special tokens left out, cut before the first stop string."""
        return text_before(decode_text(self.tokenizer, [list(token_ids)])[0], self.stops)

    def _holds_stop(self, token_ids: Sequence[int]) -> bool:
        text = decode_text(self.tokenizer, [list(token_ids)])[0]
        return any(stop in text for stop in self.stops)
