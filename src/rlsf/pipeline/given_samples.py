"""Candidates from traces that exist: of rlsf, of another engine with a confidence each, or of one to be scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
from rlsf.confidence import Signal
from rlsf.errors import InputError, near_names
from rlsf.pipeline.best_of_n_config import SampleColumns
from rlsf.pipeline.completions import Completions, read_completions
from rlsf.pipeline.encoding import Numbering
from rlsf.pipeline.ranking import pieces_of
from rlsf.pipeline.sampling import read_shard
from rlsf.pipeline.selection import Candidate, Candidates
from rlsf.pipeline.trace_files import TraceFiles, read_rows
from rlsf.prompts.choices import Choices
from rlsf.prompts.fields import Row, get_field
from rlsf.prompts.mapping import read_gold
from rlsf.prompts.prompt import Prompt
from rlsf.traces import Trace


@dataclass(slots=True)
class Gathered:
    """What is known of one question while its traces come in, in whatever order."""

    id: str
    choices: tuple[str, ...] = ()
    gold: str | None = None
    traces: list[Candidate] = field(default_factory=list)

    def candidates(self, prompt: Prompt | None, first: int | None) -> Candidates:
        """The first so many traces; choices and gold answer are those of ``prompt`` where there is one."""
        traces = tuple(sorted(self.traces, key=lambda trace: trace.index)[:first])
        if prompt is None:
            return Candidates(self.id, traces, self.choices, self.gold)
        return Candidates(self.id, traces, prompt.choices, prompt.gold)


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


def read_samples(files: TraceFiles, columns: SampleColumns, answer: AnswerConfig) -> Questions:
    """The questions of another engine's records, with their traces where a column says how sure each one is.

    Answers are then found in the texts. Raises ``InputError`` with the place of a malformed record, of a confidence
    that is no finite number, of a completion without text, and of a second gold answer for a question.
    """
    numbering, questions = Numbering(), {}
    for row in read_rows(files):
        record = read_completions(row, columns)
        id, start = numbering.place(record)
        known = questions.setdefault(id, Gathered(id, record.choices))
        gold = _gold(row, record, columns)
        if gold is not None:
            if known.gold not in (None, gold):
                raise InputError(f"{row.place}: gold answer {gold!r} for question {id!r}, which had {known.gold!r}")
            known.gold = gold
        if columns.confidence is not None:
            known.traces += _candidates(row, record, start, columns.confidence, answer)
    return questions


def _gold(row: Row, record: Completions, columns: SampleColumns) -> str | None:
    path = columns.gold or ("gold" if "gold" in row.record else None)
    return None if path is None else read_gold(row, path, Choices(record.choices))


def _candidates(row: Row, record: Completions, start: int, path: str, config: AnswerConfig) -> Iterator[Candidate]:
    value = get_field(row, path)
    values = value if isinstance(value, list) else [value]
    if len(values) != len(record.samples):
        raise InputError(f"{row.place}: {len(values)} in {path!r} for {len(record.samples)} completions: give one each")
    for place, (sample, confidence) in enumerate(zip(record.samples, values, strict=True)):
        if sample.text is None:
            raise InputError(
                f"{row.place}: a completion without text, in which its answer could be found: add the text"
            )
        found = choose_occurrence(sample.text, config, record.choices)
        yield Candidate(start + place, found.answer if found else None, _number(confidence, row, path))


def _number(value: Any, row: Row, path: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{row.place}: the confidence in {path!r} must be a finite number or null, found {value!r}")
    return float(value)


def join(questions: Questions, prompts: Mapping[str, Prompt], place: str) -> None:
    """Raise ``InputError`` where the data, ``prompts`` by id, lack a question of the traces."""
    lacking = [id for id in questions if id not in prompts]
    if lacking:
        raise InputError(
            f"{place}: no question with the id {lacking[0]!r}{near_names(lacking[0], prompts)}, which traces have"
            f" ({len(lacking)} of {len(questions)} are missing): give the data that the traces were sampled from, with"
            " the same ids"
        )
