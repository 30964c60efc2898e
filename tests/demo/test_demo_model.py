import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlsf.demo import MODEL_DIR
from rlsf.demo.evaluate import Branch, expected_calibration_error, measure, sample
from rlsf.demo.tasks import generate

LARGEST_FOLDER = 6 * 1024**2


def branch(correct, confidence, style="direct", first_token=" It", tokens=5):
    return Branch(first_token, style, correct, confidence, tokens, truncated=False)


def test_calibration_error_by_hand():
    """Two answers at 0.95, one right: gap 0.45, weight 2/4. One at 0.25, wrong: 0.25 / 4. One at 0.55, right: 0.45 / 4.

    0.225 + 0.0625 + 0.1125 = 0.4.
    """
    graded = [branch(True, 0.95), branch(False, 0.95), branch(False, 0.25), branch(True, 0.55)]
    assert expected_calibration_error(graded) == pytest.approx(0.4)


def test_latent_accuracy_counts_questions_without_a_worked_branch_as_wrong():
    problems = generate("test", 2)
    rows = [
        [branch(False, 0.9), branch(True, 0.9, "worked", " First"), branch(False, 0.9, "worked", " Let")],
        [branch(True, 0.2), branch(False, 0.3), branch(False, 0.3)],
    ]
    figures = measure(problems, rows)
    assert figures["greedy_accuracy"] == 0.5
    assert figures["latent_worked_accuracy"] == 0.5
    assert figures["worked_branch_accuracy"] == 0.5
    assert figures["worked_branch_share"] == pytest.approx(2 / 6)
    assert figures["greedy_wrong_but_sure"] == 1.0


def test_bundled_folder_is_small_and_holds_no_code():
    files = [path for path in MODEL_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST_FOLDER
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_bundled_model_loads_in_float32_by_default():
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    assert model.dtype == torch.float32
    assert 1e6 < model.num_parameters() < 3e6
    assert model.config.model_type == "llama"
    assert model.config.max_position_embeddings >= 256


def test_greedy_is_direct_and_half_right_while_worked_solutions_are_right():
    problems = generate("validation", 100, seed=7)
    figures = measure(problems, sample(MODEL_DIR, problems))
    assert figures["greedy_direct_share"] > 0.95
    assert 0.35 <= figures["greedy_accuracy"] <= 0.65
    assert figures["latent_worked_accuracy"] > 0.85
    assert figures["worked_branch_accuracy"] > 0.85
    assert 0.3 <= figures["worked_branch_share"] <= 0.7
    assert figures["truncated"] == 0
    assert math.isfinite(figures["greedy_ece"])
    assert figures["greedy_ece"] > 0.05
