"""Which code computes token statistics from hidden states here, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from rlsf.errors import InputError
from rlsf.tokenstats.compiled import compiled_code, parts_by_compiled_code, rows_at_once
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import VocabularyParts
from rlsf.tokenstats.tiles import parts_by_tiles
from rlsf.tokenstats.triton_kernel import parts_by_triton, triton_available

#: Names one backend to be used wherever it can be.
VARIABLE = "RLSF_TOKEN_STATISTICS"
_TILE_ROWS = 512
#: Rows whose hidden states stay in the L2 cache of a device.
_KERNEL_ROWS = 4096


class PartsFunction(Protocol):
    """What a backend computes: the parts of the vocabulary for a block of rows, see ``parts_by_tiles``."""

    def __call__(
        self, hidden: Tensor, head: OutputHead, ids: Tensor, temperature: float, *, total: bool, above: Tensor | None
    ) -> VocabularyParts: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to compute, and the most rows that it takes at once."""

    name: str
    rows: int
    parts: PartsFunction


@dataclass(frozen=True, slots=True)
class BackendReport:
    """Whether a backend can be used on a device, whether it is the one chosen there, and why."""

    name: str
    usable: bool
    chosen: bool
    reason: str


def choose_backend(hidden: Tensor, head: OutputHead) -> Backend:
    """The fastest backend for these tensors, or the one that ``RLSF_TOKEN_STATISTICS`` names where it can be used."""
    reports = survey(hidden.device, head.weight.dtype)
    name = next(report.name for report in reports if report.chosen)
    if name == "triton":
        return Backend(name, _KERNEL_ROWS, parts_by_triton)
    if name == "compiled":
        return Backend(name, rows_at_once(head), parts_by_compiled_code)
    return Backend("tiles", _TILE_ROWS, parts_by_tiles)


def survey(device: torch.device, dtype: torch.dtype = torch.float32) -> list[BackendReport]:
    """Every backend, fastest first, as seen by tensors on ``device`` with an embedding in ``dtype``."""
    found = [
        ("triton", *_kernel_on(device, dtype)),
        ("compiled", *_compiled_on(device, dtype)),
        ("tiles", True, "PyTorch operations, on every device"),
    ]
    wanted = os.environ.get(VARIABLE)
    if wanted is not None and wanted not in {name for name, _, _ in found}:
        raise InputError(f"{VARIABLE}={wanted!r}: choose from {', '.join(name for name, _, _ in found)}")
    usable = [name for name, can, _ in found if can]
    chosen = wanted if wanted in usable else usable[0]
    return [BackendReport(name, can, name == chosen, reason) for name, can, reason in found]


@cache  # looking for Triton, a compiler and headers takes longer than the kernel on a few hundred rows
def _kernel_on(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    if device.type != "cuda":
        return False, "for CUDA devices"
    if dtype not in (torch.bfloat16, torch.float16):
        return False, "for half precision: tensor cores would round float32"
    return triton_available(device)


def _compiled_on(device: torch.device, dtype: torch.dtype) -> tuple[bool, str]:
    if device.type != "cpu":
        return False, "for CPUs"
    built = compiled_code()
    if built.functions is None:
        return False, built.reason
    if dtype == torch.float16 and not built.reads_float16:
        return False, "this processor does not read float16"
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False, f"not for {str(dtype).removeprefix('torch.')}"
    return True, built.reason
