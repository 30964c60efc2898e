"""Completions that another engine wrote: records with a prompt and one or several samples, in the customary shapes.

{"prompt": text or messages, "completion": text, [text, ...] or messages}          by hand, TRL
{"prompt": ..., "outputs": [{"text", "token_ids", "finish_reason"}, ...]}          vLLM
{"messages": [...], "choices": [{"message", "finish_reason"}, ...]}                OpenAI
{"messages": [..., {"role": "assistant", "content": text}]}                        a conversation with its last turn

Token ids, where there are some, say exactly what was sampled; text stands for what it encodes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsf.errors import InputError, near_names
from rlsf.pipeline.scoring_config import CompletionColumns
from rlsf.prompts.fields import Row, get_field
from rlsf.prompts.mapping import encodable, read_id, read_options

#: How engines say that a completion was cut.
_CUT = {"length", "max_tokens", "max_length", "abort"}


_CUSTOMARY = {
    "prompt": ("prompt", "messages"),
    "completion": ("completion", "completions", "response", "responses", "outputs", "choices"),
    "prompt_token_ids": ("prompt_token_ids", "prompt_ids"),
    "token_ids": ("token_ids", "completion_token_ids", "completion_ids"),
    "id": ("prompt_id", "id", "request_id"),
    "finish_reason": ("finish_reason",),
    "choices": ("options", "choices"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One completion: its text, its token ids, or both; ``truncated`` where the token budget cut it."""

    text: str | None
    token_ids: np.ndarray | None
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Completions:
    """A record: a prompt as text, as messages or as token ids, and what the model made of it."""

    place: str
    prompt_id: str | None
    prompt: str | list[dict[str, Any]] | None
    prompt_token_ids: np.ndarray | None
    samples: tuple[Sample, ...]
    choices: tuple[str, ...]


def read_completions(row: Row, columns: CompletionColumns) -> Completions:
    """The record of ``row``; raises ``InputError`` with the place where it is malformed or lacks a column."""
    fields = _Fields(row, columns)
    prompt, completion = fields.value("prompt"), fields.value("completion")
    if fields.is_conversation_with_answer:
        prompt, completion = prompt[:-1], prompt[-1:]
    else:
        fields.require("completion", "token_ids")
    fields.require("prompt", "prompt_token_ids")
    prompt_ids = fields.value("prompt_token_ids")
    if prompt is None and prompt_ids is None:
        raise InputError(f"{row.place}: neither a prompt nor its token ids: fill one in or remove the record")
    return Completions(
        place=row.place,
        prompt_id=None if fields.paths["id"] is None else read_id(row, fields.paths["id"]),
        prompt=None if prompt is None else _prompt(prompt, row, fields.paths["prompt"] or ""),
        prompt_token_ids=None if prompt_ids is None else _ids(prompt_ids, row, fields.paths["prompt_token_ids"]),
        samples=tuple(_samples(completion, fields)),
        choices=() if fields.paths["choices"] is None else read_options(row, fields.paths["choices"]).texts,
    )


class _Fields:
    """Where a record keeps what: in the columns that were named, else in those of customary names."""

    def __init__(self, row: Row, columns: CompletionColumns) -> None:
        self.row = row
        self.paths = {name: getattr(columns, name) or self._customary(name, columns) for name in _CUSTOMARY}

    def _customary(self, name: str, columns: CompletionColumns) -> str | None:
        for known in _CUSTOMARY[name]:
            if known in self.row.record and (known != "choices" or (name == "completion") == self._chosen(columns)):
                return known
        return None

    def _chosen(self, columns: CompletionColumns) -> bool:
        """Whether a column called ``choices`` holds OpenAI's completions, not the options of a question."""
        value = self.row.record["choices"]
        return columns.completion == "choices" or (
            isinstance(value, list)
            and any(isinstance(element, Mapping) and {"message", "finish_reason"} & set(element) for element in value)
        )

    def value(self, name: str) -> Any:
        """What the record holds; None where it has no such column."""
        path = self.paths[name]
        return None if path is None else get_field(self.row, path)

    @property
    def is_conversation_with_answer(self) -> bool:
        """Whether the messages hold prompt and completion both."""
        if self.paths["completion"] or self.paths["token_ids"]:
            return False
        messages = self.value("prompt")
        return _is_conversation(messages) and len(messages) > 1 and messages[-1]["role"] == "assistant"

    def require(self, text: str, ids: str) -> None:
        """Raise ``InputError`` unless there is a column for the text or one for its token ids."""
        if self.paths[text] or self.paths[ids]:
            return
        names, present = (*_CUSTOMARY[text], *_CUSTOMARY[ids]), self.row.record
        near = next(filter(None, (near_names(name, present) for name in names)), "")
        raise InputError(
            f"{self.row.place}: no column {', '.join(names[:-1])} or {names[-1]}{near}: name the {text}'s with"
            f" --columns.{text}, or that of its token ids with --columns.{ids}; available: {', '.join(present)}"
        )

    def one_each(self, name: str, values: list[Any], count: int) -> list[Any]:
        """``values`` of the column, one for each completion; raises ``InputError`` for another number of them."""
        if len(values) != count:
            completions = "completion" if count == 1 else "completions"
            raise InputError(f"{self.row.place}: {len(values)} in {self.paths[name]!r} for {count} {completions}")
        return values


def _prompt(value: Any, row: Row, path: str) -> str | list[dict[str, Any]]:
    if isinstance(value, str):
        return encodable(value, row, path)
    if not _is_conversation(value):
        raise InputError(f"{row.place}: {path!r} must be text or a list of messages, each with role and content")
    return [{**message, "content": _content(message, row, path)} for message in value]


def _samples(value: Any, fields: _Fields) -> Iterator[Sample]:
    row, path = fields.row, fields.paths["completion"] or fields.paths["prompt"] or ""
    listed, reasons = fields.value("token_ids"), fields.value("finish_reason")
    lists = listed if _is_nested(listed) else [listed]
    if value is None and listed is not None:
        parts = [_Part()] * len(lists)
    else:
        parts = [_part(element, row, path) for element in _elements(value)]
    lists = fields.one_each("token_ids", [None] * len(parts) if listed is None else lists, len(parts))
    reasons = reasons if isinstance(reasons, list) else [reasons] * len(parts)
    reasons = fields.one_each("finish_reason", reasons, len(parts))
    for part, ids, reason in zip(parts, lists, reasons, strict=True):
        own = part.token_ids if ids is None else ids
        yield Sample(
            text=None if part.text is None else encodable(part.text, row, path),
            token_ids=None if own is None else _ids(own, row, fields.paths["token_ids"] or path),
            truncated=_is_cut(part.finish_reason if reason is None else reason),
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """What a field of completions says of one of them."""

    text: str | None = None
    token_ids: Any = None
    finish_reason: Any = None


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(element, list) for element in value)


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, Mapping) and "role" in message and "content" in message for message in value)
    )


def _elements(value: Any) -> Sequence[Any]:
    """The completions of a field: its elements, or the whole where it holds one."""
    if isinstance(value, list) and not _is_conversation(value):
        return value or [""]
    return [value]


def _part(element: Any, row: Row, path: str) -> _Part:
    match element:
        case None:
            return _Part("")
        case str():
            return _Part(element)
        case [Mapping() as message] if _is_conversation(element):
            return _Part(_content(message, row, path))
        case {"message": Mapping() as message}:
            return _Part(_content(message, row, path), element.get("token_ids"), element.get("finish_reason"))
        case Mapping() if element.get("text") is not None or element.get("token_ids") is not None:
            return _Part(element.get("text"), element.get("token_ids"), element.get("finish_reason"))
        case {"content": _}:
            return _Part(_content(element, row, path))
        case list() if _is_conversation(element):
            raise InputError(
                f"{row.place}: a completion of {len(element)} messages in {path!r}: give the assistant's alone; what"
                " came before belongs to the prompt"
            )
    raise InputError(
        f"{row.place}: a completion in {path!r} must be text, a message, or an object with text or token_ids, found"
        f" {type(element).__name__}"
    )


def _content(message: Mapping[str, Any], row: Row, path: str) -> str:
    """The text of a message, also where it comes in parts."""
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, Mapping) and "text" in part for part in content):
        content = "".join(str(part["text"]) for part in content)
    if content is not None and not isinstance(content, str):
        raise InputError(f"{row.place}: the content of a message in {path!r} is not text")
    return encodable(content or "", row, path)


def _ids(value: Any, row: Row, path: str | None) -> np.ndarray:
    if isinstance(value, list) and all(type(token) is int for token in value):
        try:
            return np.array(value, dtype=np.int32)
        except OverflowError:
            pass
    raise InputError(f"{row.place}: the token ids in {path!r} must be a list of integers")


def _is_cut(reason: Any) -> bool:
    kind = reason.get("type") if isinstance(reason, Mapping) else reason
    return isinstance(kind, str) and kind.lower() in _CUT
