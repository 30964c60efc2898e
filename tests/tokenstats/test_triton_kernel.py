"""The CUDA kernel without a CUDA device: interpreted on the CPU, and compiled for devices that are elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsf.tokenstats import triton_kernel
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.triton_kernel import (
    AMPERE,
    AMPERE_FEW_ROWS,
    HOPPER,
    HOPPER_FEW_ROWS,
    SINGLE_PRECISION,
    Blocks,
    choose_blocks,
    parts_by_triton,
    triton_available,
)

triton = pytest.importorskip("triton")
Compile = Callable[..., Any]

#: Bytes of shared memory of a multiprocessor by compute capability; of these 1024 are kept from every program.
SHARED_MEMORY = {90: 228 * 1024, 80: 164 * 1024, 86: 100 * 1024}


def test_interpreted() -> None:
    """See ``interpreted_kernel``. In a process of its own: Triton reads this variable when it is imported."""
    cases = Path(__file__).with_name("interpreted_kernel.py")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(cases)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]


@dataclass
class Elsewhere:
    """What Triton asks of a driver to compile for its device. ``capability`` 90 is 9.0."""

    capability: int

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        return triton.backends.compiler.GPUTarget("cuda", self.capability, 32)


@pytest.fixture
def compile_launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compile:
    """Compile, anew, what ``parts_by_triton`` would launch for these tensors on a device of a compute capability."""
    binaries: list[Any] = []
    run = triton.JITFunction.run

    def only_compile(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        binaries.append(run(self, *arguments, grid=grid, warmup=True, **options))

    def compile_launch(capability: int, hidden: torch.Tensor, head: OutputHead, *, above: bool = False) -> Any:
        monkeypatch.setattr(triton.runtime.driver, "_active", Elsewhere(capability))
        monkeypatch.setattr(triton_kernel, "_capability", lambda device: divmod(capability, 10))
        ids = torch.zeros(len(hidden), dtype=torch.int64)
        logits = torch.zeros(len(hidden)) if above else None
        parts_by_triton(hidden, head, ids, 0.7, total=head.softcap is not None, above=logits)
        return binaries.pop()

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setattr(triton.JITFunction, "run", only_compile)
    return compile_launch


def assembled(binary: Any, folder: Path) -> tuple[int, int]:
    """Registers of a thread, and bytes that it spills, as counted by the assembler that comes with Triton."""
    target = re.search(r"\.target (\w+)", binary.asm["ptx"])
    assert target is not None
    text = folder / "program.ptx"
    text.write_text(binary.asm["ptx"])
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    command = [assembler, "--verbose", f"--gpu-name={target[1]}", text, "-o", folder / "program.cubin"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "serialized" not in report  # tensor core instructions that wait for each other
    registers, spilled = re.search(r"Used (\d+) registers", report), re.search(r"(\d+) bytes spill stores", report)
    assert registers is not None
    assert spilled is not None
    return int(registers[1]), int(spilled[1])


@pytest.mark.parametrize(
    ("capability", "dtype", "rows", "blocks", "softcap"),
    [
        pytest.param(90, torch.bfloat16, 70, HOPPER, None, id="hopper"),
        pytest.param(90, torch.bfloat16, 70, HOPPER, 30.0, id="hopper-softcap"),
        pytest.param(90, torch.float16, 3, HOPPER_FEW_ROWS, None, id="hopper-few-rows"),
        pytest.param(80, torch.bfloat16, 70, AMPERE, None, id="ampere"),
        pytest.param(86, torch.float16, 3, AMPERE_FEW_ROWS, 30.0, id="ampere-few-rows-softcap"),
    ],
)
def test_compiled_for_tensor_cores(
    capability: int,
    dtype: torch.dtype,
    rows: int,
    blocks: Blocks,
    softcap: float | None,
    compile_launch: Compile,
    tmp_path: Path,
) -> None:
    """Products on tensor cores from copies that are in flight beside them, no register spilled, one result a row."""
    head = OutputHead(torch.zeros(300, 896, dtype=dtype), softcap=softcap)
    binary = compile_launch(capability, torch.zeros(rows, 896, dtype=dtype), head, above=True)
    code = binary.asm["ptx"]
    kind = {torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    if blocks.descriptors:
        assert re.search(rf"wgmma\.mma_async\.sync\.aligned\.m64n{blocks.tokens}k16\.f32\.{kind}\.{kind}", code)
        assert "cp.async.bulk.tensor.2d" in code
    else:
        assert re.search(rf"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.{kind}\.{kind}", code)
        assert re.search(r"cp\.async\.cg\.shared\.global \[[^\]]*\], \[[^\]]*\], 0x10", code)
    assert (binary.metadata.shared + 1024) * blocks.resident <= SHARED_MEMORY[capability]
    registers, spilled = assembled(binary, tmp_path)
    assert spilled == 0
    assert registers * 32 * blocks.warps * blocks.resident <= 65536
    written = re.findall(r"tt\.store .*tensor<(\S+)x!tt\.ptr", binary.asm["ttir"])
    assert written == [str(blocks.rows)] * (7 if softcap is None else 8)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_float32_is_not_rounded_for_tensor_cores(weights: torch.dtype, compile_launch: Compile, tmp_path: Path) -> None:
    binary = compile_launch(80, torch.zeros(3, 64), OutputHead(torch.zeros(300, 64, dtype=weights), torch.zeros(300)))
    assert "mma" not in binary.asm["ptx"]
    assert "tf32" not in binary.asm["ptx"]
    assert assembled(binary, tmp_path)[1] == 0


@pytest.mark.parametrize(("capability", "width"), [(90, 1), (80, 33)])
def test_odd_matrices_compile(capability: int, width: int, compile_launch: Compile) -> None:
    """Rows at odd addresses, a matrix by columns, a width of one: without wide copies, but on tensor cores."""
    hidden, weight = torch.zeros(1, width).bfloat16(), torch.zeros(width, 300).bfloat16().T
    assert "mma" in compile_launch(capability, hidden, OutputHead(weight)).asm["ptx"]


def test_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(rows: int, width: int = 32, dtype: torch.dtype = torch.bfloat16) -> Blocks:
        return choose_blocks(torch.zeros(rows, width, dtype=dtype), torch.zeros(5, width, dtype=dtype))

    monkeypatch.setattr(triton_kernel, "_capability", lambda device: (9, 0))
    assert [chosen(64), chosen(65), chosen(65, dtype=torch.float32)] == [HOPPER_FEW_ROWS, HOPPER, SINGLE_PRECISION]
    assert [chosen(64, width=33), chosen(65, width=33)] == [AMPERE_FEW_ROWS, AMPERE]  # rows at odd addresses
    by_columns = torch.zeros(32, 5, dtype=torch.bfloat16).T
    assert choose_blocks(torch.zeros(65, 32, dtype=torch.bfloat16), by_columns) == AMPERE
    for capability in ((8, 0), (8, 9), (10, 0), (12, 0)):
        monkeypatch.setattr(triton_kernel, "_capability", lambda device, capability=capability: capability)
        assert [chosen(64), chosen(65)] == [AMPERE_FEW_ROWS, AMPERE]


@given(
    rows=st.integers(0, 100_000),
    vocabulary=st.integers(2, 300_000),
    multiprocessors=st.integers(1, 200),
    blocks=st.sampled_from([HOPPER, HOPPER_FEW_ROWS, AMPERE, SINGLE_PRECISION]),
)
def test_parts_cover_the_vocabulary_and_fill_the_device(
    rows: int, vocabulary: int, multiprocessors: int, blocks: Blocks
) -> None:
    (row_blocks, parts), span = triton_kernel._grid(rows, vocabulary, blocks, multiprocessors)
    assert span % blocks.tokens == 0
    assert (parts - 1) * span < vocabulary <= parts * span
    assert row_blocks * blocks.rows >= rows
    places = blocks.resident * multiprocessors
    waves = -(-row_blocks * parts // places)
    enough_tiles = vocabulary >= 20 * blocks.tokens * parts  # else they do not divide evenly
    assert row_blocks * parts >= 0.8 * waves * places or not enough_tiles


def test_few_rows_make_many_parts() -> None:
    """H200: 132 multiprocessors."""
    assert triton_kernel._grid(1, 151_936, HOPPER_FEW_ROWS, 132) == ((1, 238), 640)
    assert triton_kernel._grid(4096, 151_936, HOPPER, 132) == ((32, 4), 38_144)


class TestAvailable:
    @pytest.fixture(autouse=True)
    def device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An A100, as far as PyTorch tells."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
        monkeypatch.setenv("CC", "cc")

    def test_it_is(self) -> None:
        assert triton_available() == (True, "Triton on compute capability 8.0")

    def test_tensors_elsewhere(self) -> None:
        assert triton_available(torch.device("cpu")) == (False, "the tensors are on cpu")

    def test_no_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert triton_available() == (False, "no CUDA device")

    def test_an_amd_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "hip", "7.0")
        assert triton_available() == (False, "the kernel is not made for AMD devices")

    def test_an_old_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
        assert triton_available() == (False, "compute capability 7.5 is below 8.0")

    def test_no_triton(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "triton", None)
        assert triton_available() == (False, "triton is not installed")

    def test_no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CC")
        monkeypatch.setenv("PATH", "")
        assert triton_available() == (False, "Triton needs a C compiler: gcc, clang or the variable CC")

    def test_no_headers(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(triton_kernel.sysconfig, "get_path", lambda name, scheme: str(tmp_path))
        usable, reason = triton_available()
        assert not usable
        assert str(tmp_path) in reason


def test_the_module_needs_no_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None; from rlsf.tokenstats.triton_kernel import triton_available as t; t()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
