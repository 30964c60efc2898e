"""A whole run that vLLM samples for: two rounds, the policy of the first an adapter that vLLM applies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from run_files import manifest

from rlsf.models import ModelConfig, model_fingerprint
from rlsf.pipeline.sampling import read_traces
from rlsf.recipes import Recipe
from rlsf.recipes.resolve import to_yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make conformance"),
]
VLLM = ("model.engine=vllm", "model.device=cpu", "model.vllm.cache_gib=0.5", "model.vllm.enforce_eager=true")


def test_two_rounds_end_with_a_report(small_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """By a signal of whole distributions, which vLLM does not return: each trace is read once more here."""
    learning = ("training.rounds=2", "training.lora.rank=4", "training.selection=null", "signal=self_certainty")
    recipe = small_recipe(*VLLM, *learning, name="rlsf")
    file, output = tmp_path / "recipe.yaml", tmp_path / "run"
    file.write_text(to_yaml(recipe))
    command = [sys.executable, "-m", "rlsf", "run", "--config", str(file), "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert (output / "report.html").is_file()
    assert (output / "evaluation" / "summary.json").is_file()
    sampled = [manifest(output, f"traces/round-{number}")["inputs"]["model"] for number in (1, 2)]
    assert all(model["vllm"]["rescored"] for model in sampled)
    first_policy = ModelConfig(path=str(output / "checkpoints" / "round-1" / "policy"))
    assert sampled[1]["fingerprint"] == model_fingerprint(first_policy) != sampled[0]["fingerprint"]
    for number in (1, 2):
        for group in read_traces(output / "traces" / f"round-{number}"):
            assert all(np.isfinite(trace.statistics.self_certainty).all() for trace in group)
