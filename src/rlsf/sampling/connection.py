"""HTTP to a server of models: what passes is tried again, what does not is one clear line."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, TypeVar

import httpx

from rlsf.errors import InputError, ResourceError, shortened
from rlsf.models.server_config import ServerConfig

Result = TypeVar("Result")

_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500
#: Seconds within which a connection is made, and the longest wait of our own before another try.
_CONNECT, _LONGEST_WAIT = 10.0, 30.0


def run_to_end(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of ``work``, also where an event loop runs already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class RefusedRequest(InputError):
    """A server's answer that will not change: ``status`` is 4xx other than 429, ``reason`` its own words."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class ServerConnection:
    """Requests to one server, at most ``concurrency`` at once; an asynchronous context manager.

    It talks to the configured address alone: no redirect is followed, no proxy and no password file of the
    environment is used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.concurrency)
        self._client = httpx.AsyncClient(
            headers=_headers(config),
            timeout=httpx.Timeout(None, connect=min(_CONNECT, config.timeout)),
            limits=httpx.Limits(max_connections=config.concurrency),
            verify=ssl.create_default_context(),  # certificates of the machine
            trust_env=False,
        )

    async def __aenter__(self) -> ServerConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers: to ``body``, if there is one, else to a plain GET.

        Raises ``ResourceError`` where the last of several tries fails as well, ``InputError`` for an answer that is
        none: a refusal, a redirect, or no JSON object.
        """
        trouble, wait = "", 0.0
        for attempt in range(self._config.retries + 1):
            if attempt:
                await asyncio.sleep(max(wait, self._backoff(attempt)))
            try:
                async with self._slots, asyncio.timeout(self._config.timeout):
                    response = await self._client.request("GET" if body is None else "POST", self._at(path), json=body)
            except (TimeoutError, httpx.TimeoutException):
                trouble, wait = f"no answer within model.server.timeout={self._config.timeout:g} seconds", 0.0
            except httpx.TransportError as error:
                trouble, wait = shortened(str(error) or type(error).__name__), 0.0
            else:
                if response.status_code != _TOO_MANY_REQUESTS and response.status_code < _SERVER_ERROR:
                    return self._content(path, response)
                trouble = f"status {response.status_code}, {_reason(response)}"
                wait = min(_asked_wait(response), self._config.timeout)
        tries = self._config.retries + 1
        raise ResourceError(
            f"{self._at(path)} does not answer ({trouble}; {tries} {'try' if tries == 1 else 'tries'}): look after the"
            " server, then go on with --resume; what was finished is kept"
        )

    def _at(self, path: str) -> str:
        return f"{self._config.url}/{path}"

    def _backoff(self, attempt: int) -> float:
        # At random, so that requests which failed together do not come back together.
        return min(self._config.backoff * 2 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.5, 1.0)

    def _content(self, path: str, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if response.is_redirect:
            target = response.headers.get("location", "nowhere")
            raise InputError(
                f"{self._at(path)} redirects to {shortened(target)}: set model.server.url to where it leads"
            )
        if not response.is_success:
            reason = _reason(response)
            raise RefusedRequest(
                f"{self._at(path)} refuses: {reason} (status {status}){self._hint(status)}", status, reason
            )
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise InputError(
                f"{self._at(path)} answers with something that is no JSON object ({shortened(response.text, 60)!r}):"
                " set model.server.url to an OpenAI-compatible server's address, up to and with /v1"
            )
        return content

    def _hint(self, status: int) -> str:
        if status in (401, 403):
            return ": name the environment variable that holds the key with model.server.api_key_variable"
        if status == 404 and not self._config.url.endswith("/v1"):
            return ": most addresses end in /v1"
        return ""


def _headers(config: ServerConfig) -> dict[str, str]:
    if config.api_key_variable is None:
        return {}
    key = os.environ.get(config.api_key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(
            f"the environment variable {config.api_key_variable} (model.server.api_key_variable) holds no API key"
        )
    return {"Authorization": f"Bearer {key}"}


def _reason(response: httpx.Response) -> str:
    """The server's own words: OpenAI's ``error.message``, FastAPI's ``detail``, or the text."""
    try:
        content = response.json()
    except ValueError:
        content = None
    if isinstance(content, dict):
        error = content.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        said = said or content.get("message") or content.get("detail")
        if said:
            return shortened(str(said))
    return shortened(response.text) or response.reason_phrase


def _asked_wait(response: httpx.Response) -> float:
    """Seconds that the server asks to wait (Retry-After: a number or a date), 0 where it does not."""
    asked = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return 0.0
