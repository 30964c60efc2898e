"""``metrics.jsonl``: one line per measured event, append-only, readable while the run goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlsf.files import writing


class MetricsLog:
    """Appends events; a half-written last line of a killed run is cut off first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                os.truncate(path, len(whole))

    def record(self, event: Mapping[str, Any]) -> None:
        """Append one event; numbers that JSON lacks become null."""
        clean = {key: _json_number(value) for key, value in event.items()}
        with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(clean, ensure_ascii=False, allow_nan=False) + "\n")

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
