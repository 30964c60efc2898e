"""Models and data sets by name, without the folders of the machine they were on."""

from __future__ import annotations

import re
from pathlib import Path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_hub_id(path: str | None) -> bool:
    """Whether this names something on the Hub: of its form, and no file or folder here, which would be taken first."""
    return path is not None and _HUB_ID.fullmatch(path) is not None and not Path(path).exists()


def short_name(path: str | None) -> str:
    """The Hub id, or the last part of a local path; empty without one."""
    if path is None:
        return ""
    return path if is_hub_id(path) else Path(path).name or path
