"""Traces that exist already, as a model is to see them: our own, or completions of another engine."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.models import has_chat_template, load_model_config, load_tokenizer, resolve_device
from rlsf.pipeline.encoding import TraceEncoder
from rlsf.pipeline.manifest import MANIFEST
from rlsf.pipeline.scoring_config import CompletionColumns, ScoringConfig
from rlsf.pipeline.trace_files import (
    TraceFiles,
    count_recorded,
    count_records,
    find_traces,
    read_recorded,
    read_records,
)
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Records among whose first traces the text of some is compared with their token ids.
_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class GivenTraces:
    """Traces to score and the tokenizer that they belong to; ``warnings`` are for the user."""

    config: ScoringConfig
    files: TraceFiles
    count: int
    tokenizer: PreTrainedTokenizerBase
    warnings: tuple[str, ...]

    def read(self, eos_ids: Collection[int], skip: int) -> Iterator[Trace]:
        """The traces after the first ``skip``, without statistics, a few held at a time.

        ``eos_ids`` end a completion of another engine; our own traces say how they ended.
        """
        if self.files.recorded:
            return read_recorded(self.files, skip)
        encoder = TraceEncoder(
            self.tokenizer,
            eos_ids,
            _vocabulary_size(load_model_config(self.config.model)),
            self.config.answer,
            self.config.chat_arguments,
        )
        return encoder.traces(read_records(self.files, self.config.columns), skip)


def look_at(config: ScoringConfig) -> GivenTraces:
    """Look at all the traces once, and at everything of the model but its weights.

    Raises ``InputError`` for what is malformed, token ids outside the vocabulary and options that mean nothing here.
    """
    files = find_traces(Path(config.traces).expanduser())
    _require_meaning(config, files)
    resolve_device(config.model.device)
    tokenizer = load_tokenizer(config.model)
    vocabulary_size = _vocabulary_size(load_model_config(config.model))
    if files.recorded:
        count = count_recorded(files, vocabulary_size)
    else:
        count = count_records(files, config.columns, vocabulary_size)
    if not count:
        raise InputError(f"{config.traces}: no traces in it")
    if not files.recorded:
        _require_chat_template(files, config, tokenizer)
    _require_same_vocabulary(_texts_and_ids(files, config.columns), tokenizer, config)
    return GivenTraces(config, files, count, tokenizer, tuple(_warnings(files, config)))


def _vocabulary_size(model_config: Any) -> int:
    return model_config.get_text_config(decoder=True).vocab_size


def _require_meaning(config: ScoringConfig, files: TraceFiles) -> None:
    if config.answer.format == "elicited":
        raise InputError(
            "answer.format=elicited asks the model to write on, and `rlsf score` only reads: choose another format"
        )
    for option, value, default in (
        ("answer.*", config.answer, AnswerConfig()),
        ("columns.*", config.columns, CompletionColumns()),
        ("render.chat_arguments", config.chat_arguments, {}),
    ):
        if files.recorded and value != default:
            raise InputError(
                f"--{option} means nothing for {config.traces}: traces recorded by rlsf keep their ids and answers"
            )


def _require_chat_template(files: TraceFiles, config: ScoringConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    record = next(read_records(files, config.columns))
    if record.prompt_token_ids is None and not isinstance(record.prompt, str) and not has_chat_template(tokenizer):
        raise InputError(
            f"{record.place}: the prompt is messages, and the tokenizer of {config.model.path} has no chat template to"
            " render them: give prompts as text or as token ids, or choose the chat model that answered them"
        )


def _texts_and_ids(files: TraceFiles, columns: CompletionColumns) -> Iterator[tuple[str, np.ndarray]]:
    """Of the first traces that have both, text and token ids."""
    if files.recorded:
        yield from ((trace.text, trace.token_ids) for trace in itertools.islice(read_recorded(files), _LOOKED_AT))
        return
    for record in itertools.islice(read_records(files, columns), _LOOKED_AT):
        for sample in record.samples:
            if sample.text is not None and sample.token_ids is not None:
                yield sample.text, sample.token_ids


def _require_same_vocabulary(
    texts_and_ids: Iterable[tuple[str, np.ndarray]], tokenizer: PreTrainedTokenizerBase, config: ScoringConfig
) -> None:
    """Raise ``InputError`` where none of the first traces reads in this tokenizer as its text says.

    One may differ: engines cut texts at stop strings and treat special tokens and spaces in ways of their own.
    """
    read: list[tuple[str, str]] = []
    for text, ids in texts_and_ids:
        decoded = str(tokenizer.decode(ids.tolist(), skip_special_tokens=True))
        if _letters(text) in _letters(decoded):  # of an empty text as well: it says nothing
            return
        read.append((text, decoded))
    if read:
        text, decoded = read[0]
        raise InputError(
            f"{config.traces}: the token ids belong to another vocabulary: the first ones read {decoded[:40]!r} in the"
            f" tokenizer of {config.model.path}, and their text is {text[:40]!r}: score them with the model that wrote"
            " them, or by text alone"
        )


def _letters(text: str) -> str:
    return "".join(text.split())


def _warnings(files: TraceFiles, config: ScoringConfig) -> Iterator[str]:
    folder = files.paths[0].parent
    if files.recorded and Path(config.traces).expanduser().is_dir() and not (folder / MANIFEST).exists():
        yield f"{folder} is not finished (no {MANIFEST}): what is there so far is scored"
