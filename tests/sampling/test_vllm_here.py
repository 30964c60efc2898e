"""vLLM itself with an adapter: applied as PEFT applies it, and gone with all its processes once it is let go of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from agreement import assert_statistics
from peft import LoraConfig, get_peft_model

from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.sampling.pool import EnginePool, engine_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make conformance"),
]
VLLM = {"device": "cpu", "engine": "vllm", "vllm": {"cache_gib": 0.5, "enforce_eager": True}}
CONFIG = SamplingConfig(branches=4, max_new_tokens=16)


def an_adapter(folder: Path, **options: Any) -> Path:
    """A LoRA adapter of random weights, far from nothing."""
    base = load_model(ModelConfig(path=str(MODEL_DIR), device="cpu"))
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    torch.manual_seed(0)
    model: Any = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.peft_config["default"].base_model_name_or_path = str(MODEL_DIR)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["applied", "merged"])
def test_an_adapter_samples_as_its_merged_weights_do(
    options: dict[str, Any], tmp_path: Path, reference_logits: Callable[..., torch.Tensor]
) -> None:
    config = ModelConfig.model_validate({"path": str(an_adapter(tmp_path, **options)), **VLLM})
    merged, tokenizer = load_model(config.by_transformers), load_tokenizer(config)
    request = SamplingRequest("q", tuple(tokenizer.encode("Question: What is 7 + 8?\nAnswer:")))
    [expected] = TransformersEngine(merged, tokenizer).sample([request], CONFIG)
    plain = TransformersEngine(load_model(ModelConfig(path=str(MODEL_DIR), device="cpu")), tokenizer)
    [unadapted] = plain.sample([request], CONFIG)
    assert [trace.text for trace in unadapted] != [trace.text for trace in expected], "the adapter must matter"
    before = set(psutil.Process().children(recursive=True))
    with EnginePool(1):
        [traces] = engine_for(config).sample([request], CONFIG)
        assert set(psutil.Process().children(recursive=True)) > before
    left = [process for process in set(psutil.Process().children(recursive=True)) - before if _is_of_vllm(process)]
    assert left == []
    for trace, same in zip(traces, expected, strict=True):
        assert trace.token_ids.tolist() == same.token_ids.tolist()
        logits = reference_logits(merged, request.token_ids, trace.token_ids)
        assert_statistics(trace, logits, 1e-3, ("logprob", "top1_logprob", "top2_logprob"))


def _is_of_vllm(process: psutil.Process) -> bool:
    # Multiprocessing keeps a tracker process of its own from the first spawn on.
    return "resource_tracker" not in " ".join(process.cmdline())


PARENT = """
import json, sys, time, psutil
from rlsf.models import ModelConfig
from rlsf.sampling.pool import engine_for

if __name__ == "__main__":
    engine_for(ModelConfig.model_validate(json.loads(sys.argv[1])))
    print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
    time.sleep(600)
"""


def test_vllm_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    said = json.dumps({"path": str(MODEL_DIR), **VLLM})
    with subprocess.Popen([sys.executable, script, said], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
        assert any("VLLM" in " ".join(child.cmdline()) for child in children)
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
