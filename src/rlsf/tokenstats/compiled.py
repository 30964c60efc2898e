"""The one pass over the vocabulary as machine code for this processor, built once where there is a C++ compiler.

``compiled.cpp`` is compiled for the processor at hand into the user's cache folder, in about a second, and loaded from
there afterwards. It does what ``parts_by_tiles`` does, with no logits in memory, in about the time that oneDNN needs
for the bare matrix product (``benchmarks/token_statistics.py``).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rlsf.errors import ResourceError
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.parts import VocabularyParts

#: Most rows of a block, and most bytes of its packed hidden states.
_ROWS, _PACKED_BYTES = 1024, 8 * 2**20
#: Tokens of a part of the vocabulary: sums over longer ones lose digits.
_PART = 4096
#: Numbers of the precisions of an embedding in ``compiled.cpp``.
_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_SOURCE = Path(__file__).with_name("compiled.cpp")
#: OpenMP's functions stay undefined in the library: they are found in PyTorch's own copy, whose threads they share.
_COMPILE = (
    *("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-exceptions"),
    *("-fopenmp", "-fPIC", "-c"),
)
_SECONDS = 120

_POINTERS = ("hidden", "weight", "bias", "ids", "above", "top1", "top2", "excess", "expectation", "chosen", "total")


class Problem(ctypes.Structure):
    """The arguments of the compiled function, field by field as in ``compiled.cpp``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (*_POINTERS, "top1_id", "count")),
        *((name, ctypes.c_int64) for name in ("rows", "width", "tokens", "part", "hidden_stride", "weight_stride")),
        *((name, ctypes.c_float) for name in ("scale", "softcap", "temperature")),
        *((name, ctypes.c_int32) for name in ("kind", "paired", "threads")),
    )


class CompiledCode(NamedTuple):
    """The loaded code, or None and the reason why there is none. ``pairs``: multiplies bfloat16 itself."""

    functions: ctypes.CDLL | None
    reason: str
    pairs: bool = False
    reads_float16: bool = False


@cache
def compiled_code() -> CompiledCode:
    """Compile once, load once a process."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if platform.system() != "Linux":
        return CompiledCode(None, f"not on {platform.system()}")
    if not compiler:
        return CompiledCode(None, "no C++ compiler (g++, c++ or CXX)")
    try:
        code = ctypes.CDLL(str(_built(compiler)))
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        return CompiledCode(None, f"{compiler} cannot build it: {lines[0] if lines else error.returncode}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return CompiledCode(None, f"{compiler} cannot build it: {error}")
    abilities = code.rlsf_abilities()
    pairs = bool(abilities & 1)
    return CompiledCode(
        code, f"built by {compiler}{', with bfloat16 products' if pairs else ''}", pairs, bool(abilities & 2)
    )


def parts_by_compiled_code(
    hidden: Tensor, head: OutputHead, ids: Tensor, temperature: float, *, total: bool, above: Tensor | None
) -> VocabularyParts:
    """As ``parts_by_tiles``, on CPU. Raises ``ResourceError`` where a few MiB of memory are not to be had."""
    functions, _, pairs, _ = compiled_code()
    assert functions is not None
    paired = pairs and hidden.dtype == head.weight.dtype == torch.bfloat16
    states = _rows(hidden if paired else hidden.float())
    weight = _rows(head.weight)
    bias = None if head.bias is None else head.bias.detach().float().contiguous()
    shape = (len(hidden), -(-head.vocabulary_size // _PART))
    reals = states.new_empty((5, *shape), dtype=torch.float32)
    sums = reals.new_empty(shape) if total else None
    top1_id = ids.new_empty(shape)
    counts = ids.new_empty(shape) if above is not None else None
    tensors = (states, weight, bias, ids.contiguous(), above, *reals, sums, top1_id, counts)
    problem = Problem(
        *(None if tensor is None else tensor.data_ptr() for tensor in tensors),
        *(*hidden.shape, head.vocabulary_size, _PART, states.stride(0), weight.stride(0)),
        *(head.scale, head.softcap or 0.0, temperature),
        *(_KINDS[head.weight.dtype], paired, torch.get_num_threads()),
    )
    if functions.rlsf_token_statistics(ctypes.byref(problem)):
        raise ResourceError(f"no memory for the token statistics of {shape[0]} rows: lower the batch size")
    top1, top2, excess, expectation, chosen = reals
    return VocabularyParts(top1, top2, top1_id, excess, expectation, chosen, sums, counts)


def rows_at_once(head: OutputHead) -> int:
    """Rows of a block, so that their packed hidden states stay within 8 MiB."""
    return max(1, min(_ROWS, _PACKED_BYTES // (4 * head.width)))


def _rows(matrix: Tensor) -> Tensor:
    """The matrix with each row in consecutive places."""
    return matrix if matrix.stride(1) == 1 or matrix.shape[1] == 1 else matrix.contiguous()


def _built(compiler: str) -> Path:
    """The library in the cache folder, built if it is not there; several processes may do so at once."""
    folder = _cache_folder()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True)
    processor = json.dumps(torch.cpu.get_capabilities(), sort_keys=True, default=str)
    parts = (_SOURCE.read_bytes(), version.stdout.encode(), " ".join(_COMPILE).encode(), processor.encode())
    target = folder / f"token_statistics-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            unlinked, linked = Path(scratch, "code.o"), Path(scratch, "code.so")
            compiling = [*_COMPILE, str(_SOURCE), "-o", str(unlinked)]
            for command in (compiling, ["-shared", str(unlinked), "-o", str(linked)]):
                subprocess.run([compiler, *command], capture_output=True, text=True, timeout=_SECONDS, check=True)
            linked.replace(target)
    return target


def _cache_folder() -> Path:
    """``$XDG_CACHE_HOME/rlsf``, which must be the user's own: what lies there is run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlsf"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written by others: chmod 700 it, or set XDG_CACHE_HOME")
    return folder
