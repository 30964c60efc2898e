"""Traces a second and peak memory of scoring traces that exist, against forward passes with all their logits.

python benchmarks/scoring.py [--quick] [--json FILE]

Every variant runs in its own process, on the same cores, model and traces. The peers compute the same statistics by
one operation each from the logits: (a) trace by trace, (b) in batches padded on the right. Two models: the bundled one
with traces sampled from it, and a random one of the shape of Qwen2-0.5B with random traces. The last column is the
largest difference of a statistic from (a), in nats. Other work on the same cores spoils the figures.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from _scoring_peers import Pair, batches_of_traces, one_trace_at_a_time
from _shared import forget_peak_memory, in_own_process, options, peak_memory, show, write_json
from rlsf.sampling import SamplingConfig, TransformersEngine
from rlsf.sampling.pool import available_cores
from rlsf.scoring import Scorer
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace
from sampling import BRANCHES, fastest, model_named, prompts, tokenizer

VARIANTS = {
    "one": "one forward pass a trace (a)",
    "batched": "batches with logits (b)",
    "scorer": "rlsf scorer",
}
FIELDS = ("logprob", "top1_logprob", "top2_logprob", "logsumexp", "entropy", "mean_logit")
#: Rows of a batch of the batched peer.
ROWS = {"bundled": 32, "qwen2": 5}


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts whose traces are scored, how many traces the slow peers get of them, and how often all is done."""

    prompts: int
    peer_traces: dict[str, int]
    repeats: int
    threads: tuple[int, ...]


def workload(model: str, quick: bool) -> Workload:
    """Sizes. Rates are compared, so that the slow peers may do less."""
    cores = available_cores()
    if model == "bundled":
        few = {"one": 160, "batched": 320} if quick else {"one": 640, "batched": 1280}
        return Workload(32 if quick else 256, few, repeats=3, threads=tuple(sorted({1, cores})))
    few = {"one": 2, "batched": 5} if quick else {"one": 10, "batched": 20}
    return Workload(1 if quick else 4, few, repeats=1 if quick else 2, threads=(cores,))


def sampled_traces(count: int) -> list[Trace]:
    """Branches of the bundled model for test questions."""
    engine = TransformersEngine(model_named("bundled"), tokenizer())
    groups = engine.sample(prompts(count), SamplingConfig(branches=BRANCHES, max_new_tokens=96))
    return [trace for group in groups for trace in group]


def random_traces(count: int, prompt_tokens: int) -> list[Trace]:
    """K traces of random tokens for each prompt, of lengths between a fourth and three fourths of the prompt's."""
    numbers = np.random.default_rng(0)
    traces = []
    for prompt in range(count):
        prompt_ids = numbers.integers(0, 151_000, prompt_tokens).astype(np.int32)
        for index, length in enumerate(numbers.integers(prompt_tokens // 4, prompt_tokens * 3 // 4, BRANCHES)):
            ids = numbers.integers(0, 151_000, length).astype(np.int32)
            missing = TokenStatistics.missing(len(ids), 151_936)
            traces.append(Trace(f"p{prompt}", index, "sampling", prompt_ids, ids, "", "length", missing))
    return traces


def measure(model: str, variant: str, quick: bool) -> dict[str, float]:
    """One variant's figures, and how far its statistics are from those of the first."""
    work = workload(model, quick)
    traces = sampled_traces(work.prompts) if model == "bundled" else random_traces(work.prompts, 64 if quick else 128)
    pairs: list[Pair] = [(trace.prompt_token_ids.tolist(), trace.token_ids.tolist()) for trace in traces]
    pairs = pairs[: work.peer_traces.get(variant, len(pairs))]
    run, rows_of = ways(model, variant, traces[: len(pairs)], pairs)
    reference = one_trace_at_a_time(model_named(model), pairs[:1])
    gc.collect()
    forget_peak_memory()
    held = peak_memory()
    results, seconds = fastest(work.repeats, run, work.threads)
    peak = peak_memory()
    differences = [(rows_of(results, n) - expected).abs().nan_to_num().max() for n, expected in enumerate(reference)]
    return {
        "traces": len(pairs),
        "tokens": sum(len(completion) for _, completion in pairs),
        "seconds": seconds,
        "peak_bytes": peak,
        "growth_bytes": peak - held,
        "difference": float(max(differences)),
    }


def ways(
    model: str, variant: str, traces: list[Trace], pairs: list[Pair]
) -> tuple[Callable[[], list], Callable[[list, int], torch.Tensor]]:
    """What to time, and how to read the statistics of a trace from its result."""
    policy = model_named(model)
    if variant == "one":
        return partial(one_trace_at_a_time, policy, pairs), lambda results, number: results[number]
    if variant == "batched":
        return partial(batches_of_traces, policy, pairs, ROWS[model]), lambda results, number: results[number]
    scorer = Scorer(policy)
    assert scorer.way == "fused", scorer.reason

    def rows_of(results: list[Trace], number: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(results[number].statistics, name) for name in FIELDS]))

    return lambda: list(scorer.score(traces)), rows_of


def compare(model: str, quick: bool) -> dict[str, dict[str, float]]:
    """Every variant in its own process; prints a table of rates, ratios and memory."""
    figures = {}
    for variant in VARIANTS:
        measured = in_own_process(measure, model, variant, quick)
        figures[variant] = measured | {"traces_per_second": measured["traces"] / measured["seconds"]}
    base = figures["one"]["traces_per_second"]
    for row in figures.values():
        row["ratio_to_one"] = row["traces_per_second"] / base
    name = {
        "bundled": f"bundled model, its own traces, K = {BRANCHES}",
        "qwen2": f"Qwen2-0.5B's shape, random weights and traces, K = {BRANCHES}",
    }[model]
    show(
        name,
        ["variant", "traces/s", "x (a)", "tokens/s", "peak GB", "growth GB", "nats from (a)"],
        [
            [
                VARIANTS[variant],
                f"{row['traces_per_second']:.1f}",
                f"{row['ratio_to_one']:.1f}",
                f"{row['tokens'] / row['seconds']:.0f}",
                f"{row['peak_bytes'] / 1e9:.2f}",
                f"{row['growth_bytes'] / 1e9:.2f}",
                f"{row['difference']:.0e}",
            ]
            for variant, row in figures.items()
        ],
    )
    return figures


def main() -> None:
    """Compare all variants on both models."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    figures = {model: compare(model, arguments.quick) for model in ("bundled", "qwen2")}
    write_json(arguments.json, {"quick": arguments.quick, "branches": BRANCHES, "models": figures})


if __name__ == "__main__":
    main()
