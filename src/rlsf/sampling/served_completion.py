"""A server's answer as token ids with the log-probabilities of what was chosen and what was likeliest.

Servers write them in two shapes, and name tokens by text, by ``token_id:123``, or by an id beside the text:

{"tokens": [...], "token_logprobs": [...], "top_logprobs": [{token: logprob, ...}, ...]}                  vLLM, SGLang
{"content": [{"token", "id", "logprob", "top_logprobs": [{"token", "id", "logprob"}, ...]}, ...]}         llama.cpp
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlsf.errors import InputError, ModelError
from rlsf.sampling.token_names import TokenNames, numbered


class UnclearTokens(Exception):
    """The token ids of a completion cannot be told; the message says why."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token with its log-probability in nats; ``token_id`` None where the name alone is known."""

    name: str
    token_id: int | None
    logprob: float


@dataclass(frozen=True, slots=True)
class Position:
    """The chosen token of one position, and the likeliest ones, likeliest first."""

    chosen: Candidate
    likeliest: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class ServedCompletion:
    """``token_ids`` are those that the server states beside its log-probabilities, None where it states none."""

    text: str
    positions: tuple[Position, ...]
    token_ids: tuple[int, ...] | None
    finish_reason: str
    stop_reason: Any = None

    def ids(self, names: TokenNames) -> list[int]:
        """The id of each position's token; raises ``UnclearTokens`` where one cannot be told."""
        if self.token_ids is not None and len(self.token_ids) == len(self.positions):
            return list(self.token_ids)
        chosen = [position.chosen for position in self.positions]
        stated = [candidate.token_id for candidate in chosen]
        known = [token for token in stated if token is not None]
        if len(known) == len(stated):
            return known
        found = names.sequence([candidate.name for candidate in chosen], self.text)
        if found is None:
            raise UnclearTokens(_unclear(names, chosen))
        return found


def identified(candidates: Sequence[Candidate], names: TokenNames) -> list[int]:
    """The ids of likely tokens; raises ``UnclearTokens`` where one cannot be told."""
    ids = [names.one(each.name) if each.token_id is None else each.token_id for each in candidates]
    known = [token for token in ids if token is not None]
    if len(known) < len(ids):
        raise UnclearTokens(_unclear(names, candidates))
    return known


def _unclear(names: TokenNames, candidates: Sequence[Candidate]) -> str:
    name = names.unclear(candidate.name for candidate in candidates)
    return f"the server names tokens by text alone, and {name!r} is no token of the tokenizer or several"


def read_completion(answer: Mapping[str, Any], url: str) -> ServedCompletion:
    """The one completion of an answer; raises ``InputError`` where it is malformed or has no log-probabilities."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise InputError(f"{url}/completions answers without a completion: is it an OpenAI-compatible server?")
    logprobs, text = choice.get("logprobs"), choice.get("text")
    try:
        positions = _positions(logprobs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{url}/completions answers with malformed log-probabilities ({error!r})") from error
    if positions is None:
        raise InputError(
            f"{url}/completions returns no log-probabilities of likely tokens, from which confidence is measured: serve"
            " the model with vLLM, SGLang or llama.cpp, or leave model.server out"
        )
    ids = choice.get("token_ids")
    return ServedCompletion(
        text=text if isinstance(text, str) else "",
        positions=positions,
        token_ids=tuple(ids) if isinstance(ids, list) and all(type(token) is int for token in ids) else None,
        finish_reason=str(choice.get("finish_reason")),
        stop_reason=choice.get("stop_reason", choice.get("matched_stop")),
    )


def _positions(logprobs: Any) -> tuple[Position, ...] | None:
    if not isinstance(logprobs, Mapping):
        return None
    if isinstance(logprobs.get("content"), list):
        return tuple(
            _position(_entry(entry), [_entry(each) for each in entry["top_logprobs"]]) for entry in logprobs["content"]
        )
    tokens, chosen, likeliest = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if tokens == []:
        return ()
    if not tokens or not chosen or not likeliest:
        return None
    return tuple(
        _position(_candidate(name, logprob), [_candidate(*pair) for pair in top.items()])
        for name, logprob, top in zip(tokens, chosen, likeliest, strict=True)
    )


def _entry(entry: Mapping[str, Any]) -> Candidate:
    found = _candidate(entry["token"], entry["logprob"])
    stated = entry.get("id")
    return Candidate(found.name, stated, found.logprob) if type(stated) is int else found


def _candidate(name: str, logprob: float) -> Candidate:
    value = float(logprob)
    if math.isnan(value):
        raise ModelError(f"the server's log-probability of token {name!r} is not a number: check the model's weights")
    return Candidate(name, numbered(name), min(value, 0.0))


def _position(chosen: Candidate, likeliest: Sequence[Candidate]) -> Position:
    if len(likeliest) < 2:
        raise ValueError("fewer than two likely tokens")
    # Ties to the smaller id, as everywhere; where ids are unknown, as the server has them.
    ranked = sorted(likeliest, key=lambda each: (-each.logprob, -1 if each.token_id is None else each.token_id))
    return Position(chosen, tuple(ranked))
