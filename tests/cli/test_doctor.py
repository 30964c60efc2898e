"""`rlsf doctor`: one screen that says what is here, which code computes what, and what is amiss."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mistakes import Fails

from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig
from rlsf.pipeline import model_diagnosis
from rlsf.pipeline.diagnosis import diagnose
from rlsf.pipeline.finding import Complaint, Fact
from rlsf.scoring.self_check import Verdict
from rlsf.tokenstats.compiled import CompiledCode


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert execute(["doctor", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def complaints(config: ModelConfig | None = None) -> list[str]:
    return [finding.text for group in diagnose(config) for finding in group if isinstance(finding, Complaint)]


@pytest.fixture
def all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as cores, which tests do without."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1024)


def test_machine_and_model_on_one_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, all_cores: None
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = doctor(capsys, "--model", MODEL_DIR)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 30
    flat = " ".join(shown.split())
    assert re.search(r"versions python==3\.\S+, rlsf==\S+, torch==\S+, transformers==\S+, trl==\S+,", flat)
    assert re.search(r"processor .* cores, 1024 used", flat)
    assert re.search(r"memory \d+\.\d of \d+\.\d GiB free", flat)
    assert re.search(r"linear layers float32 on the CPU by (oneDNN|PyTorch as usual): \w", flat)
    assert len(re.findall(r"^(?:statistics, cpu)? +\w+ +(?:in use) ", shown, re.MULTILINE)) == 1
    assert re.search(r"tiles +(in use|usable) +PyTorch operations, on every device", shown)
    assert "1.4 million parameters, float32 on cpu" in flat
    assert re.search(r"scoring without logits in memory: statistics with and without logits agree to \S+ nats", flat)
    assert "last layer 651 x 160, tied to the input embedding, scale 1, no soft cap" in flat
    assert "vocabulary 651 tokens in the tokenizer, 651 logits" in flat
    assert "context 512 tokens" in flat
    assert "ends with 1 '<|end|>'" in flat
    assert "chat template none: questions are put as `Q: ...` and `A:`" in flat


def test_a_model_that_cannot_be_loaded_is_one_line(fails: Fails, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(MODEL_DIR, bare)
    (bare / "model.safetensors").unlink()
    assert "no weights" in fails("doctor", "--model", bare)
    assert "--sampling.branches means nothing to `rlsf doctor`" in fails("doctor", "--sampling.branches", "3")
    assert "no model" in fails("doctor", "--model.dtype", "bfloat16")


def test_too_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "PyTorch uses 2 of 8 cores and OMP_NUM_THREADS is set: set OMP_NUM_THREADS=8" in complaints()


def test_unmet_requirements(monkeypatch: pytest.MonkeyPatch, all_cores: None) -> None:
    needs = ["torch>=99", "no-such-package>=1", "numpy", "vllm; extra == 'vllm'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: needs)
    found = complaints()
    assert f"torch {torch.__version__}, and rlsf needs >=99: pip install 'torch>=99'" in found
    assert "no-such-package missing, and rlsf needs >=1: pip install 'no-such-package>=1'" in found
    assert not [text for text in found if text.startswith(("numpy", "vllm"))]


def test_a_backend_that_is_asked_for_and_cannot_be_used(monkeypatch: pytest.MonkeyPatch, all_cores: None) -> None:
    monkeypatch.setenv("RLSF_TOKEN_STATISTICS", "triton")
    assert any(
        re.match(r"RLSF_TOKEN_STATISTICS=triton cannot be used on cpu: \w+ is; unset it", text) for text in complaints()
    )


def test_a_slower_backend_than_need_be(monkeypatch: pytest.MonkeyPatch, all_cores: None) -> None:
    monkeypatch.setattr("rlsf.tokenstats.backend.compiled_code", lambda: CompiledCode(None, "no C++ compiler"))
    assert complaints() == [
        "token statistics on cpu by tiles, slower than by compiled (no C++ compiler): install g++, or name a C++"
        " compiler in the variable CXX"
    ]


def test_a_device(monkeypatch: pytest.MonkeyPatch, all_cores: None) -> None:
    properties = SimpleNamespace(name="Card", total_memory=80 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70 * 2**30, 80 * 2**30))
    facts = [finding for group in diagnose() for finding in group if isinstance(finding, Fact)]
    assert Fact("cuda:0", "Card, 70.0 of 80.0 GiB free, compute capability 9.0") in facts
    assert {"statistics, cpu", "statistics, cuda"} <= {fact.name for fact in facts}


def test_scored_by_logits() -> None:
    found = list(model_diagnosis.scoring_findings(Verdict("logits", "its last layer is odd", 9, None, False)))
    assert found[0] == Fact("scoring", "by logits: its last layer is odd")
    assert isinstance(found[1], Complaint)
    assert "slower and with more memory (its last layer is odd)" in found[1].text


@pytest.mark.parametrize(
    ("end", "complaint"),
    [
        ("<|end|>", None),
        ("\n", "ends an answer with '', in which there is none of the tokens that end a trace"),
        ("{{ raise_exception('no') }}", "the tokenizer's chat template refuses it (no): see its tokenizer_config.json"),
    ],
)
def test_chat_templates(end: str, complaint: str | None, tmp_path: Path, all_cores: None) -> None:
    chat = tmp_path / "chat"
    shutil.copytree(MODEL_DIR, chat)
    template = "{% for message in messages %}{{ message.content }}" + end + "{% endfor %}"
    (chat / "chat_template.jinja").write_text(template)
    groups = diagnose(ModelConfig(path=str(chat)))
    assert Fact("chat template", "yes") in groups[-1]
    found = [finding.text for finding in groups[-1] if isinstance(finding, Complaint)]
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]
