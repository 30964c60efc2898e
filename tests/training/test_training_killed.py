"""kill -9 at random moments, again and again: the weights in the end are those of a run left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from killed_children import reported
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("killed_training.py")


@pytest.mark.slow
def test_killed_and_resumed_equals_left_alone(tmp_path: Path) -> None:
    report = reported(SCRIPT, tmp_path, 1, 5)
    assert report["killed"] >= 2, report
    whole, cut = (load_file(tmp_path / name / "policy" / "adapter_model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name
    selections = [(tmp_path / name / "checkpoints" / "checkpoint-20" / "selection.json") for name in ("whole", "cut")]
    assert selections[0].read_text() == selections[1].read_text()
