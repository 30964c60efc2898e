"""A model that was trained to write on: the audit says that length was rewarded, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_policy import VOCABULARY, tiny_model, tiny_tokenizer
from torch.nn.functional import binary_cross_entropy, softmax

from rlsf.audit.result import Audit, verdict
from rlsf.cli.app import execute
from rlsf.models import ModelConfig
from rlsf.models.reward_model import load_reward_model

END = 1


def train_to_end_with(model: torch.nn.Module, probability: float, steps: int = 60) -> torch.nn.Module:
    """Train all weights so that a trace ends with this probability at every token."""
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    random = torch.Generator().manual_seed(0)
    target = torch.full((16, 20), probability)
    for _ in range(steps):
        ids = torch.randint(2, VOCABULARY, (16, 20), generator=random)
        optimiser.zero_grad()
        ends = softmax(model(ids).logits, dim=-1)[..., END]
        binary_cross_entropy(ends, target).backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The start, and the same trained on to write about three times as much."""
    folder = tmp_path_factory.mktemp("pair")
    model = tiny_model()
    for name, probability in (("start", 0.3), ("longer", 0.1)):
        train_to_end_with(model, probability).save_pretrained(folder / name)  # pyright: ignore[reportCallIssue]
        tiny_tokenizer().save_pretrained(folder / name)
    return folder / "start", folder / "longer"


@pytest.fixture(scope="module")
def audited(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(f'{{"question": "w{2 + n % 38} w{2 + n // 38}"}}\n' for n in range(160)))
    command = ["audit", "--before", str(pair[0]), "--after", str(pair[1]), "--prompts", str(prompts)]
    sizes = ["--sampling.max-new-tokens", "24", "--sampling.workers", "1", "--audit.bootstrap", "50"]
    model = ["--audit.model.max-steps", "40", "--audit.model.learning-rate", "0.003", "--evaluation.bootstrap", "100"]
    assert execute([*command, *sizes, *model, "--output", str(folder / "found")]) == 0
    return folder / "found"


def test_the_audit_says_length(audited: Path) -> None:
    found = Audit.model_validate_json((audited / "audit.json").read_text())
    tokens = found.differences["tokens"]
    assert tokens.after > 1.8 * tokens.before
    assert found.linear is not None
    assert found.linear.strongest() == ["tokens"]
    assert found.linear.coefficients["tokens"].value > 0
    assert "has_answer" in found.linear.constant
    separation = found.separation["features"]
    assert separation.pairs.accuracy > 0.7
    assert separation.pairs.by_length["longer"].accuracy > 0.9
    assert separation.pairs.by_length["shorter"].accuracy < 0.2, "length is all that it goes by"
    assert separation.kendall["tokens"] == pytest.approx(1.0, abs=0.2)
    said = verdict(found)
    assert "The training rewarded longer traces (+" in said
    assert "The single feature that tells most: longer traces" in said


def test_the_reward_model_goes_with_length(audited: Path) -> None:
    separation = Audit.model_validate_json((audited / "audit.json").read_text()).separation["model"]
    assert separation.kendall["tokens"] > 0.1  # pyright: ignore[reportOptionalOperand]
    model = load_reward_model(ModelConfig(path=str(audited / "reward_model"), device="cpu"))
    assert model.config.num_labels == 1
