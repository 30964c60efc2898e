"""Completions that another engine wrote: records with a prompt and one or several samples, in the customary shapes.

{"prompt": text or messages, "completion": text, [text, ...] or messages}          by hand, TRL
{"prompt": ..., "outputs": [{"text", "token_ids", "finish_reason"}, ...]}          vLLM
{"messages": [...], "choices": [{"message", "finish_reason"}, ...]}                OpenAI
{"messages": [..., {"role": "assistant", "content": text}]}                        a conversation with its last turn

Token ids, where there are some, say exactly what was sampled; text stands for what it encodes to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsf.errors import InputError, near_names
from rlsf.pipeline.scoring_config import CompletionColumns
from rlsf.prompts.fields import Row, get_field, has_field
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


class CompletionReader:
    """Reads the records of a file; which columns hold what is judged by its first one."""

    def __init__(self, columns: CompletionColumns, first: Row) -> None:
        self._paths = {name: _find(name, getattr(columns, name), first) for name in _CUSTOMARY}
        if self._paths["choices"] is not None and self._paths["choices"] == self._paths["completion"]:
            self._paths["choices"] = None
        self._one_conversation = self._ends_with_the_answer(first)
        self._require(first, "prompt", "prompt_token_ids")
        if not self._one_conversation:
            self._require(first, "completion", "token_ids")

    def read(self, row: Row) -> Completions:
        """The record of ``row``; raises ``InputError`` with the place where it is malformed."""
        prompt, completion = self._value(row, "prompt"), self._value(row, "completion")
        if self._one_conversation:
            prompt, completion = _split_conversation(row, self._paths["prompt"], prompt)
        prompt_ids = self._value(row, "prompt_token_ids")
        if prompt is None and prompt_ids is None:
            raise InputError(f"{row.place}: neither a prompt nor its token ids: fill one in or remove the record")
        return Completions(
            place=row.place,
            prompt_id=None if self._paths["id"] is None else read_id(row, self._paths["id"]),
            prompt=None if prompt is None else self._prompt(row, prompt),
            prompt_token_ids=None if prompt_ids is None else _ids(prompt_ids, row, self._paths["prompt_token_ids"]),
            samples=tuple(self._samples(row, completion)),
            choices=() if self._paths["choices"] is None else read_options(row, self._paths["choices"]).texts,
        )

    def _value(self, row: Row, name: str) -> Any:
        """The value of a column; what only some records have, as customary columns may be, is None in the others."""
        path = self._paths[name]
        if path is None or (path in _CUSTOMARY[name] and path not in row.record):
            return None
        return get_field(row, path)

    def _ends_with_the_answer(self, first: Row) -> bool:
        if self._paths["completion"] or self._paths["token_ids"] or not self._paths["prompt"]:
            return False
        messages = self._value(first, "prompt")
        return _is_conversation(messages) and messages[-1].get("role") == "assistant"

    def _require(self, first: Row, text: str, ids: str) -> None:
        if self._paths[text] or self._paths[ids]:
            return
        names = (*_CUSTOMARY[text], *_CUSTOMARY[ids])
        near = next(filter(None, (near_names(name, first.record) for name in names)), "")
        raise InputError(
            f"{first.place}: no column {', '.join(names[:-1])} or {names[-1]}{near}: name the {text}'s with"
            f" --columns.{text}, or that of its token ids with --columns.{ids}; available: {', '.join(first.record)}"
        )

    def _prompt(self, row: Row, value: Any) -> str | list[dict[str, Any]]:
        path = self._paths["prompt"] or ""
        if isinstance(value, str):
            return encodable(value, row, path)
        if not _is_conversation(value):
            raise InputError(f"{row.place}: {path!r} must be text or a list of messages, each with role and content")
        return [{**message, "content": _content(message, row, path)} for message in value]

    def _samples(self, row: Row, value: Any) -> Iterable[Sample]:
        path = self._paths["completion"] or self._paths["prompt"] or ""
        parts = [_sample(element, row, path) for element in _elements(value)] if value is not None else None
        listed = self._value(row, "token_ids")
        if listed is not None:
            listed = listed if listed and all(isinstance(ids, list) for ids in listed) else [listed]
        count = len(parts) if parts is not None else len(listed) if listed is not None else 1
        parts = parts or [_Part()] * count
        reasons = self._value(row, "finish_reason")
        reasons = reasons if isinstance(reasons, list) else [reasons] * len(parts)
        listed = [None] * len(parts) if listed is None else listed
        for name, values in (("token_ids", listed), ("finish_reason", reasons)):
            if len(values) != len(parts):
                raise InputError(
                    f"{row.place}: {len(values)} in {self._paths[name]!r} for a number of completions of {len(parts)}"
                )
        for part, ids, reason in zip(parts, listed, reasons, strict=True):
            own = part.token_ids if ids is None else ids
            yield Sample(
                text=None if part.text is None else encodable(part.text, row, path),
                token_ids=None if own is None else _ids(own, row, self._paths["token_ids"] or path),
                truncated=_is_cut(part.finish_reason if reason is None else reason),
            )


@dataclass(frozen=True, slots=True)
class _Part:
    """What a field of completions says of one of them."""

    text: str | None = None
    token_ids: Any = None
    finish_reason: Any = None


def _find(name: str, given: str | None, first: Row) -> str | None:
    if given is not None:
        get_field(first, given)  # names what is there instead
        return given
    present = [path for path in _CUSTOMARY[name] if has_field(first.record, path)]
    if name == "completion" and present == ["choices"] and not _are_completions(first.record["choices"]):
        return None
    return present[0] if present else None


def _are_completions(value: Any) -> bool:
    """Whether a column called ``choices`` holds OpenAI's completions, not the options of a question."""
    return isinstance(value, list) and any(
        isinstance(element, Mapping) and {"message", "finish_reason"} & set(element) for element in value
    )


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, Mapping) and "role" in message and "content" in message for message in value)
    )


def _split_conversation(row: Row, path: str | None, messages: Any) -> tuple[Any, Any]:
    if not _is_conversation(messages) or len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise InputError(f"{row.place}: {path!r} must be a conversation that ends with the assistant's message")
    return messages[:-1], messages[-1:]


def _elements(value: Any) -> Sequence[Any]:
    """The completions of a field: its elements, or the whole where it holds one."""
    if isinstance(value, list) and not _is_conversation(value):
        return value or [""]
    return [value]


def _sample(element: Any, row: Row, path: str) -> _Part:
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
