"""Exact token statistics of traces that exist, by one forward pass and without logits in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.sampling.forward import CausalModel
from rlsf.scoring.measures import Columns, Measure, Statistics, TokenSets
from rlsf.scoring.output_head import last_layer
from rlsf.scoring.passes import no_columns, read_all
from rlsf.scoring.plan import Bounds, Positions, Reading, plan, reading_of, trace_windows
from rlsf.scoring.readers import FusedReader, LogitsReader
from rlsf.scoring.self_check import Verdict, verdict_on
from rlsf.tokenstats.parts import StatisticColumns
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import Trace


class Scorer:
    """Scores traces with a ``transformers`` causal language model, or a PEFT model around one.

    ``batch_tokens`` bounds the tokens of one forward pass, padding and the cached states of prompts included, and so
    the memory: 4096 by default on CPU, where more leave its caches, else 16384. Results do not depend on it beyond
    rounding. Creating a scorer tries on the model whether it can be scored without logits: see ``way``.

    Raises ``InputError`` for an adapter that puts tokens before the prompt, ``ModelError`` for a model whose logits are
    not numbers or that sees the tokens it is to predict.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        batch_tokens: int | None = None,
    ) -> None:
        if batch_tokens is None:
            batch_tokens = 4096 if model.device.type == "cpu" else 16384
        if batch_tokens < 1:
            raise InputError(f"batch_tokens={batch_tokens}: it must be at least 1")
        adapter = getattr(model, "active_peft_config", None)
        if adapter is not None and adapter.is_prompt_learning:
            raise InputError("an adapter that puts tokens before the prompt cannot be scored: merge it or leave it off")
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self._causal = CausalModel(model)
        self._fused: FusedReader[Any] | None = None
        self._verdict()

    @classmethod
    def from_pretrained(cls, path: str, *, batch_tokens: int | None = None, **model: Any) -> Scorer:
        """Load model and tokenizer from a folder or hub id, with the options of ``rlsf.models.ModelConfig``."""
        config = ModelConfig(path=path, **model)
        return cls(load_model(config), load_tokenizer(config), batch_tokens=batch_tokens)

    @property
    def way(self) -> Literal["fused", "logits"]:
        """ "fused": from hidden states and the output embedding. "logits": a trial said that this does not work."""
        return self._verdict().way

    @property
    def reason(self) -> str:
        """Why ``way`` is what it is: what does not fit, or how well the two ways agree."""
        return self._verdict().reason

    @property
    def vocabulary_size(self) -> int:
        """Number of logits of a token."""
        return self._verdict().vocabulary_size

    def score(self, traces: Iterable[Trace], *, positions: Positions = "completion") -> Iterator[Trace]:
        """The traces in their order with fresh statistics; holds about eight batches of them at a time.

        With ``positions="answer"`` only the tokens of the answer are computed and the others are missing (NaN), all of
        them where there is no answer. Traces of one prompt have it read once, where the model allows it.

        Raises ``InputError`` naming the trace that has no prompt, no tokens, ids outside the vocabulary or more
        tokens than the model's context; ``ModelError`` naming the one whose distributions are not finite.
        """
        if positions not in ("completion", "answer"):
            raise InputError(f"positions={positions!r}: use completion or answer")
        return self._score(traces, positions)

    def _score(self, traces: Iterable[Trace], positions: Positions) -> Iterator[Trace]:
        for window in trace_windows(traces, self._bounds(), self.batch_tokens):
            readings = [reading_of(trace, positions) for trace in window]
            present = [reading for reading in readings if reading is not None]
            columns = self._columns(present, Statistics()) if present else no_columns(self._causal.device)
            statistics = columns.to_token_statistics(self.vocabulary_size)
            start = 0
            for trace, reading in zip(window, readings, strict=True):
                end = start + (0 if reading is None else int(reading.keep.sum()))
                yield replace(trace, statistics=_placed(statistics[start:end], reading, len(trace.token_ids)))
                start = end

    def statistics(
        self, input_ids: Tensor, attention_mask: Tensor, keep: Tensor, *, temperature: float = 1.0
    ) -> StatisticColumns:
        """Statistics of the tokens selected by ``keep`` [B, T] (bool), row by row, on the model's device.

        The distributions are softmax(logits / temperature).

        ``input_ids`` and ``attention_mask`` [B, T] may be padded on either side or in the middle (prompts on the left
        and completions on the right): what the mask leaves of a row is one sequence from position 0 on. The token at t
        is scored by the distribution after the last real token before it, the one that produced it. Rows that begin
        alike up to their first selected token have that read once, where the model allows it.

        Raises ``InputError`` where shapes, ids or the temperature do not fit, or ``keep`` selects padding or the first
        token of a row; ``ModelError`` where the model's distributions are not finite.
        """
        if not 0 < temperature < float("inf"):
            raise InputError(f"temperature={temperature}: it must be positive")
        shapes = [list(tensor.shape) for tensor in (input_ids, attention_mask, keep)]
        if len(shapes[0]) != 2 or shapes != shapes[:1] * 3:
            raise InputError(f"ids, mask and keep of shapes {shapes}: all must be [B, T]")
        ids, mask, kept = (tensor.cpu().numpy() for tensor in (input_ids, attention_mask, keep))
        if kept.dtype != bool:
            raise InputError(f"keep is {kept.dtype}: it must be boolean")
        rows = range(len(ids))
        readings = [self._reading_of_row(row, ids[row], mask[row] != 0, kept[row]) for row in rows if kept[row].any()]
        if not readings:
            return no_columns(self._causal.device)
        return self._columns(readings, Statistics(temperature))

    def masses(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], token_sets: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """Probabilities of S sets of tokens to come next after each of N sequences, [N, S] in float64.

        A sequence is given in two parts: what it may share with others, such as a question, and its own. Sequences
        with the same first part have it read once, where the model allows it; only the states at the ends of
        sequences meet the output embedding. Raises ``InputError`` for sequences as ``score`` does and for sets that are
        empty, name a token twice or hold ids outside the vocabulary, ``ModelError`` where distributions are not finite.
        """
        if not sequences:
            return np.empty((0, len(token_sets)))
        readings = [self._reading_of_end(number, *parts) for number, parts in enumerate(sequences)]
        measure = TokenSets(tuple(tuple(token_set) for token_set in token_sets))
        return self._columns(readings, measure).masses.double().cpu().numpy()

    def _reading_of_end(self, number: int, shared: Sequence[int], own: Sequence[int]) -> Reading:
        """The place after a sequence: what comes there does not matter, so any token stands for it."""
        # A prompt must hold a token.
        shared, own = (shared, own) if len(shared) else (own, ())
        completion = np.array([*own, 0])
        place = np.arange(len(completion)) == len(own)
        reading = Reading(f"sequence {number}", np.array(shared, dtype=np.int64), completion, place)
        self._bounds().check(reading.name, reading.prompt, reading.completion)
        return reading

    def _reading_of_row(self, row: int, ids: np.ndarray, real: np.ndarray, keep: np.ndarray) -> Reading:
        if (keep & ~real).any():
            raise InputError(f"keep selects padding in row {row}")
        ids, keep = ids[real], keep[real]
        start, end = int(keep.argmax()), len(keep) - int(keep[::-1].argmax())
        reading = Reading(f"row {row}", ids[:start], ids[start:end], keep[start:end])
        self._bounds().check(reading.name, reading.prompt, reading.completion)
        return reading

    def _columns(self, readings: list[Reading], measure: Measure[Columns]) -> Columns:
        reader = self._reader(measure)
        planned = plan(
            readings,
            self.batch_tokens,
            share=self._verdict().shares_prompts,
            mixed_lengths=self._causal.mixed_lengths,
            turning_length=self._causal.turning_length,
        )
        return read_all(readings, planned, reader, self._causal, self.batch_tokens)

    def _reader(self, measure: Measure[Columns]) -> FusedReader[Columns] | LogitsReader[Columns]:
        found = self._verdict().post_processing
        if found is None:
            return LogitsReader(self._causal, measure)
        wanted = (last_layer(self.model), found, measure)
        kept = self._fused
        if kept is None or (kept.layer, kept.post_processing, kept.measure) != wanted:
            kept = self._fused = FusedReader(self._causal, *wanted)
        return kept

    def _verdict(self) -> Verdict:
        return verdict_on(self._causal)

    def _bounds(self) -> Bounds:
        return Bounds(min(self.vocabulary_size, self._causal.vocabulary_size), self._causal.context_length)


def _placed(part: TokenStatistics, reading: Reading | None, length: int) -> TokenStatistics:
    """Statistics of all tokens of a trace, of which those to be scored have been."""
    if len(part) == length:
        return part
    end = 0 if reading is None else len(reading.completion)
    sizes = (end - len(part), length - end)
    before, after = (TokenStatistics.missing(size, part.vocabulary_size) for size in sizes)
    return TokenStatistics.concatenate([before, part, after])
