"""Questions with the candidates that are known of each, and the gold answers that data hold for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

import pyarrow.parquet as pq

from rlsf.confidence import Signal
from rlsf.errors import InputError, near_names
from rlsf.pipeline.ranking import pieces_of
from rlsf.pipeline.sampling import read_shard
from rlsf.pipeline.selection import Candidate, Candidates
from rlsf.pipeline.trace_files import TraceFiles
from rlsf.prompts.prompt import Prompt
from rlsf.traces import Trace


@dataclass(slots=True)
class Gathered:
    """What is known of one question while its traces come in, in whatever order.

    ``asked`` is the text of its prompt where its id is a number that was counted, not one that was given.
    """

    id: str
    choices: tuple[str, ...] = ()
    gold: str | None = None
    traces: list[Candidate] = field(default_factory=list)
    asked: str | None = None

    def candidates(self, prompt: Prompt | None, first: int | None) -> Candidates:
        """The first so many traces; choices and gold answer are those of ``prompt`` where it has some."""
        traces = tuple(sorted(self.traces, key=lambda trace: trace.index)[:first])
        if prompt is None:
            return Candidates(self.id, traces, self.choices, self.gold)
        return Candidates(self.id, traces, prompt.choices or self.choices, prompt.gold or self.gold)


Questions = dict[str, Gathered]


def measure(traces: Iterable[Trace], signal: Signal, tokenizer: Any, questions: Questions) -> Questions:
    """Add the traces with the confidences of ``signal``; a tokenizer is needed where it looks at the tokens' text."""
    for trace in traces:
        pieces = pieces_of(trace, tokenizer) if signal.needs_pieces else ()
        answer = trace.answer_text
        known = questions.setdefault(trace.prompt_id, Gathered(trace.prompt_id))
        known.traces.append(Candidate(trace.index, answer, signal.confidence(trace, pieces)))
    return questions


def recorded_questions(files: TraceFiles) -> Questions:
    """The ids of the questions of our own traces, in order, without their traces."""
    ids = (id for path in files.paths for id in pq.read_table(path, columns=["prompt_id"]).column(0).to_pylist())
    return {id: Gathered(id) for id in dict.fromkeys(ids)}


def have_statistics(files: TraceFiles) -> bool:
    """Whether any of the first file's traces has statistics."""
    return any((trace.statistics.top1_id >= 0).any() for group in read_shard(files.paths[0]) for trace in group)


def join(questions: Questions, prompts: Mapping[str, Prompt], place: str) -> None:
    """Raise ``InputError`` where the data, ``prompts`` by id, lack a question of the traces.

    Questions that were counted are taken in order: then also where one of the data is not what the traces were asked.
    """
    lacking = [id for id in questions if id not in prompts]
    if lacking:
        raise InputError(
            f"{place}: no question with the id {lacking[0]!r}{near_names(lacking[0], prompts)}, which traces have"
            f" ({len(lacking)} of {len(questions)} are missing): give the data that the traces were sampled from, with"
            " the same ids"
        )
    for id, question in questions.items():
        if question.asked is not None and _words(prompts[id].question) not in _words(question.asked):
            raise InputError(
                f"{place}: question {id} is {shorten(prompts[id].question, 60)!r}, and prompt {id} of the traces, which"
                f" have no ids, is {shorten(question.asked, 60)!r}: give both the same order, or both ids"
            )


def _words(text: str) -> str:
    return " ".join(text.split())
