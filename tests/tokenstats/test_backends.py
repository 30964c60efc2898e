"""Which backend computes, and what happens where the compiled one cannot be built."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from float64_reference import largest_relative_error, logits_of_head

from rlsf.errors import InputError
from rlsf.tokenstats import compiled
from rlsf.tokenstats.backend import VARIABLE, choose_backend, survey
from rlsf.tokenstats.from_hidden import statistics_and_ranks_of_hidden, statistics_of_hidden
from rlsf.tokenstats.head import OutputHead
from rlsf.tokenstats.triton_kernel import triton_available

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(compiled.compiled_code().functions is None, reason=compiled.compiled_code().reason)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No wish from outside, and nothing remembered of what a test made of the compiler."""
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    compiled.compiled_code.cache_clear()


def chosen(dtype: torch.dtype = torch.float32) -> str:
    [name] = [report.name for report in survey(CPU, dtype) if report.chosen]
    return name


def assert_falls_back(reason: str) -> None:
    compiled.compiled_code.cache_clear()
    report = next(report for report in survey(CPU) if report.name == "compiled")
    assert not report.usable
    assert reason in report.reason
    assert chosen() == "tiles"
    head = OutputHead(torch.randn(50, 4))
    assert choose_backend(torch.zeros(1, 4), head).name == "tiles"
    assert statistics_of_hidden(torch.zeros(1, 4), head).entropy.item() == pytest.approx(torch.tensor(50).log().item())


@needs_compiler
def test_compiled_code_comes_first() -> None:
    assert chosen() == chosen(torch.bfloat16) == "compiled"


def test_float64_goes_by_tiles() -> None:
    assert chosen(torch.float64) == "tiles"


def test_the_kernel_is_for_half_precision_on_cuda() -> None:
    for device, dtype, reason in (
        ("cpu", torch.bfloat16, "CUDA"),
        ("cuda", torch.float32, "half precision"),
        ("cuda", torch.bfloat16, triton_available()[1]),
    ):
        report = survey(torch.device(device), dtype)[0]
        assert report.name == "triton"
        assert reason in report.reason
        assert report.usable == (dtype == torch.bfloat16 and device == "cuda" and triton_available()[0])


def test_a_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "tiles")
    assert chosen() == "tiles"
    monkeypatch.setenv(VARIABLE, "abacus")
    with pytest.raises(InputError, match=r"abacus.*tiles"):
        survey(CPU)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert_falls_back("no C++ compiler")


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'what is this?' >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert_falls_back("what is this?")


def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "nowhere"))
    assert_falls_back("nowhere")


def test_a_cache_folder_that_others_can_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "rlsf").mkdir()
    (tmp_path / "rlsf").chmod(0o777)
    assert_falls_back("can be written by others")


def test_a_cache_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_falls_back("file")


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_older_processors(
    processor: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Vectors of 4 and 8 numbers instead of 16, no products of bfloat16; the oldest ones cannot read float16."""
    flags = tuple(flag.replace("native", processor) for flag in compiled._COMPILE)
    monkeypatch.setattr(compiled, "_COMPILE", flags)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp()))
    compiled.compiled_code.cache_clear()
    built = compiled.compiled_code()
    assert (built.pairs, built.reads_float16) == (False, processor == "x86-64-v3")
    assert chosen(dtype) == ("tiles" if dtype == torch.float16 and processor == "x86-64" else "compiled")
    random = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(45, 97, generator=random).to(dtype), torch.randn(5003, 97, generator=random).to(dtype)
    head, ids = OutputHead(weight, scale=0.3, softcap=20.0), torch.randint(5003, (45,), generator=random)
    columns, ranks = statistics_and_ranks_of_hidden(hidden, head, ids)
    logits = logits_of_head(hidden, head)
    assert largest_relative_error(columns, logits, ids) < 1e-6
    assert ((ranks - 1 - (logits > logits.gather(1, ids.unsqueeze(1))).sum(1)).abs() <= 1).all()


@needs_compiler
def test_it_is_built_once_by_processes_side_by_side(tmp_path: Path) -> None:
    code = "from rlsf.tokenstats.compiled import compiled_code as built; assert built().functions is not None, built()"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    [built] = (tmp_path / "rlsf").iterdir()
    before = built.stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert built.stat().st_mtime_ns == before
