"""A server that samples in the place of a model in this process."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rlsf.config import Section

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ServerConfig(Section):
    """An OpenAI-compatible server whose ``/completions`` return the log-probabilities of the likeliest tokens."""

    url: str
    """Address up to and with its version, for example http://localhost:8000/v1."""
    model: str | None = None
    """What the server calls the model; may be left out where it serves one alone."""
    kind: Literal["auto", "vllm", "sglang", "llama.cpp", "other"] = "auto"
    """Whose fields requests are written with; ``auto``: as the server's list of models says. ``other``: OpenAI's."""
    prompts: Literal["ids", "text"] = "ids"
    """``ids``: prompts are sent as token ids, exactly what the model is to read. ``text``: for servers that take text
    alone; a prompt is refused unless its text encodes to the same ids."""
    logprobs: Literal["raw", "processed"] = "raw"
    """What the server's log-probabilities are of: ``raw``, the model's own distribution; ``processed``, the one sampled
    from, after temperature and filters, which is refused where the two differ."""
    api_key_variable: str | None = None
    """Environment variable that holds the API key; the key itself is written nowhere."""
    concurrency: int = Field(default=32, ge=1)
    """Requests under way at once; results do not depend on it."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds that one request may take."""
    retries: int = Field(default=6, ge=0)
    """How often a request is sent again after a lost connection, a timeout, or an answer of status 429 or 5xx."""
    backoff: float = Field(default=0.5, ge=0)
    """Seconds before the first of these; twice as many before each further one, at most 30, or as the server asks."""

    @field_validator("url")
    @classmethod
    def _is_plain_http(cls, url: str) -> str:
        example = "for example http://localhost:8000/v1"
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError as error:
            raise ValueError(f"{error}: use an address as is usual, {example}") from error
        if not usable:
            raise ValueError(f"use an address that begins with http:// or https://, {example}")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "an address with a password would be written into run folders: set model.server.api_key_variable"
            )
        if parts.query or parts.fragment:
            raise ValueError("leave out what follows ? or #")
        return url.rstrip("/")

    @field_validator("api_key_variable")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not _VARIABLE.fullmatch(name):
            raise ValueError("name an environment variable, not the key itself")
        return name
