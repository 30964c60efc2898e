"""Trainings that ``accelerate launch`` divides among two processes, by the shipped configurations: DDP and FSDP2."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from launched_trainings import launched, train_cases
from safetensors.torch import load_file
from tiny_policy import tiny_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlsf.errors import InputError
from rlsf.training.common_options import passes
from rlsf.training.config import TrainingConfig
from rlsf.training.cut_models import require_trainable_in_pieces

#: Adam, whose moments a resumed training has to find again; the probes keep step 2.
RESUMABLE: dict[str, Any] = {
    "kind": "preferences",
    "agreements": [0.1, 0.3, 0.2],
    "max_steps": 4,
    "learning_rate": 1e-2,
    "trainer": {"save_total_limit": 9},
}
CASES: dict[str, dict[str, Any]] = {
    "preferences": {"kind": "preferences", "agreements": [0.1, 0.2]},
    "examples": {"kind": "examples"},
    "comparisons": {"kind": "comparisons"},
    "attempts": {"kind": "attempts"},
}
RESUMED: dict[str, dict[str, Any]] = {
    "whole": RESUMABLE,
    "from the start": {**RESUMABLE, "resumed": {"case": "whole", "step": 0}},
    "from step 2": {**RESUMABLE, "resumed": {"case": "whole", "step": 2}},
    "at the end": {**RESUMABLE, "resumed": {"case": "whole", "step": 4}},
}


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_learns(tmp_path: Path, configuration: str) -> None:
    """Weights within 1e-6, after the same steps, told and decided by the first process; every training resumes."""
    two, one = tmp_path / "two", tmp_path / "one"
    process = launched(two, configuration, {**CASES, **RESUMED})
    assert process.returncode == 0, process.stderr[-3000:]
    # In this process by passes over a half of a step: what each of two processes has of it.
    train_cases(one, {name: {**case, "device_batch_size": 4} for name, case in CASES.items()})
    for name in CASES:
        (first, second), expected = reports(two / name), report(one / name)
        assert (first["steps"], first["best_step"]) == (expected["steps"], expected["best_step"])
        assert second == {**first, "told": []}
        assert [event.get("loss") for event in first["told"]] == [
            pytest.approx(event.get("loss"), abs=1e-5) for event in expected["told"]
        ]
        assert_same_weights(weights(two / name), weights(one / name), 1e-6)
        assert_moved_and_loads(two / name / "policy")
    is_cut = [path.name for path in two.rglob("pytorch_model_fsdp.bin")]
    assert bool(is_cut) == (configuration == "fsdp2")
    assert_resumed(two)
    assert_other_processes_go_on(two, tmp_path / "later", cut=configuration == "fsdp2")


def assert_other_processes_go_on(two: Path, later: Path, *, cut: bool) -> None:
    """What is trained is kept by one process as well; what is not goes on as it began."""
    shutil.copytree(two / "whole" / "checkpoints", later / "whole" / "checkpoints")
    train_cases(later, {"whole": dict(RESUMABLE)})
    assert_same_weights(weights(later / "whole"), weights(two / "whole"), 0.0)
    shutil.rmtree(later / "whole" / "checkpoints" / "checkpoint-4")
    refused = pytest.raises(InputError, match="checkpoint-2 was written by FSDP, and training would go on with whole")
    with refused if cut else nullcontext():
        train_cases(later, {"whole": dict(RESUMABLE)})


def assert_resumed(folder: Path) -> None:
    """The weights of the step that is kept, and of the last step, are those of the training that was never cut."""
    for name in RESUMED:
        assert_same_weights(weights(folder / name), weights(folder / "whole"), 0.0)
        for step in (2, 4):
            written, expected = (folder / case / "checkpoints" / f"checkpoint-{step}" for case in (name, "whole"))
            file = "model.safetensors"
            assert_same_weights(load_file(written / file), load_file(expected / file), 0.0)
        assert report(folder / name)["best_step"] == 2
    steps = [event["step"] for event in report(folder / "from step 2")["told"] if event["event"] == "training"]
    assert steps == [3, 4]
    probed = [event["step"] for event in report(folder / "from the start")["told"] if event["event"] == "probe"]
    assert probed == [2, 4]


def assert_same_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=tolerance)


def assert_moved_and_loads(policy: Path) -> None:
    """A whole model of transformers, whose weights are not those at the start."""
    kind: Any = json.loads((policy / "config.json").read_text())["architectures"][0]
    loader = AutoModelForCausalLM if kind == "LlamaForCausalLM" else AutoModelForSequenceClassification
    loaded = loader.from_pretrained(policy).state_dict()
    start = tiny_model().state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert (loaded[name] - start[name]).abs().max() > 1e-4


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "policy" / "model.safetensors")


def report(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"process-{rank}.json").read_text())


def reports(folder: Path) -> list[dict[str, Any]]:
    return [report(folder, rank) for rank in range(2)]


@given(rows=st.integers(1, 12), parts=st.integers(1, 12), processes=st.integers(1, 16), whole=st.booleans())
def test_a_step_has_its_rows_however_they_are_divided(rows: int, parts: int, processes: int, whole: bool) -> None:
    local, device = rows * parts, None if whole else rows
    options = passes(TrainingConfig(batch_size=local * processes, device_batch_size=device), processes)
    per_pass, accumulated = options["per_device_train_batch_size"], options["gradient_accumulation_steps"]
    assert per_pass * accumulated * processes == local * processes
    assert per_pass <= (device or math.inf)


def test_a_step_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(InputError, match=r"training\.batch_size=16 cannot be divided among 3 processes"):
        passes(TrainingConfig(batch_size=16), 3)


def test_what_pieces_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"reward_model\.lora: adapters are trained on whole models"):
        require_trainable_in_pieces("reward_model", adapters=True)
    with pytest.raises(InputError, match=r"training\.precompute_reference=false holds a second model"):
        require_trainable_in_pieces("training", adapters=False, second_model=True)
    require_trainable_in_pieces("training", adapters=False)
