"""Wall-clock time and peak memory of the demo, all its processes together.

python benchmarks/demo.py [--quick] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from _shared import options, show, write_json

#: Seconds between two looks at the memory.
_INTERVAL = 0.2


def proportional_memory(root: psutil.Process) -> int:
    """Bytes held by a process and its children, pages that several share counted once (Linux; else resident sets)."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile
        total += getattr(memory, "pss", memory.rss)
    return total


def watch(command: list[str], folder: Path) -> tuple[float, int]:
    """Run a command in a folder; seconds, and the largest memory seen."""
    started, peak = time.monotonic(), 0
    with (folder / "output.txt").open("w") as output:
        running = psutil.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        while running.poll() is None:
            peak = max(peak, proportional_memory(running))
            time.sleep(_INTERVAL)
    if running.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{(folder / 'output.txt').read_text()}")
    return time.monotonic() - started, peak


def main() -> None:
    """Both recipes, or the first alone with few steps."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    command = [sys.executable, "-m", "rlsf", "demo"]
    if arguments.quick:
        command += ["--alone", "--training.max_steps", "20"]
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak = watch(command, Path(folder))
    show("The demo", ["", "seconds", "peak GB"], [[" ".join(command[2:]), f"{seconds:.0f}", f"{peak / 1e9:.2f}"]])
    write_json(arguments.json, {"quick": arguments.quick, "seconds": seconds, "peak_bytes": peak})


if __name__ == "__main__":
    main()
