"""What a CUDA device does as the processor does it: sampling, training, whole runs. Skipped where there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import generate
from rlsf.models.config import ModelConfig
from rlsf.models.loading import load_model
from rlsf.models.tokenizer import load_tokenizer
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.traces import Trace
from rlsf.training.shared_prefix import SharedPrefix

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def sampled(device: str, config: SamplingConfig) -> list[list[Trace]]:
    model = ModelConfig(path=str(MODEL_DIR), device=device, dtype="float32")
    tokenizer = load_tokenizer(model)
    engine = TransformersEngine(load_model(model), tokenizer)
    texts = {problem.id: problem.text for problem in generate("test", 40)}
    requests = [SamplingRequest(name, tuple(tokenizer(text)["input_ids"]), seed=3) for name, text in texts.items()]
    return list(engine.sample(requests, config))


@pytest.mark.parametrize("strategy", ["cot_decoding", "sampling"])
def test_traces_are_those_of_the_processor(strategy: Any) -> None:
    """Rounding may turn a near tie, and with it the rest of a trace; hardly ever."""
    config = SamplingConfig(strategy=strategy, branches=6, max_new_tokens=80)
    here, there = sampled("cpu", config), sampled("cuda", config)
    pairs = [pair for rows in zip(here, there, strict=True) for pair in zip(*rows, strict=True)]
    equal = [(one, other) for one, other in pairs if one.text == other.text]
    assert len(equal) / len(pairs) > 0.98
    for one, other in equal:
        assert abs(one.statistics.logprob - other.statistics.logprob).max() < 1e-2


def test_one_row_for_a_group_under_autocast() -> None:
    """As a trainer in mixed precision reads it: no further from float32 than rows of their own, nor are gradients."""
    model: Any = load_model(ModelConfig(path=str(MODEL_DIR), device="cuda", dtype="float32"))
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    random = torch.Generator().manual_seed(0)
    ids = torch.cat(
        [
            torch.randint(2, 600, (1, 40), generator=random).expand(8, -1),
            torch.randint(2, 600, (8, 20), generator=random),
        ],
        1,
    ).cuda()
    labels = ids.masked_fill(torch.arange(60, device="cuda") < 40, -100)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    exact, of_rows, of_one_row = (
        read(reader, batch, mixed)
        for reader, mixed in (
            (model, False),
            (model, True),
            (SharedPrefix(model, prompt=40, saving=float("-inf")), True),
        )
    )
    for truth, rows, one_row in zip(exact, of_rows, of_one_row, strict=True):
        assert (one_row - truth).norm() < 1.5 * (rows - truth).norm() + 1e-6


def read(reader: Any, batch: dict[str, torch.Tensor], mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and the gradient of their sum, in float32 or with products in bfloat16."""
    model = reader.model if isinstance(reader, SharedPrefix) else reader
    model.zero_grad()
    with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
        logprobs = reader(**batch, fused_lm_head=True, use_cache=False).log_probs
    logprobs.sum().backward()
    return logprobs.detach(), torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("recipe", ["rlsf", "rlsf-online", "rlsf-rm", "rise-introspection", "nft", "drr", "core-po"])
def test_a_run_from_questions_to_report(recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--prompts.limit=40", "--evaluation_data.limit=24", "--evaluation.bootstrap=100", "--model.device=cuda"]
    if recipe in ("rlsf-online", "nft"):
        small += ["--online.max_steps=3"]
    if recipe == "rlsf-rm":
        small += ["--online.max_steps=3", "--reward_model.max_steps=6"]
    if recipe in ("rlsf", "core-po"):
        small += ["--training.max_steps=4"]
    code = execute(["demo", "--recipe", recipe, "--output", str(tmp_path / "run"), *small])
    print(capfd.readouterr().err[-3000:], file=sys.stderr)
    assert code == 0
    assert (tmp_path / "run" / "report.html").exists()
