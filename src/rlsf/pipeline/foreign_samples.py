"""Candidates from the records of another engine: answers found in the texts, and how sure each is by a column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
from rlsf.errors import InputError
from rlsf.files import digest
from rlsf.pipeline.best_of_n_config import SampleColumns
from rlsf.pipeline.completions import Completions, Sample, read_completions
from rlsf.pipeline.encoding import Numbering, prompt_identity
from rlsf.pipeline.given_samples import Gathered, Questions
from rlsf.pipeline.selection import Candidate
from rlsf.pipeline.trace_files import TraceFiles, read_rows
from rlsf.prompts.choices import Choices
from rlsf.prompts.fields import Row, get_field
from rlsf.prompts.mapping import read_gold

#: Log-probabilities that engines return may be above 0 by rounding.
_ROUNDING = 1e-3


def read_samples(
    files: TraceFiles,
    columns: SampleColumns,
    answer: AnswerConfig,
    *,
    with_traces: bool,
    warn: Callable[[str], None] = lambda text: None,
) -> Questions:
    """The questions of another engine's records; ``with_traces`` their traces, with the answers found in the texts.

    Raises ``InputError`` with the place of a malformed record, of a confidence that is no finite number, of a
    completion without text, of a second gold answer for a question, and of a question that lm-eval wrote again for
    another filter. ``warn`` hears where records may wrongly be taken for samples of one question, or of several.
    """
    numbering, repeats, questions = Numbering(), _Repeats(), {}
    for row in read_rows(files):
        record = read_completions(row, columns)
        id, start = numbering.place(record)
        repeats.look_at(id, record, row)
        known = questions.setdefault(id, Gathered(id, record.choices, asked=_counted_prompt(record)))
        gold = _gold(row, record, columns)
        if gold is not None:
            if known.gold not in (None, gold):
                raise InputError(f"{row.place}: gold answer {gold!r} for question {id!r}, which had {known.gold!r}")
            known.gold = gold
        if with_traces:
            known.traces += _candidates(row, record, start, columns, answer)
    for doubt in repeats.doubts.values():
        warn(doubt)
    return questions


class _Repeats:
    """What is odd about which records are samples of one question; the first of each kind is kept in ``doubts``."""

    def __init__(self) -> None:
        self.doubts: dict[str, str] = {}
        self._prompt_of: dict[str, str] = {}
        self._id_of: dict[str, str] = {}
        self._filter_of: dict[str, Any] = {}

    def look_at(self, id: str, record: Completions, row: Row) -> None:
        prompt = digest(prompt_identity(record).hex())
        if record.prompt_id is None and self._id_of.setdefault(prompt, id) != id:
            self.doubts.setdefault(
                "apart",
                f"{record.place}: the prompt of question {self._id_of[prompt]} again, after others and without an id:"
                f" taken as another question, {id}; give samples of one question an id, --columns.id NAME",
            )
        if self._prompt_of.setdefault(id, prompt) != prompt:
            self.doubts.setdefault(
                "mixed",
                f"{record.place}: another prompt with the id {id!r}: taken as a sample of the same question; if it is"
                " another, give it an id of its own, or name the column of the ids, --columns.id NAME",
            )
        kind = row.record.get("filter") if "resps" in row.record else None
        if self._filter_of.setdefault(id, kind) != kind:
            raise InputError(
                f"{record.place}: question {id!r} again, for the filter {kind!r} after {self._filter_of[id]!r}: lm-eval"
                " writes the same completions once a filter; keep the records of one"
            )


def _counted_prompt(record: Completions) -> str | None:
    """The text of a prompt without an id, which is known by its place alone."""
    if record.prompt_id is not None or record.prompt is None:
        return None
    if isinstance(record.prompt, str):
        return record.prompt
    return "\n".join(str(message["content"]) for message in record.prompt)


def _gold(row: Row, record: Completions, columns: SampleColumns) -> str | None:
    path = columns.gold or ("gold" if "gold" in row.record else None)
    return None if path is None else read_gold(row, path, Choices(record.choices))


def _candidates(
    row: Row, record: Completions, start: int, columns: SampleColumns, config: AnswerConfig
) -> Iterator[Candidate]:
    for place, (sample, confidence) in enumerate(
        zip(record.samples, _confidences(row, record.samples, columns), strict=True)
    ):
        if sample.text is None:
            raise InputError(
                f"{row.place}: a completion without text, in which its answer could be found: add the text"
            )
        found = choose_occurrence(sample.text, config, record.choices)
        yield Candidate(start + place, found.answer if found else None, confidence)


def _confidences(row: Row, samples: Sequence[Sample], columns: SampleColumns) -> list[float | None]:
    """How sure each completion is by the column that says it; None for all where no column does."""
    path = columns.of_sureness
    if path is None:
        return [None] * len(samples)
    value = get_field(row, path)
    if columns.logprobs is None:
        values = value if isinstance(value, list) else [value]
    else:
        # A list of lists has those of several completions, any other those of one.
        several = bool(value) and isinstance(value, list) and all(isinstance(entry, list | None) for entry in value)
        values = value if several else [value]
    if len(values) != len(samples):
        raise InputError(f"{row.place}: {len(values)} in {path!r} for {len(samples)} completions: give one each")
    if columns.logprobs is None:
        return [_number(entry, row, path) for entry in values]
    return [_geometric_mean(entry, sample, row, path) for entry, sample in zip(values, samples, strict=True)]


def _number(value: Any, row: Row, path: str) -> float | None:
    if value is None:
        return None
    if not _is_number(value):
        hint = ": log-probabilities of tokens are --columns.logprobs" if isinstance(value, list) else ""
        raise InputError(
            f"{row.place}: the confidence in {path!r} must be a finite number or null, found {value!r}{hint}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def _geometric_mean(tokens: Any, sample: Sample, row: Row, path: str) -> float | None:
    """exp of the mean log-probability of the tokens, as the signal ``mean_logprob`` has it; None for no tokens."""
    if tokens is None or tokens == []:
        return None
    found = [
        _logprob(token, place, sample) for place, token in enumerate(tokens if isinstance(tokens, list) else [tokens])
    ]
    for value in found:
        if not _is_number(value) or value > _ROUNDING:
            raise InputError(
                f"{row.place}: {path!r} must hold the log-probability of each token of a completion, numbers of at"
                f" most 0, found {value!r}"
            )
    return math.exp(min(0.0, math.fsum(found) / len(found)))


def _logprob(token: Any, place: int, sample: Sample) -> Any:
    """A number as it is, that of OpenAI's object of a token, or that of the sampled one of vLLM's, which are by id."""
    if not isinstance(token, Mapping) or "logprob" in token:
        return token["logprob"] if isinstance(token, Mapping) else token
    ids = () if sample.token_ids is None else sample.token_ids
    sampled = token.get(str(ids[place])) if place < len(ids) else None
    return sampled.get("logprob") if isinstance(sampled, Mapping) else token
