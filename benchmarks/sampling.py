"""Traces a second and peak memory of CoT-decoding with token statistics, against two ways through ``generate``.

python benchmarks/sampling.py [--quick] [--json FILE]

Every variant runs in its own process, on the same cores, model and prompts. The first peer takes one prompt
at a time and keeps all logits, the way in which RLSF's public code samples (arXiv 2507.21931); the second hands
batches of prompts to ``generate`` and keeps all logits. Two models: the bundled one with its natural trace lengths,
and a random one of the shape of Qwen2-0.5B. Other work on the same cores spoils the figures.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeVar

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
)
from transformers.initialization import no_init_weights
from transformers.utils import logging

from _sampling_peers import batched_generate, one_prompt_at_a_time
from _shared import forget_peak_memory, in_own_process, options, peak_memory, show, write_json
from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import generate
from rlsf.sampling import EnginePool, SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.sampling.pool import available_cores

BRANCHES = 10
#: Lengths of traces between which memory must not grow by their logits.
LENGTHS = (8, 32)
T = TypeVar("T")
VARIANTS = {
    "one-prompt": "generate, one prompt (a)",
    "batched": "generate, batched (b)",
    "engine": "rlsf, one process",
    "pool": "rlsf, a process a core",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of a variant, tokens at most, prompts a batch of the batched peer, prompts a shard of the pool, how
    often all is done and with which numbers of threads in a lone process (the fastest counts)."""

    prompts: int
    new_tokens: int
    peer_batch: int
    shard: int
    repeats: int
    threads: tuple[int, ...]


def workload(model: str, variant: str, quick: bool) -> Workload:
    """Sizes. The slow peers get the first few of the prompts; rates are compared."""
    cores = available_cores()
    if model == "bundled":
        few = {True: {"one-prompt": 12, "batched": 16}, False: {"one-prompt": 64, "batched": 128}}[quick]
        prompts, repeats = few.get(variant, 128 if quick else 512), 2 if quick else 3
        return Workload(prompts, 96, peer_batch=8, shard=64, repeats=repeats, threads=tuple(sorted({1, cores})))
    # The matrices of this one are large enough to keep every core busy.
    if quick:
        prompts = {"one-prompt": 1, "batched": 2}.get(variant, 8)
        return Workload(prompts, 4, peer_batch=2, shard=4, repeats=1, threads=(cores,))
    prompts = {"one-prompt": 2, "batched": 8}.get(variant, 16)
    return Workload(prompts, 8, peer_batch=4, shard=8, repeats=2, threads=(cores,))


@lru_cache(maxsize=1)
def tokenizer() -> PreTrainedTokenizerBase:
    """The bundled model's tokenizer."""
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@lru_cache(maxsize=1)
def model_named(name: str) -> PreTrainedModel:
    """The bundled model, or a random one of the shape of Qwen2-0.5B: 494 million parameters, 151,936 tokens."""
    logging.disable_progress_bar()
    if name == "bundled":
        return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    return random_qwen2(layers=24)


def random_qwen2(layers: int) -> PreTrainedModel:
    """A random model of the width and vocabulary of Qwen2-0.5B, which has 24 layers."""
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer().eos_token_id,
    )
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()
    # Repeating a block of random numbers takes a second; drawing them all takes ten.
    block = torch.empty(1_000_003).uniform_(-0.03, 0.03, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 / 16)
                continue
            for piece in parameter.view(-1).split(len(block)):
                piece.copy_(block[: len(piece)])
    return model.eval()


@lru_cache(maxsize=1)
def prompts(count: int) -> list[SamplingRequest]:
    """Test questions of the bundled model's tasks, tokenised."""
    problems = generate("test", count, seed=0)
    return [SamplingRequest(problem.id, tuple(tokenizer()(problem.text).input_ids)) for problem in problems]


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard cost the process it ran in."""

    process: int
    traces: int
    tokens: int
    peak_bytes: int


def sample_shard(model: str, new_tokens: int, requests: Sequence[SamplingRequest]) -> Shard:
    """Sample in this process or a worker."""
    engine = TransformersEngine(model_named(model), tokenizer())
    groups = list(engine.sample(requests, SamplingConfig(branches=BRANCHES, max_new_tokens=new_tokens)))
    traces = [trace for group in groups for trace in group]
    return Shard(os.getpid(), len(traces), sum(len(trace.token_ids) for trace in traces), peak_memory())


def warm_up(model: str, requests: Sequence[SamplingRequest]) -> Shard:
    """Load the model and touch everything once; what the process holds before the measurement."""
    sample_shard(model, 2, [replace(request, token_ids=request.token_ids[:4]) for request in requests])
    gc.collect()
    forget_peak_memory()
    return Shard(os.getpid(), 0, 0, peak_memory())


def run_pool(model: str, work: Workload, requests: Sequence[SamplingRequest]) -> dict[str, float]:
    """Disjoint shards in one process a core; memory is the sum over the processes, the waiting parent's included."""
    cores = available_cores()
    shards = [requests[start : start + work.shard] for start in range(0, len(requests), work.shard)]
    sample = partial(sample_shard, model, work.new_tokens)
    with EnginePool(cores) as pool:
        warm = [shard for _, shard in pool.map_shards(partial(warm_up, model), [requests[:1]] * cores)]
        done, seconds = fastest(work.repeats, lambda: [shard for _, shard in pool.map_shards(sample, shards)])
    peaks = {shard.process: shard.peak_bytes for shard in sorted(warm + done, key=lambda shard: shard.peak_bytes)}
    return {
        "traces": sum(shard.traces for shard in done),
        "tokens": sum(shard.tokens for shard in done),
        "seconds": seconds,
        "peak_bytes": peak_memory() + sum(peaks.values()),
        "growth_bytes": sum(peaks.values()) - sum({shard.process: shard.peak_bytes for shard in warm}.values()),
    }


def fastest(repeats: int, run: Callable[[], T], threads: Sequence[int] = (1,)) -> tuple[T, float]:
    """The last result and the shortest time, in seconds, over numbers of threads: for small matrices one is best."""
    times = []
    for count in threads:
        torch.set_num_threads(count)
        for _ in range(repeats):
            started = time.perf_counter()
            result = run()
            times.append(time.perf_counter() - started)
    return result, min(times)


def run_alone(model: str, variant: str, work: Workload, requests: Sequence[SamplingRequest]) -> dict[str, float]:
    """A variant in this process."""
    ids, eos_id = [request.token_ids for request in requests], tokenizer().eos_token_id
    held = warm_up(model, requests[:1]).peak_bytes
    if variant == "engine":
        shard, seconds = fastest(work.repeats, lambda: sample_shard(model, work.new_tokens, requests), work.threads)
        traces, tokens = shard.traces, shard.tokens
    else:
        peer: Callable[..., list] = (
            one_prompt_at_a_time
            if variant == "one-prompt"
            else partial(batched_generate, batch_prompts=work.peer_batch)
        )
        peer(model_named(model), [ids[0][:4]], BRANCHES, 2, eos_id)
        groups, seconds = fastest(
            work.repeats, lambda: peer(model_named(model), ids, BRANCHES, work.new_tokens, eos_id), work.threads
        )
        traces, tokens = sum(map(len, groups)), sum(len(row[0]) for group in groups for row in group)
    peak = peak_memory()
    return {"traces": traces, "tokens": tokens, "seconds": seconds, "peak_bytes": peak, "growth_bytes": peak - held}


def measure(model: str, variant: str, quick: bool) -> dict[str, float]:
    """One variant's figures."""
    work = workload(model, variant, quick)
    requests = prompts(work.prompts)
    if variant == "pool":
        return run_pool(model, work, requests)
    return run_alone(model, variant, work, requests)


def compare(model: str, quick: bool) -> dict[str, dict[str, float]]:
    """Every variant in its own process; prints a table of rates and ratios."""
    figures = {}
    for variant in VARIANTS:
        measured = in_own_process(measure, model, variant, quick)
        figures[variant] = measured | {"traces_per_second": measured["traces"] / measured["seconds"]}
    base = figures["one-prompt"]["traces_per_second"]
    for variant in figures:
        figures[variant]["ratio_to_one_prompt"] = figures[variant]["traces_per_second"] / base
    name = {
        "bundled": "bundled model, natural lengths, K = 10",
        "qwen2": "Qwen2-0.5B's shape, random weights, K = 10",
    }[model]
    show(
        name,
        ["variant", "traces/s", "x (a)", "tokens/s", "peak GB", "growth GB"],
        [
            [
                VARIANTS[variant],
                f"{row['traces_per_second']:.1f}",
                f"{row['ratio_to_one_prompt']:.1f}",
                f"{row['tokens'] / row['seconds']:.0f}",
                f"{row['peak_bytes'] / 1e9:.2f}",
                f"{row['growth_bytes'] / 1e9:.2f}",
            ]
            for variant, row in figures.items()
        ],
    )
    return figures


def grow(variant: str, new_tokens: int) -> float:
    """Bytes by which a variant's peak exceeds what it held before, for two prompts and a vocabulary of 151,936."""
    work = Workload(2, new_tokens, peer_batch=2, shard=2, repeats=1, threads=(available_cores(),))
    return run_alone("qwen2", variant, work, prompts(work.prompts))["growth_bytes"]


def compare_growth() -> dict[str, dict[int, float]]:
    """Growth of the peak with the length of the traces; prints a table."""
    growth = {
        variant: {tokens: in_own_process(grow, variant, tokens) for tokens in LENGTHS}
        for variant in ("one-prompt", "batched", "engine")
    }
    show(
        "Growth of the peak, two prompts, K = 10, Qwen2-0.5B's shape",
        ["variant", *(f"GB, {tokens} tokens" for tokens in LENGTHS)],
        [
            [VARIANTS[variant], *(f"{size / 1e9:.2f}" for size in by_length.values())]
            for variant, by_length in growth.items()
        ],
    )
    return growth


def main() -> None:
    """Compare all variants on both models, and how their memory grows."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    figures = {model: compare(model, arguments.quick) for model in ("bundled", "qwen2")}
    growth = {} if arguments.quick else compare_growth()
    write_json(arguments.json, {"quick": arguments.quick, "branches": BRANCHES, "models": figures, "growth": growth})


if __name__ == "__main__":
    main()
