"""``metrics.jsonl``: one line per measured event, append-only, readable while the run goes on."""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

from rlsf.files import writing

Purpose = Literal["learning", "measuring"]
_Stage = TypeVar("_Stage", bound=Callable[..., Any])
#: Seconds after which ``tick`` notes how much time went by.
_TICK = 10.0


class Logged(Protocol):
    """What has a log."""

    @property
    def metrics(self) -> MetricsLog: ...


def spends(purpose: Purpose) -> Callable[[_Stage], _Stage]:
    """A stage, whose first argument is the run, takes its time for this purpose."""

    def of(stage: _Stage) -> _Stage:
        @functools.wraps(stage)
        def timed(run: Logged, *args: Any, **kwargs: Any) -> Any:
            with run.metrics.spending(purpose):
                return stage(run, *args, **kwargs)

        return cast(_Stage, timed)

    return of


class MetricsLog:
    """Appends events; a half-written last line of a killed run is cut off first.

    While time is spent for a purpose, each line says how many seconds have gone by since the line before it, as
    ``learning_seconds`` or ``measuring_seconds``: their sum over all lines is the time of all processes of a run, but
    for what a killed one did after its last line.
    """

    _purpose: Purpose | None = None
    _since = 0.0

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                os.truncate(path, len(whole))

    def record(self, event: Mapping[str, Any]) -> None:
        """Append one event; numbers that JSON lacks become null."""
        clean = {key: _json_number(value) for key, value in {**event, **self._gone_by()}.items()}
        with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(clean, ensure_ascii=False, allow_nan=False) + "\n")

    @contextmanager
    def spending(self, purpose: Purpose) -> Iterator[None]:
        """Whose time goes to a purpose, whatever it was spent for around it."""
        before = self._purpose
        if before == purpose:
            yield
            return
        self._turn_to(purpose)
        try:
            yield
        finally:
            self._turn_to(before)

    def tick(self) -> None:
        """Note the time where the last line is long ago."""
        if self._purpose is not None and time.monotonic() - self._since >= _TICK:
            self._note_time()

    def _turn_to(self, purpose: Purpose | None) -> None:
        if self._purpose is not None:
            self._note_time()
        self._purpose, self._since = purpose, time.monotonic()

    def _note_time(self) -> None:
        self.record({"event": "time", "phase": self._purpose})

    def _gone_by(self) -> dict[str, float]:
        if self._purpose is None:
            return {}
        now = time.monotonic()
        before, self._since = self._since, now
        return {f"{self._purpose}_seconds": now - before}

    def events(self) -> list[dict[str, Any]]:
        """Events in the order first seen; what a resumed run measured again replaces the earlier line."""
        if not self.path.exists():
            return []
        latest: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            latest[event.get("event"), event.get("phase"), event.get("round"), event.get("step")] = event
        return list(latest.values())


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
