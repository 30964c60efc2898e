"""Statistics from hidden states by a CUDA kernel: where it can run, in which blocks, and its launch.

What the kernel computes is in ``rlsf.tokenstats.triton_program``, imported at a launch, so that this module needs no
Triton.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import VocabularyParts

#: The oldest compute capability: tensor cores for bfloat16, and copies to shared memory that pass the registers by.
_OLDEST = (8, 0)
#: Share of the places for programs that the last wave of a launch may leave empty.
_IDLE = 0.1


@dataclass(frozen=True, slots=True)
class Blocks:
    """Shape of the tiles [rows, tokens] and of the steps [width] through the hidden states, and what runs them.

    ``stages`` steps are in flight, ``resident`` programs of ``warps`` warps fit on a multiprocessor. With
    ``descriptors`` the hardware copies whole blocks (TMA), else each thread copies from its own addresses.
    """

    rows: int
    tokens: int
    width: int
    warps: int
    stages: int
    resident: int
    descriptors: bool = False


# Registers of a thread (of 255) and shared memory of a program as compiled by Triton 3.7.1 for bfloat16 without a bias:
# nothing is spilled. A tile of 128 x 256 draws a quarter less from the L2 cache than two of 128 x 128.
#: Compute capability 9.0, 227 KB of shared memory: 250 registers, 192 KB. A bias spills two registers a tile.
HOPPER = Blocks(rows=128, tokens=256, width=64, warps=8, stages=4, resident=1, descriptors=True)
#: The same for 64 rows or fewer, whose time is that of reading the weights: 162 registers, 96 KB.
HOPPER_FEW_ROWS = Blocks(rows=64, tokens=128, width=64, warps=4, stages=4, resident=2, descriptors=True)
#: Others, 99 KB of shared memory or more: 250 registers and 66 KB on 8.0, 239 and 97 KB on 10.0, 255 and 66 KB on 12.0.
AMPERE = Blocks(rows=128, tokens=128, width=64, warps=8, stages=3, resident=1)
#: The same for 64 rows or fewer: 243 registers, 49 KB.
AMPERE_FEW_ROWS = Blocks(rows=64, tokens=128, width=64, warps=4, stages=3, resident=2)
#: float32, not by tensor cores, which round it: 190 registers, 24 KB; with weights to convert 254.
SINGLE_PRECISION = Blocks(rows=64, tokens=128, width=16, warps=8, stages=3, resident=1)


def triton_available(device: torch.device | None = None) -> tuple[bool, str]:
    """Whether ``parts_by_triton`` can run on the device (by default the current one), and the reason in a phrase."""
    if device is not None and device.type != "cuda":
        return False, f"the tensors are on {device.type}"
    if not torch.cuda.is_available():
        return False, "no CUDA device"
    if torch.version.hip is not None:
        return False, "the kernel is not made for AMD devices"
    if find_spec("triton") is None:
        return False, "triton is not installed"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < _OLDEST:
        return False, f"compute capability {major}.{minor} is below {_OLDEST[0]}.{_OLDEST[1]}"
    missing = _missing_for_launchers()
    return (False, missing) if missing else (True, f"Triton on compute capability {major}.{minor}")


def _missing_for_launchers() -> str:
    """What a machine lacks that Triton needs to compile its launchers, or nothing."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler: gcc, clang or the variable CC"
    headers = Path(sysconfig.get_path("include", sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")))
    return "" if (headers / "Python.h").is_file() else f"Triton needs Python's headers, which are not in {headers}"


def parts_by_triton(
    hidden: Tensor, head: OutputHead, ids: Tensor, temperature: float, *, total: bool, above: Tensor | None
) -> VocabularyParts:
    """The parts of the vocabulary for rows ``hidden`` [N, d] with tokens ``ids`` [N]: see ``parts_by_tiles``.

    Reads the matrices as they are where both are bfloat16 or both float16, otherwise multiplies in float32, which no
    tensor core does. The fewer rows, the more parts, so that the device is full: sums over other parts may differ in
    their last digit, logits do not. Fast for 4096 rows or fewer, whose hidden states stay in the L2 cache.
    """
    from rlsf.tokenstats.triton_program import parts_program

    states = hidden if hidden.dtype == head.weight.dtype and hidden.itemsize == 2 else hidden.float()
    blocks = choose_blocks(states, head.weight)
    grid, span = _grid(len(states), head.vocabulary_size, blocks, _multiprocessors(states.device))
    reals = states.new_empty((6 if total else 5, grid[1], len(states)), dtype=torch.float32)
    top1_id = ids.new_empty(reals.shape[1:], dtype=torch.int64)
    counts = None if above is None else torch.empty_like(top1_id)
    if len(states):
        launch: Any = parts_program[grid]
        with torch.cuda.device_of(states):
            launch(
                *_sources(states, head, blocks),
                *(None if vector is None else vector.contiguous() for vector in (head.bias, ids, above)),
                *(reals, top1_id, counts),
                *(len(states), head.vocabulary_size, head.width, span),
                *_factors(head, temperature),
                *(*states.stride(), *head.weight.stride()),
                **_constants(blocks, head, total=total, above=above is not None),
            )
    top1, top2, excess, expectation, chosen, *totals = (column.T for column in reals)
    counted = None if counts is None else counts.T
    return VocabularyParts(top1, top2, top1_id.T, excess, expectation, chosen, totals[0] if totals else None, counted)


def choose_blocks(states: Tensor, weight: Tensor) -> Blocks:
    """The blocks for these matrices on their device."""
    if states.dtype == torch.float32:
        return SINGLE_PRECISION
    few = len(states) <= HOPPER_FEW_ROWS.rows
    if _capability(states.device)[0] == 9 and all(_fits_descriptor(matrix) for matrix in (states, weight)):
        return HOPPER_FEW_ROWS if few else HOPPER
    return AMPERE_FEW_ROWS if few else AMPERE


def _fits_descriptor(matrix: Tensor) -> bool:
    """Whether rows are stored without gaps inside and begin at multiples of 16 bytes."""
    return matrix.stride(1) == 1 and matrix.data_ptr() % 16 == 0 and matrix.stride(0) * matrix.itemsize % 16 == 0


# Triton's interpreter runs the program on a CPU, which then stands for the oldest device with a few multiprocessors.
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else _OLDEST


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def _grid(rows: int, vocabulary: int, blocks: Blocks, multiprocessors: int) -> tuple[tuple[int, int], int]:
    """Blocks of rows and parts of the vocabulary, and the tokens of a part.

    As many programs as run at once, or as the fewest waves of them that leave few places empty.
    """
    row_blocks, tiles = max(1, -(-rows // blocks.rows)), -(-vocabulary // blocks.tokens)
    places = (waves * blocks.resident * multiprocessors for waves in count(1))
    parts = next(fit // row_blocks for fit in places if fit // row_blocks * row_blocks >= (1 - _IDLE) * fit)
    tiles_of_part = -(-tiles // parts)
    return (row_blocks, -(-tiles // tiles_of_part)), tiles_of_part * blocks.tokens


def _sources(states: Tensor, head: OutputHead, blocks: Blocks) -> tuple[Any, Any]:
    """What the program reads the matrices through: descriptors or pointers."""
    if not blocks.descriptors:
        return states, head.weight
    from triton.tools.tensor_descriptor import TensorDescriptor

    return (
        TensorDescriptor.from_tensor(states, [blocks.rows, blocks.width]),
        TensorDescriptor.from_tensor(head.weight[: head.vocabulary_size], [blocks.tokens, blocks.width]),
    )


def _factors(head: OutputHead, temperature: float) -> tuple[float, float]:
    """The factors of the products and of the capped logits: ``OutputHead.finish`` and the division in one step."""
    if head.softcap is None:
        return head.scale / temperature, 1.0
    return head.scale / head.softcap, head.softcap / temperature


def _constants(blocks: Blocks, head: OutputHead, *, total: bool, above: bool) -> dict[str, int | bool]:
    """What the program is compiled for. Fused multiplications and additions are Triton's default up to 3.9 only."""
    return {
        "BLOCK_M": blocks.rows,
        "BLOCK_N": blocks.tokens,
        "BLOCK_K": blocks.width,
        "DESCRIPTORS": blocks.descriptors,
        "BIAS": head.bias is not None,
        "SOFTCAP": head.softcap is not None,
        "TOTAL": total,
        "ABOVE": above,
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
        "enable_fp_fusion": True,
    }
