"""What it saves to read the tokens that traces begin with once, in the passes of a training's loss.

python benchmarks/prefixes.py [--quick] [--json FILE] [--page docs/performance.md]

The bundled model, forwards and backwards over the same batches, each row by itself and with shared prefixes, in turns,
on one thread; the fastest of the repetitions counts. Pairs: 16 of a question's CoT-decoding traces each, as DPO reads
them. Groups: 8 questions with 8 samples each, as GRPO reads them. And the same with random tokens of other lengths,
one of them a case that does not pay, which the training reads row by row by itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging
from trl.trainer.utils import add_fused_lm_head

from _page import write_tables
from _shared import options, show, write_json
from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import generate
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.training.shared_prefix import sharing

#: Pairs, or questions and samples of each, in one pass.
PAIRS, QUESTIONS, SAMPLES = 16, 8, 8
COLUMNS = ("batch", "rows", "prompt, tokens", "trace, tokens", "row by row, ms", "shared, ms", "ratio")
Row = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts with a trace each. ``grouped``: completions as GRPO has them, else [chosen; rejected]."""

    name: str
    rows: Sequence[Row]
    grouped: bool

    def inputs(self) -> tuple[dict[str, Tensor], int | None]:
        """Ids, mask and labels as the trainers pad them, and how many columns are the prompt's in a grouped batch."""
        left = max(len(prompt) for prompt, _ in self.rows) if self.grouped else 0
        width = max(max(left, len(prompt)) + len(trace) for prompt, trace in self.rows)
        ids = torch.zeros(len(self.rows), width, dtype=torch.int64)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for number, (prompt, trace) in enumerate(self.rows):
            start = left - len(prompt) if self.grouped else 0
            end = start + len(prompt) + len(trace)
            ids[number, start:end] = torch.tensor(prompt + trace)
            mask[number, start:end] = 1
            labels[number, start + len(prompt) : end] = torch.tensor(trace)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}, left if self.grouped else None


def bundled_batches(model: Any, tokenizer: Any) -> list[Batch]:
    """Of the bundled model's own traces."""
    problems = generate("self_training", 2 * PAIRS, 0)
    asked = [SamplingRequest(problem.id, tokenizer(problem.text).input_ids) for problem in problems]
    engine = TransformersEngine(model, tokenizer)
    branches = list(engine.sample(asked, SamplingConfig(branches=10, max_new_tokens=96)))
    sampled = engine.sample(
        asked[:QUESTIONS], SamplingConfig(strategy="sampling", temperature=1.0, branches=SAMPLES, max_new_tokens=96)
    )
    draw = random.Random(0)
    pairs = [draw.sample(group, 2) for group in branches[:PAIRS]]
    sides = [(request, pair[side]) for side in (0, 1) for request, pair in zip(asked, pairs, strict=False)]
    groups = [(request, trace) for request, group in zip(asked, sampled, strict=False) for trace in group]
    return [
        Batch(name, [(list(request.token_ids), list(trace.token_ids)) for request, trace in rows], grouped)
        for name, rows, grouped in (("pairs", sides, False), ("groups", groups, True))
    ]


def random_batch(name: str, prompts: int, sides: int, lengths: tuple[int, int], *, grouped: bool) -> Batch:
    """Random tokens: so many prompts with so many traces each."""
    draw = random.Random(0)
    prompt, trace = lengths
    asked = [[draw.randrange(5, 200) for _ in range(prompt)] for _ in range(prompts)]
    order = asked * sides if not grouped else [one for one in asked for _ in range(sides)]
    return Batch(name, [(one, [draw.randrange(5, 200) for _ in range(trace)]) for one in order], grouped)


def seconds(read: Any, inputs: dict[str, Tensor]) -> float:
    """One pass forwards and backwards."""
    started = time.perf_counter()
    read(**inputs, fused_lm_head=True, use_cache=False).log_probs.sum().backward()
    return time.perf_counter() - started


def measure(model: Any, batch: Batch, repeats: int) -> dict[str, float]:
    """Both ways in turns."""
    inputs, prompt = batch.inputs()
    shared = sharing(model, left_padded=batch.grouped)
    assert shared is not None
    shared = replace(shared, prompt=prompt)
    turns = [(seconds(model, inputs), seconds(shared, inputs)) for _ in range(repeats)]
    alone, joined = (min(times) for times in zip(*turns, strict=True))
    count = len(batch.rows)
    return {
        "rows": count,
        "prompt": sum(len(prompt) for prompt, _ in batch.rows) / count,
        "trace": sum(len(trace) for _, trace in batch.rows) / count,
        "row_by_row": alone,
        "shared": joined,
    }


def main() -> None:
    """The command line."""
    parser = options(__doc__ or "")
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the table into")
    said = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval(), AutoTokenizer.from_pretrained(MODEL_DIR)
    batches = bundled_batches(model, tokenizer)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    batches += [
        random_batch("pairs, long prompts", PAIRS, 2, (300, 60), grouped=False),
        random_batch("pairs, long traces", PAIRS, 2, (50, 300), grouped=False),
        random_batch("groups, long prompts", 4, SAMPLES, (200, 60), grouped=True),
    ]
    found = {batch.name: measure(model, batch, 3 if said.quick else 20) for batch in batches}
    rows = [
        [name, f"{of['rows']:.0f}", f"{of['prompt']:.0f}", f"{of['trace']:.0f}"]
        + [f"{1e3 * of[way]:.0f}" for way in ("row_by_row", "shared")]
        + [f"{of['row_by_row'] / of['shared']:.2f}"]
        for name, of in found.items()
    ]
    show("Forwards and backwards on one thread", list(COLUMNS), rows)
    if said.page is not None:
        write_tables(said.page, {"prefixes": (COLUMNS, rows)})
    write_json(said.json, found)


if __name__ == "__main__":
    main()
