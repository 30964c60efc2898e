"""What goes wrong between us and a server: tried again where it may pass, one line where it will not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from completion_server import CompletionServer, Fault

from rlsf.errors import InputError, ResourceError
from rlsf.models.server_config import ServerConfig
from rlsf.sampling.connection import ServerConnection, run_to_end

ANSWER: Fault = (200, {}, b'{"choices": []}')
BUSY: Fault = (429, {}, b'{"error": {"message": "slow down"}}')
BROKEN: Fault = (503, {}, b"loading")
CUT: Fault = (200, {"content-length": "100", "connection": "close"}, b'{"choices": [')


class Request:
    """What a request of nothing in particular comes to."""

    def __init__(self) -> None:
        self.server: CompletionServer | None = None

    def __call__(self, *faults: Fault, **options: Any) -> dict[str, Any]:
        with CompletionServer(None, faults=faults) as self.server:  # pyright: ignore[reportArgumentType]  not decoded
            config = ServerConfig.model_validate(
                {"url": self.server.url, "backoff": 0.0, "retries": 2, "timeout": 20, **options}
            )

            async def ask() -> dict[str, Any]:
                async with ServerConnection(config) as connection:
                    return await connection.request("completions", {"logprobs": 2})

            return run_to_end(ask())

    @property
    def count(self) -> int:
        assert self.server is not None
        return len(self.server.bodies)


@pytest.fixture
def request_() -> Request:
    return Request()


@pytest.mark.parametrize("fault", [None, BUSY, BROKEN, (500, {}, b""), CUT], ids=["lost", "429", "503", "500", "cut"])
def test_what_may_pass_is_tried_again(request_: Request, fault: Fault) -> None:
    assert request_(fault, fault, ANSWER) == {"choices": []}
    assert request_.count == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (BUSY, "status 429, slow down; 3 tries"),
        (BROKEN, "status 503, loading; 3 tries"),
        (None, "disconnected"),
    ],
)
def test_what_does_not_pass_ends_in_one_line(request_: Request, fault: Fault, said: str) -> None:
    with pytest.raises(ResourceError) as raised:
        request_(fault, fault, fault, ANSWER)
    assert said in str(raised.value)
    assert "--resume" in str(raised.value)
    assert request_.count == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((400, {}, b'{"error": {"message": "max_tokens\\n too large"}}'), "refuses: max_tokens too large (status 400)"),
        ((404, {}, b'{"detail": "Not Found"}'), "refuses: Not Found (status 404)"),
        ((422, {}, b'{"message": "no such field"}'), "refuses: no such field (status 422)"),
        ((307, {"location": "http://127.0.0.1:9/"}, b""), "redirects to http://127.0.0.1:9/"),
        ((200, {}, b"<html>hello</html>"), "no JSON object ('<html>hello</html>')"),
        ((200, {}, b'{"choices": [1'), "no JSON object"),
        ((200, {}, b"[]"), "no JSON object"),
    ],
)
def test_what_will_not_change_fails_at_once(request_: Request, fault: Fault, said: str) -> None:
    with pytest.raises(InputError) as raised:
        request_(fault, ANSWER)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert request_.count == 1


@pytest.mark.parametrize("wait", [lambda: "0.4", lambda: formatdate(time.time() + 1.5, usegmt=True)])
def test_a_server_is_left_alone_as_long_as_it_asks(request_: Request, wait: Callable[[], str]) -> None:
    started = time.monotonic()
    request_((429, {"retry-after": wait()}, b""), ANSWER)
    assert time.monotonic() - started >= 0.35


def test_a_wait_is_never_longer_than_a_request_may_take(request_: Request) -> None:
    started = time.monotonic()
    request_((429, {"retry-after": "1000"}, b""), ANSWER, timeout=0.5)
    assert time.monotonic() - started < 30


def test_a_silent_server_is_not_waited_for(request_: Request) -> None:
    with pytest.raises(ResourceError, match=r"model.server.timeout=0.2 seconds; 2 tries"):
        # More is announced than comes, and the line stays open.
        request_(*[(200, {"content-length": "100", "connection": "keep-alive"}, b"{")] * 2, timeout=0.2, retries=1)


def test_nobody_listens() -> None:
    with CompletionServer(None) as server:  # pyright: ignore[reportArgumentType]
        url = server.url
    config = ServerConfig(url=url, backoff=0.0, retries=1)

    async def ask() -> None:
        async with ServerConnection(config) as connection:
            await connection.request("models")

    with pytest.raises(ResourceError, match=r"does not answer \(.*; 2 tries\)"):
        run_to_end(ask())


def test_what_is_read_is_json_of_any_size(request_: Request) -> None:
    large = {"choices": ["x" * 2_000_000]}
    assert request_((200, {}, json.dumps(large).encode())) == large
