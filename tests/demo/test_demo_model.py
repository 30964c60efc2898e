import pytest
import torch
from transformers import AutoModelForCausalLM

from rlsf.demo import MODEL_DIR
from rlsf.demo.branches import Branch, measure, sample_branches
from rlsf.demo.courses import SUMS_1M
from rlsf.demo.solutions import DIRECT_OPENINGS, WORKED_OPENINGS
from rlsf.demo.stories import NAMES
from rlsf.demo.tasks import generate
from rlsf.models.config import ModelConfig

LARGEST_FOLDER = 6 * 1024**2
BUNDLED = ModelConfig(path=str(MODEL_DIR), device="cpu", dtype="float32")


def branch(correct, confidence, style="direct", first_token=" It", tokens=5):
    return Branch(first_token, style, correct, (confidence, 1 - confidence), tokens, truncated=False)


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
    assert figures["direct_branch_accuracy"] == 0.25
    # The surest branches: any of the three at 0.9 (the first counts, wrong); then 0.3 (wrong).
    assert figures["surest_of_ten_accuracy_answer_disparity"] == 0.0
    # By the other signal, which turns the order round: the first at 0.1 (wrong), then the right one at 0.8.
    assert figures["surest_of_ten_accuracy_trace_confidence"] == 0.5
    assert figures["by_opening"]["It"]["branches"] == 4


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
    figures = measure(problems, sample_branches(BUNDLED, problems, SUMS_1M.max_new_tokens))
    assert figures["greedy_direct_share"] > 0.95
    assert 0.35 <= figures["greedy_accuracy"] <= 0.65
    assert figures["latent_worked_accuracy"] > 0.85
    assert figures["worked_branch_accuracy"] > 0.85
    assert 0.3 <= figures["worked_branch_share"] <= 0.7
    assert figures["greedy_ece"] > 0.05
    assert figures["truncated_branches"] == 0


def test_first_tokens_of_branches_are_the_openings_of_the_training_text():
    problems = generate("validation", 60, seed=8)
    openings = {opening.split()[0].rstrip(",:") for opening in DIRECT_OPENINGS | WORKED_OPENINGS}
    branches = [branch for row in sample_branches(BUNDLED, problems, SUMS_1M.max_new_tokens) for branch in row]
    natural = [branch.first_token.strip() in openings or branch.first_token.strip() in NAMES for branch in branches]
    assert sum(natural) / len(natural) > 0.95
