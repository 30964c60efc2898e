"""Training batches: each question once, followed by several completions that do not see one another."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import torch
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerFast

from rlsf.demo.drills import drill
from rlsf.demo.problems import SHORT, Level
from rlsf.demo.solutions import Style, complete
from rlsf.demo.tasks import Problem, stream
from rlsf.demo.vocabulary import END, PAD_ID

#: Two direct answers for one worked solution: the model answers directly unless made to do otherwise.
COMPLETIONS: tuple[Style, ...] = ("direct", "direct", "worked")
#: What predicting a token of a question counts, against 1 for a token of a completion.
PROMPT_WEIGHT = 0.2
#: Rows with a drill, for each row with a question.
DRILLS = 0.3
#: Questions sorted by length together, in batches, to save padding.
_POOL = 16
#: Lengths are padded to a multiple of this, so that few different shapes occur.
_LENGTH_STEP = 8
#: Large enough to hide, and finite, so that a row of padding has no NaN.
_HIDDEN = -1e4


@dataclass(frozen=True, slots=True)
class Batch:
    """``input_ids``, ``labels`` (the next token), ``weights`` (of its loss), ``position_ids`` and ``segments``, where
    a position sees its own and segment 0: [rows, length]."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor

    @property
    def attention_mask(self) -> torch.Tensor:
        """[rows, 1, length, length], added to the attention logits: 0 where a position may look."""
        segments = self.segments
        causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
        visible = (segments[:, None, :] == segments[:, :, None]) | (segments[:, None, :] == 0)
        return torch.zeros(visible.shape, device=segments.device).masked_fill(~(visible & causal), _HIDDEN)[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch before padding. ``segments`` holds 0 for what all see, and else a number of their own."""

    ids: list[int]
    labels: list[int]
    weights: list[float]
    positions: list[int]
    segments: list[int]


def question_row(prompt: list[int], completions: Sequence[list[int]]) -> Row:
    """The prompt but for its last token (segment 0), then one segment for each completion that begins with it.

    Positions go on from the prompt in every segment, so that each reads like a text of its own.
    """
    *shared, last = prompt
    known = len(shared)
    row = Row(list(shared), prompt[1:], [PROMPT_WEIGHT] * known, list(range(known)), [0] * known)
    for segment, completion in enumerate(completions, start=1):
        row.ids.extend([last, *completion[:-1]])
        row.labels.extend(completion)
        row.weights.extend([1.0] * len(completion))
        row.positions.extend(range(known, known + len(completion)))
        row.segments.extend([segment] * len(completion))
    return row


def drill_row(ids: list[int]) -> Row:
    """A text of which every token is learned alike."""
    length = len(ids) - 1
    return Row(ids[:-1], ids[1:], [1.0] * length, list(range(length)), [0] * length)


def _padded(rows: Sequence[Sequence[float]], filler: int) -> torch.Tensor:
    length = -(-max(map(len, rows)) // _LENGTH_STEP) * _LENGTH_STEP
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])


def collate(rows: Sequence[Row]) -> Batch:
    """Rows padded on the right; padding is a segment that nothing else looks at and weighs nothing."""
    return Batch(
        input_ids=_padded([row.ids for row in rows], PAD_ID),
        labels=_padded([row.labels for row in rows], PAD_ID),
        weights=_padded([row.weights for row in rows], 0),
        position_ids=_padded([row.positions for row in rows], 0),
        segments=_padded([row.segments for row in rows], -1),
    )


def _encode(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[Row]:
    prompts = tokenizer([problem.text for problem in problems])["input_ids"]
    texts = [complete(problem, style, rng) + END for problem in problems for style in COMPLETIONS]
    encoded = tokenizer(texts)["input_ids"]
    width = len(COMPLETIONS)
    return [question_row(prompt, encoded[width * i : width * (i + 1)]) for i, prompt in enumerate(prompts)]


def _encode_drills(count: int, tokenizer: PreTrainedTokenizerFast, rng: random.Random, level: Level) -> list[Row]:
    return [drill_row(ids) for ids in tokenizer([drill(rng, level) for _ in range(count)])["input_ids"]]


def batches(
    tokenizer: PreTrainedTokenizerFast, questions: int, seed: int | str, level: Level = SHORT
) -> Iterator[Batch]:
    """Endless batches of ``questions`` fresh training questions each, and drills; the same for the same seed."""
    rng = random.Random(f"rlsf.demo:batches:{seed}")
    problems = stream("train", seed, unique=False, level=level)
    drills = round(DRILLS * questions)
    while True:
        pool = sorted(_encode(list(islice(problems, _POOL * questions)), tokenizer, rng), key=lambda row: len(row.ids))
        starts = list(range(0, len(pool), questions))
        rng.shuffle(starts)
        for start in starts:
            yield collate([*pool[start : start + questions], *_encode_drills(drills, tokenizer, rng, level)])


class BatchStreams(IterableDataset[Batch]):
    """As many streams of batches as there are processes that make them, each with a seed of its own.

    A process on its own makes the stream of ``batches`` for the same seed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, questions: int, seed: int, level: Level) -> None:
        self._tokenizer, self._questions, self._seed, self._level = tokenizer, questions, seed, level

    def __iter__(self) -> Iterator[Batch]:
        process = get_worker_info()
        seed = self._seed if process is None else f"{self._seed}:{process.id}"
        return batches(self._tokenizer, self._questions, seed, self._level)
