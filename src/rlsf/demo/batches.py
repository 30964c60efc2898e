"""Training batches: each question once, followed by several completions that do not see one another."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import PreTrainedTokenizerFast

from rlsf.demo.solutions import Style, complete
from rlsf.demo.tasks import Problem, stream

#: Two direct answers for one worked solution: the model answers directly unless made to do otherwise.
COMPLETIONS: tuple[Style, ...] = ("direct", "direct", "worked")
#: Questions sorted by length together, in batches, to save padding.
_POOL = 16
_NO_LABEL = -100
#: Large enough to hide, and finite, so that a row of padding has no NaN.
_HIDDEN = -1e4


@dataclass(frozen=True, slots=True)
class Batch:
    """``input_ids``, ``labels`` (the next token, -100 where there is no loss) and ``position_ids``: [rows, length];
    ``attention_mask``: [rows, 1, length, length], added to the attention logits: 0 where a position may look."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Row:
    ids: list[int]
    labels: list[int]
    positions: list[int]
    segments: list[int]


def _row(prompt: list[int], completions: Sequence[list[int]]) -> _Row:
    """The prompt but for its last token (segment 0), then one segment for each completion that begins with it.

    Positions go on from the prompt in every segment, so that each reads like a text of its own.
    """
    *shared, last = prompt
    row = _Row(list(shared), [_NO_LABEL] * len(shared), list(range(len(shared))), [0] * len(shared))
    for segment, completion in enumerate(completions, start=1):
        row.ids.extend([last, *completion[:-1]])
        row.labels.extend(completion)
        row.positions.extend(range(len(shared), len(shared) + len(completion)))
        row.segments.extend([segment] * len(completion))
    return row


def _padded(rows: Sequence[list[int]], filler: int) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


def collate(rows: Sequence[_Row], pad_id: int) -> Batch:
    """Rows padded on the right to the longest; padding is a segment that nothing else looks at."""
    segments = _padded([row.segments for row in rows], -1)
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    visible = (segments[:, None, :] == segments[:, :, None]) | (segments[:, None, :] == 0)
    return Batch(
        input_ids=_padded([row.ids for row in rows], pad_id),
        labels=_padded([row.labels for row in rows], _NO_LABEL),
        position_ids=_padded([row.positions for row in rows], 0),
        attention_mask=torch.zeros(visible.shape).masked_fill(~(visible & causal), _HIDDEN)[:, None],
    )


def _encode(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[_Row]:
    prompts = tokenizer([problem.text for problem in problems])["input_ids"]
    texts = [complete(problem, style, rng) + tokenizer.eos_token for problem in problems for style in COMPLETIONS]
    encoded = tokenizer(texts)["input_ids"]
    width = len(COMPLETIONS)
    return [_row(prompt, encoded[width * i : width * (i + 1)]) for i, prompt in enumerate(prompts)]


def batches(tokenizer: PreTrainedTokenizerFast, questions: int, seed: int) -> Iterator[Batch]:
    """Endless batches of ``questions`` fresh training questions each; the same for the same seed."""
    rng = random.Random(f"rlsf.demo:batches:{seed}")
    problems = stream("train", seed)
    while True:
        pool = sorted(_encode(list(islice(problems, _POOL * questions)), tokenizer, rng), key=lambda row: len(row.ids))
        starts = list(range(0, len(pool), questions))
        rng.shuffle(starts)
        for start in starts:
            yield collate(pool[start : start + questions], tokenizer.pad_token_id)
