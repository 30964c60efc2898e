"""kill -9 at random moments, again and again: the weights in the end are those of a run left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("killed_training.py")


@pytest.mark.slow
def test_killed_and_resumed_equals_left_alone(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "1", "5"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    report = json.loads(process.stdout.splitlines()[-1])
    assert report["killed"] >= 2, report
    whole, cut = (load_file(tmp_path / name / "policy" / "adapter_model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name
    selections = [(tmp_path / name / "checkpoints" / "checkpoint-20" / "selection.json") for name in ("whole", "cut")]
    assert selections[0].read_text() == selections[1].read_text()
