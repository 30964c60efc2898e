"""What every benchmark shares: options, one process a variant, peak memory, the machine it ran on."""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import platform
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from rich.console import Console
from rich.table import Table


def options(description: str) -> argparse.ArgumentParser:
    """A parser with ``--quick`` and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under 60 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


T = TypeVar("T")
_STATUS = Path("/proc/self/status")


def forget_peak_memory() -> None:
    """Let ``peak_memory`` count from here on, where the system can (Linux)."""
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def return_free_memory() -> None:
    """Give what the allocator holds in reserve back to the system, lest it hide what a call needs (glibc)."""
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_memory() -> int:
    """Largest resident set of this process, in bytes, since it was last forgotten."""
    if _STATUS.exists():
        peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a process of its own, so that its peak memory is its own.

    Forked where the system forks, which spares importing everything again.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "processor": _processor_name(),
        "cores": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table; the first column names the variant, the others are figures."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A file has no width, and Rich takes it for a narrow terminal.
    (console if console.is_terminal else Console(width=120)).print(table)


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """The figures and the machine, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")


def finished_runs(file: Path | None) -> list[dict[str, Any]]:
    """The runs that an earlier call has written to ``file``; none where there is no such file."""
    return json.loads(file.read_text(encoding="utf-8"))["runs"] if file is not None and file.exists() else []
