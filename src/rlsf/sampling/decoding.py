"""The decoding loop: rows grow token by token, statistics are recorded on the way, finished rows leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlsf.errors import ModelError
from rlsf.sampling.choosing import draw
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.forward import Prefix
from rlsf.sampling.stopping import StopStrings
from rlsf.tokenstats.from_logits import statistics_of_logits
from rlsf.tokenstats.parts import StatisticColumns
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import FinishReason

_REASONS: tuple[FinishReason, ...] = ("eos", "stop", "length")
_GOING_ON = -1


@dataclass(frozen=True, slots=True)
class Completion:
    """The tokens of one row, their statistics and why it ended."""

    token_ids: NDArray[np.int32]
    statistics: TokenStatistics
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What the loop needs to know of n rows. Tensors on the model's device, all but ``uniforms`` of shape [n].

    ``prompts``: which prompt of the prefix each row continues. ``first_ids``: the tokens that rows start with.
    ``budgets``: most tokens of each row. ``uniforms`` [n, T]: the random number of each token, None for greedy.
    """

    prompts: Tensor
    first_ids: Tensor
    budgets: Tensor
    uniforms: Tensor | None

    def rows(self, window: slice) -> RowPlan:
        """The plan of some of the rows."""
        uniforms = None if self.uniforms is None else self.uniforms[window]
        return RowPlan(self.prompts[window], self.first_ids[window], self.budgets[window], uniforms)


class NonFiniteLogits(ModelError):
    """A row's logits hold NaN, +inf or nothing but -inf. ``prompt`` is its number in the prefix."""

    def __init__(self, prompt: int, step: int) -> None:
        super().__init__(f"non-finite logits for prompt number {prompt} at new token {step}")
        self.prompt, self.step = prompt, step


class Recorder:
    """Tokens and statistics of every step, eight numbers a token, put into traces at the end.

    Integers travel in the float32 block as bit patterns, so that a step is one tensor.
    """

    _INTEGERS = (3, 7)

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._blocks: list[Tensor] = []

    def record(self, rows: Tensor, ids: Tensor, columns: StatisticColumns) -> None:
        """One token of each row in ``rows``."""
        as_floats = [ids.int().view(torch.float32), columns.top1_id.int().view(torch.float32)]
        block = torch.stack([*columns[:3], as_floats[1], *columns[4:], as_floats[0]])
        self._rows.append(rows)
        self._blocks.append(block)

    def completions(self, count: int, vocabulary_size: int) -> Iterator[tuple[NDArray[np.int32], TokenStatistics]]:
        """Token ids and statistics of rows 0 to ``count`` - 1."""
        rows = torch.cat(self._rows).cpu().numpy()
        order = np.argsort(rows, kind="stable")
        block = torch.cat(self._blocks, dim=1).cpu().numpy()[:, order]
        columns = [column.view(np.int32) if i in self._INTEGERS else column for i, column in enumerate(block)]
        ends = np.cumsum(np.bincount(rows, minlength=count))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            *statistics, ids = (column[start:end] for column in columns)
            yield ids, TokenStatistics(*statistics, vocabulary_size=vocabulary_size)


class Decoder:
    """Decodes the rows of a plan. Statistics are those of the raw distribution, at temperature 1."""

    def __init__(self, config: SamplingConfig, eos_ids: Tensor, stops: StopStrings) -> None:
        self._config, self._eos_ids, self._stops = config, eos_ids, stops

    def decode(self, prefix: Prefix, prefix_columns: StatisticColumns, plan: RowPlan) -> list[Completion]:
        """Every row of the plan to its end."""
        count, width = len(plan.prompts), int(plan.budgets.max())
        history = plan.first_ids.new_zeros(count, width) if self._config.stop else None
        reasons = torch.full_like(plan.first_ids, _GOING_ON)
        recorder = Recorder()
        live, ids = torch.arange(count, device=plan.prompts.device), plan.first_ids
        recorder.record(live, ids, _of_first_tokens(prefix.logits, prefix_columns, plan))
        reasons[live] = self._reasons(live, ids, 0, plan.budgets, history)
        live, ids = live[reasons == _GOING_ON], ids[reasons == _GOING_ON]
        if len(live):
            with prefix.fork(plan.prompts[live], width - 1) as rows:
                for step in range(1, width):
                    ids, columns = self._next(rows.step(ids), live, step, plan)
                    recorder.record(live, ids, columns)
                    ended = self._reasons(live, ids, step, plan.budgets, history)
                    reasons[live] = ended
                    kept = filling_holes(ended == _GOING_ON)
                    if not len(kept):
                        break
                    if len(kept) < len(live):
                        live, ids = live[kept], ids[kept]
                        rows.keep(kept)
        return [
            Completion(token_ids, statistics, _REASONS[reason])
            for (token_ids, statistics), reason in zip(
                recorder.completions(count, prefix.logits.shape[1]), reasons.tolist(), strict=True
            )
        ]

    def _next(self, logits: Tensor, live: Tensor, step: int, plan: RowPlan) -> tuple[Tensor, StatisticColumns]:
        if plan.uniforms is None:
            columns = statistics_of_logits(logits)
            ids = columns.top1_id
        else:
            ids = draw(logits, plan.uniforms[live, step].unsqueeze(1), self._config).squeeze(1)
            columns = statistics_of_logits(logits, ids)
        finite = columns.logsumexp.isfinite()
        if not finite.all():
            raise NonFiniteLogits(int(plan.prompts[live[~finite][0]]), step)
        return ids, columns

    def _reasons(self, live: Tensor, ids: Tensor, step: int, budgets: Tensor, history: Tensor | None) -> Tensor:
        """For each live row the number of its finish reason, or that it goes on. The end of a sequence wins."""
        ended = torch.where(budgets[live] <= step + 1, _REASONS.index("length"), _GOING_ON)
        if history is not None:
            history[live, step] = ids
            ended[self._stops.completed(ids, history[live, : step + 1])] = _REASONS.index("stop")
        ended[torch.isin(ids, self._eos_ids)] = _REASONS.index("eos")
        return ended


def _of_first_tokens(logits: Tensor, columns: StatisticColumns, plan: RowPlan) -> StatisticColumns:
    """Statistics of the first tokens: those of the prompts' distributions, with the logprob of each branch token."""
    columns = StatisticColumns(*(column[plan.prompts] for column in columns))
    chosen = logits[plan.prompts, plan.first_ids].float()
    largest = logits[plan.prompts, columns.top1_id].float()
    return columns._replace(logprob=columns.top1_logprob + (chosen - largest))


def filling_holes(alive: Tensor) -> Tensor:
    """Numbers of the rows still alive, with holes filled from the end so that few rows change place."""
    survivors = alive.nonzero().squeeze(1)
    count = len(survivors)
    order = torch.arange(count, device=alive.device)
    order[~alive[:count]] = survivors[survivors >= count]
    return order
