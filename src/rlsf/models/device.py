"""Where and in which precision a model computes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rlsf.errors import InputError

if TYPE_CHECKING:
    import torch

_CUDA = re.compile(r"cuda(?::(\d+))?")


def resolve_device(name: str) -> torch.device:
    """``auto`` (CUDA where there is one, else CPU), ``cpu``, ``cuda`` or ``cuda:N`` as a device that exists."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    match = _CUDA.fullmatch(name)
    if match is None:
        raise InputError(f"model.device={name!r}: use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise InputError(f"model.device={name!r}, but no CUDA device is available: use auto or cpu")
    if match[1] is not None and int(match[1]) >= torch.cuda.device_count():
        raise InputError(f"model.device={name!r}, but there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return torch.device(name)


def resolve_dtype(name: str, device: torch.device, *, for_training: bool) -> torch.dtype | None:
    """The precision to load in, None for that of the saved weights.

    ``auto`` is float32 on CPU, where half precision is slow, and for training, where small updates vanish in
    bfloat16 weights (mixed precision is the trainer's business).
    """
    import torch

    if name == "auto":
        return torch.float32 if for_training or device.type == "cpu" else None
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
