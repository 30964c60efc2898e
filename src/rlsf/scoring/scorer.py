"""Exact token statistics of traces that exist, by one forward pass and without logits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import InputError, ModelError, ResourceError
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.sampling.forward import CausalModel
from rlsf.scoring.output_head import last_layer
from rlsf.scoring.plan import Bounds, Positions, Reading, alone_and_groups, reading_of, similar_lengths, trace_windows
from rlsf.scoring.reading import FusedReader, LogitsReader, NotFinite, right_padded
from rlsf.scoring.self_check import Verdict, verdict_on
from rlsf.tokenstats.parts import StatisticColumns
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import Trace


class Scorer:
    """Scores traces with a ``transformers`` causal language model, or a PEFT model around one.

    ``way`` is "fused" where the statistics come from hidden states and the output embedding, "logits" where a
    comparison on the model itself said that they cannot; ``reason`` says why. ``batch_tokens`` bounds the tokens of one
    forward pass, padding included, and so the memory; results do not depend on it beyond rounding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        batch_tokens: int = 8192,
    ) -> None:
        if batch_tokens < 1:
            raise InputError(f"batch_tokens={batch_tokens}: it must be at least 1")
        adapter = getattr(model, "active_peft_config", None)
        if adapter is not None and adapter.is_prompt_learning:
            raise InputError("an adapter that puts tokens before the prompt cannot be scored: merge it or leave it off")
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self._causal = CausalModel(model)
        self._fused: FusedReader | None = None
        self._verdict()

    @classmethod
    def from_pretrained(cls, path: str, *, batch_tokens: int = 8192, **model: Any) -> Scorer:
        """Load model and tokenizer from a folder or hub id, with the options of ``rlsf.models.ModelConfig``."""
        config = ModelConfig(path=path, **model)
        return cls(load_model(config), load_tokenizer(config), batch_tokens=batch_tokens)

    @property
    def way(self) -> str:
        """ "fused" or "logits"."""
        return self._verdict().way

    @property
    def reason(self) -> str:
        """Why ``way`` is what it is."""
        return self._verdict().reason

    @property
    def vocabulary_size(self) -> int:
        """Number of logits of a token."""
        return self._verdict().vocabulary_size

    def _verdict(self) -> Verdict:
        return verdict_on(self._causal)

    def statistics(self, input_ids: Tensor, attention_mask: Tensor, keep: Tensor) -> StatisticColumns:
        """Statistics of the tokens selected by ``keep`` [B, T] (bool), row by row, on the model's device.

        ``input_ids`` and ``attention_mask`` [B, T] may be padded on either side or in the middle (prompts on the left
        and completions on the right): what the mask leaves of a row is one sequence from position 0 on. The token at t
        is scored by the distribution after the last real token before it, the one that produced it.

        Raises ``InputError`` where shapes or ids do not fit, or ``keep`` selects padding or the first token of a row;
        ``ModelError`` where the model's states are not finite.
        """
        ids, keep = self._aligned(input_ids, attention_mask, keep)
        if not keep.any():
            return StatisticColumns(*torch.empty(7, 0, device=keep.device))._replace(top1_id=ids.new_empty(0))
        ends = (keep * torch.arange(1, keep.shape[1] + 1, device=keep.device)).amax(1).tolist()
        rows = [row for row, end in enumerate(ends) if end]
        offsets = keep.sum(1).cumsum(0) - keep.sum(1)
        parts: list[StatisticColumns] = []
        places: list[Tensor] = []
        for batch in similar_lengths([ends[row] for row in rows], self.batch_tokens):
            chosen = torch.tensor([rows[number] for number in batch], device=keep.device)
            width = max(ends[row] for row in chosen.tolist())
            kept = keep[chosen, :width]
            places.append((offsets[chosen].unsqueeze(1) + kept.cumsum(1) - 1)[kept])
            reader = self._reader()
            with self._reading(lambda row, chosen=chosen: f"row {int(chosen[row])}"):
                parts.append(reader.columns(ids[chosen, :width], kept))
        order = torch.cat(places).argsort()
        return StatisticColumns(*(torch.cat(columns)[order] for columns in zip(*parts, strict=True)))

    def _aligned(self, input_ids: Tensor, attention_mask: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and ``keep`` with the real tokens of every row moved to its left, in their order."""
        if (
            input_ids.dim() != 2
            or not input_ids.shape == attention_mask.shape == keep.shape
            or keep.dtype != torch.bool
        ):
            shapes = [list(tensor.shape) for tensor in (input_ids, attention_mask, keep)]
            raise InputError(f"ids, mask and keep of shapes {shapes}: all must be [B, T], and keep boolean")
        ids, real, keep = (tensor.to(self._causal.device) for tensor in (input_ids, attention_mask.bool(), keep))
        if (keep & ~real).any():
            raise InputError(f"keep selects padding in row {int((keep & ~real).nonzero()[0, 0])}")
        length = int(real.sum(1).max()) if real.numel() else 0
        order = (~real).byte().argsort(dim=1, stable=True)[:, :length]
        ids, keep, real = (tensor.gather(1, order) for tensor in (ids, keep, real))
        ids = ids.long().masked_fill(~real, 0)
        bounds = self._bounds()
        if keep[:, :1].any():
            raise InputError(f"keep selects the first token of row {int(keep[:, 0].nonzero()[0])}: nothing produced it")
        if bounds.context_length is not None and length > bounds.context_length:
            raise InputError(f"a row of {length} tokens is longer than the model's context {bounds.context_length}")
        strange = (ids < 0) | (ids >= bounds.vocabulary_size)
        if strange.any():
            raise InputError(
                f"row {int(strange.nonzero()[0, 0])} holds token id {int(ids[strange][0])}, outside the model's"
                f" vocabulary of {bounds.vocabulary_size}"
            )
        return ids, keep

    def score(self, traces: Iterable[Trace], *, positions: Positions = "completion") -> Iterator[Trace]:
        """The traces in their order with fresh statistics; holds about eight batches of them at a time.

        With ``positions="answer"`` only the tokens of the answer are computed and the others are missing (NaN), all of
        them where there is no answer. Consecutive traces of one prompt have it read once, where the model allows it.

        Raises ``InputError`` naming the trace that has no prompt, no tokens, ids outside the vocabulary or more
        tokens than the model's context; ``ModelError`` where the model's states are not finite.
        """
        for window in trace_windows(traces, self._bounds(), self.batch_tokens):
            yield from self._scored(window, positions)

    def _scored(self, window: list[Trace], positions: Positions) -> list[Trace]:
        found = [reading_of(trace, positions) for trace in window]
        statistics = iter(self._statistics([reading for reading in found if reading is not None]))
        return [
            replace(trace, statistics=self._placed(trace, reading, next(statistics) if reading else None))
            for trace, reading in zip(window, found, strict=True)
        ]

    def _placed(self, trace: Trace, reading: Reading | None, part: TokenStatistics | None) -> TokenStatistics:
        length, size = len(trace.token_ids), self.vocabulary_size
        if reading is None or part is None:
            return TokenStatistics.missing(length, size)
        if len(part) == length:
            return part
        before, after = (TokenStatistics.missing(count, size) for count in (reading.start, length - reading.end))
        return TokenStatistics.concatenate([before, part, after])

    def _statistics(self, readings: list[Reading]) -> list[TokenStatistics]:
        """Of each reading, the statistics from its start to its end."""
        done: dict[int, TokenStatistics] = {}
        alone, groups = alone_and_groups(readings, share=self._verdict().shares_prompts)
        for batch in similar_lengths([readings[number].length for number in alone], self.batch_tokens):
            done.update(self._read_whole(readings, [alone[place] for place in batch]))
        prompts = [readings[group[0]].prompt for group in groups]
        mixed = self._causal.mixed_lengths
        for batch in similar_lengths([len(prompt) for prompt in prompts], self.batch_tokens, mixed=mixed):
            done.update(self._read_groups(readings, [groups[place] for place in batch]))
        return [done[number] for number in range(len(readings))]

    def _read_whole(self, readings: Sequence[Reading], batch: list[int]) -> dict[int, TokenStatistics]:
        """Prompts and completions in one row each."""
        members, reader = [readings[number] for number in batch], self._reader()
        starts = [len(member.trace.prompt_token_ids) + member.start for member in members]
        with self._reading(lambda row: _name(members[row])):
            rows = [member.prompt + member.completion for member in members]
            columns = reader.columns(*right_padded(rows, starts, self._causal.device))
        return dict(zip(batch, self._cut(columns, members), strict=True))

    def _read_groups(self, readings: Sequence[Reading], groups: Sequence[list[int]]) -> dict[int, TokenStatistics]:
        """Prompts once, then the completions over their states."""
        reader = self._reader()
        assert isinstance(reader, FusedReader)
        prompts = [readings[group[0]].prompt for group in groups]
        with self._reading(lambda row: _name(readings[groups[row][0]])):
            shared = reader.share(prompts)
        places = [(number, place) for place, group in enumerate(groups) for number in group]
        longest = max(len(prompt) for prompt in prompts)
        done: dict[int, TokenStatistics] = {}
        for batch in similar_lengths([longest + readings[number].end for number, _ in places], self.batch_tokens):
            numbers, which = zip(*(places[place] for place in batch), strict=True)
            members = [readings[number] for number in numbers]
            with self._reading(lambda row, members=members: _name(members[row])):
                ids, keep = right_padded(
                    [member.completion for member in members], [member.start for member in members], self._causal.device
                )
                columns = shared.columns(torch.tensor(which, device=ids.device), ids, keep)
            done.update(zip(numbers, self._cut(columns, members), strict=True))
        return done

    def _cut(self, columns: StatisticColumns, members: Sequence[Reading]) -> Iterator[TokenStatistics]:
        whole, start = columns.to_token_statistics(self.vocabulary_size), 0
        for member in members:
            end = start + member.end - member.start
            yield whole[start:end]
            start = end

    def _reader(self) -> FusedReader | LogitsReader:
        found = self._verdict().post_processing
        if found is None:
            return LogitsReader(self._causal)
        layer = last_layer(self.model)
        if self._fused is None or self._fused.layer is not layer or self._fused.post_processing is not found:
            self._fused = FusedReader(self._causal, layer, found)
        return self._fused

    def _bounds(self) -> Bounds:
        return Bounds(min(self.vocabulary_size, self._causal.vocabulary_size), self._causal.context_length)

    @contextmanager
    def _reading(self, place: Callable[[int], str]) -> Iterator[None]:
        """Inference, and errors that name the ``place`` of the row where it went wrong."""
        try:
            with self._causal.inference():
                yield
        except NotFinite as error:
            raise ModelError(
                f"the model's distributions for {place(error.row)} are not finite: check the weights, or load them in"
                " float32 or bfloat16 instead of float16"
            ) from None
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"out of memory while scoring: lower batch_tokens={self.batch_tokens}") from error


def _name(reading: Reading) -> str:
    return f"trace {reading.trace.trace_id!r}"
