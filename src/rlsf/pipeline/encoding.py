"""Completions of another engine as traces: numbered, encoded, with their answers, without statistics."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlsf.answers import TokenText, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.pipeline.completions import Completions, Sample
from rlsf.prompts.rendering import encode_once, encode_plain, render_messages
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import FinishReason, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TraceEncoder:
    """Makes traces of records. A record that cannot be encoded becomes traces with the reason as ``failure``.

    A prompt of text gets the tokenizer's opening special tokens once, messages go through the chat template, and a
    completion is encoded alone: without special tokens of its own, and without an end-of-sequence id added.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Collection[int],
        vocabulary_size: int,
        answer: AnswerConfig,
        chat_arguments: Mapping[str, Any],
    ) -> None:
        self._tokenizer, self._eos_ids, self._vocabulary_size = tokenizer, eos_ids, vocabulary_size
        self._answer, self._chat_arguments = answer, chat_arguments

    def traces(self, records: Iterable[Completions], skip: int = 0) -> Iterator[Trace]:
        """The traces of all records after the first ``skip``, which are counted and not encoded."""
        numbering = Numbering()
        for record in records:
            prompt_id, first = numbering.place(record)
            wanted = range(min(skip, len(record.samples)), len(record.samples))
            skip -= wanted.start
            if not wanted:
                continue
            prompt_ids, failure = self._prompt(record)
            for number in wanted:
                yield self._trace(record, record.samples[number], prompt_id, first + number, prompt_ids, failure)

    def _prompt(self, record: Completions) -> tuple[np.ndarray, str | None]:
        if record.prompt_token_ids is not None:
            return record.prompt_token_ids, None
        try:
            if isinstance(record.prompt, str):
                ids = encode_once(record.prompt, self._tokenizer)
            else:
                text = render_messages(record.prompt or [], self._tokenizer, self._chat_arguments)
                ids = encode_plain(text, self._tokenizer)
        except InputError as error:
            return _array(()), f"there is no prompt: {error}"
        return _array(ids), None

    def _trace(
        self,
        record: Completions,
        sample: Sample,
        prompt_id: str,
        index: int,
        prompt_ids: np.ndarray,
        failure: str | None,
    ) -> Trace:
        ids = sample.token_ids
        if ids is None:
            ids = _array(encode_plain(sample.text or "", self._tokenizer))
        token_text = TokenText.from_ids(self._tokenizer, ids)
        trace = Trace(
            prompt_id=prompt_id,
            index=index,
            strategy="sampling",
            prompt_token_ids=prompt_ids,
            token_ids=ids,
            text=token_text.text if sample.text is None else sample.text,
            finish_reason=self._finish_reason(sample, ids),
            statistics=TokenStatistics.missing(len(ids), self._vocabulary_size),
        )
        if failure is not None:
            return trace.with_answer(None, failure)
        finding = find_answer(token_text, self._answer, record.choices)
        return trace.with_answer(finding.answer, finding.failure)

    def _finish_reason(self, sample: Sample, ids: np.ndarray) -> FinishReason:
        if len(ids) and ids[-1] in self._eos_ids:
            return "eos"
        return "length" if sample.truncated else "stop"


class Numbering:
    """Prompt ids and trace indices: by the records' ids, which are remembered, else by runs of equal prompts."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._number, self._last = 0, b""

    def place(self, record: Completions) -> tuple[str, int]:
        """The prompt's id, and the index of the record's first trace among all those of its prompt."""
        prompt_id = record.prompt_id
        if prompt_id is None:
            asked = prompt_identity(record)
            if asked != self._last:
                self._counts.clear()
                self._number, self._last = self._number + 1, asked
            prompt_id = str(self._number)
        first = self._counts.get(prompt_id, 0)
        self._counts[prompt_id] = first + len(record.samples)
        return prompt_id, first


def prompt_identity(record: Completions) -> bytes:
    """What tells the record's prompt from others."""
    if record.prompt_token_ids is not None:
        return record.prompt_token_ids.tobytes()
    return json.dumps(record.prompt, sort_keys=True).encode()


def _array(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)
