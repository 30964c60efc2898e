"""Train the bundled model, or a larger one, from scratch: ``python -m rlsf.demo.train --output DIR``."""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from rlsf.demo.batches import COMPLETIONS, Batch, BatchStreams
from rlsf.demo.courses import COURSES, SUMS_1M, Course, find_course
from rlsf.demo.problems import SHORT, Level
from rlsf.demo.solutions import complete
from rlsf.demo.tasks import generate
from rlsf.demo.vocabulary import END_ID, PAD_ID, train_tokenizer
from rlsf.errors import InputError
from rlsf.files import atomic_folder
from rlsf.models import resolve_device

CONTEXT_LENGTH = 512
TOKENIZER_QUESTIONS = 20_000
MUON_LEARNING_RATE = 0.02
ADAMW_LEARNING_RATE = 3e-3
WARM_UP = 0.03
FINAL_FACTOR = 0.02
LOG_EVERY = 50


def build_tokenizer(seed: int, level: Level = SHORT) -> PreTrainedTokenizerFast:
    """The tokenizer of the training questions and their completions."""
    rng = random.Random(f"rlsf.demo:tokenizer:{seed}")
    problems = generate("train", TOKENIZER_QUESTIONS, seed, level)
    texts = (problem.text + complete(problem, style, rng) for problem in problems for style in COMPLETIONS)
    return train_tokenizer(texts, CONTEXT_LENGTH)


def build_model(tokenizer: PreTrainedTokenizerFast, course: Course = SUMS_1M) -> LlamaForCausalLM:
    """An untrained Llama of the shape of a course, with tied embeddings."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=course.hidden_size,
            intermediate_size=course.intermediate_size,
            num_hidden_layers=course.layers,
            num_attention_heads=course.heads,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=END_ID,
            pad_token_id=PAD_ID,
        )
    )


def _loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy (nats) over the tokens of the batch."""
    with torch.autocast(model.device.type, torch.bfloat16):
        hidden = model.model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        ).last_hidden_state
        logits = model.lm_head(hidden)
    losses = functional.cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), reduction="none")
    weights = batch.weights.flatten()
    return (losses * weights).sum() / weights.sum()


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, which learns this arithmetic in a fraction of AdamW's steps; AdamW for
    embeddings and norms."""
    matrices = [parameter for name, parameter in model.named_parameters() if "proj" in name]
    others = [parameter for name, parameter in model.named_parameters() if "proj" not in name]
    return [
        torch.optim.Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=0.01),
        torch.optim.AdamW(others, lr=ADAMW_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate_factor(step: int, steps: int) -> float:
    """A linear warm-up from near 0 to 1, then half a cosine down to ``FINAL_FACTOR``."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return FINAL_FACTOR + (1 - FINAL_FACTOR) * 0.5 * (1 + math.cos(math.pi * progress))


def fit(model: LlamaForCausalLM, stream: Iterable[Batch], steps: int) -> None:
    """``steps`` batches of fresh questions in bfloat16 autocast, on the device of the model.

    On a processor with plain matrix products: PyTorch's fused attention with a mask of its own is several times slower.
    """
    model.set_attn_implementation("eager" if model.device.type == "cpu" else "sdpa")
    optimizers = _optimizers(model)
    factor = partial(learning_rate_factor, steps=steps)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]
    columns = ("training", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
    model.train()
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=steps, loss="")
        for step, batch in zip(range(steps), stream, strict=False):
            loss = _loss(model, batch.to(model.device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
            progress.advance(task)
            if step % LOG_EVERY == 0:
                progress.update(task, loss=f"loss {loss.item():.3f}")
                if not progress.console.is_terminal:
                    progress.console.print(f"step {step} loss {loss.item():.4f}")
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, course: Course, folder: Path) -> None:
    """Write model and tokenizer: weights in float16, half the size, under a configuration that says float32."""
    with atomic_folder(folder) as fresh:
        course.write(fresh)
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        weights = fresh / "model.safetensors"
        half = {name: tensor.half() for name, tensor in load_file(weights).items()}
        save_file(half, weights, metadata={"format": "pt"})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the bundled model, or a larger one, from scratch.")
    parser.add_argument("--output", type=Path, required=True, help="folder for model and tokenizer")
    parser.add_argument("--course", choices=COURSES, default=SUMS_1M.name, help="which model, and what it is taught")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--steps", type=int, help="by default those of the course")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists: choose another --output or remove it")
    try:
        device = resolve_device(options.device)
    except InputError as error:
        parser.error(str(error))
    set_seed(options.seed)
    course = find_course(options.course)
    steps = options.steps or course.steps
    tokenizer = build_tokenizer(options.seed, course.level)
    model = build_model(tokenizer, course)
    model.to(device)  # pyright: ignore[reportArgumentType]  # declared for a class, not its instances
    streams = BatchStreams(tokenizer, course.questions_per_step, options.seed, course.level)
    fit(model, DataLoader(streams, batch_size=None, num_workers=course.makers), steps)
    save(model.cpu(), tokenizer, course, options.output)
    print(json.dumps({"parameters": model.num_parameters(), "vocabulary": len(tokenizer), "steps": steps}))


if __name__ == "__main__":
    main()
