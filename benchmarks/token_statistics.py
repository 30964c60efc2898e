"""Token statistics from hidden states against the bare matrix product, plain logits, and TRL's chunked function.

python benchmarks/token_statistics.py [--quick] [--device cuda] [--json FILE]

The floor is the matrix product alone over tiles of 512 rows and 2048 tokens, by the library that is fastest here
(oneDNN on AMD processors); in bfloat16 its results are bfloat16, ours are float32. *Default mm* is PyTorch's own
choice, without any statistics. *Plain logits* keeps [N, V] logits: log-softmax, topk, entropy, mean, gather. TRL's
function has no second largest probability. Each figure is the fastest of several interleaved calls. The mean row of the
embedding is computed before, as it is once for a model. Peak memory is that of a process of its own, beyond the inputs,
at V = 151,936.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from _shared import forget_peak_memory, in_own_process, options, peak_memory, return_free_memory, show, write_json
from rlsf.linear import onednn_is_faster
from rlsf.tokenstats.backend import VARIABLE, survey
from rlsf.tokenstats.from_hidden import statistics_of_hidden
from rlsf.tokenstats.head import OutputHead

VOCABULARIES, WIDTHS, ROWS = (32_000, 128_256, 151_936), (896, 2048, 4096), (512, 4096)
TILE_ROWS, TILE_TOKENS = 512, 2048


class Problem(NamedTuple):
    """The inputs of one size."""

    hidden: Tensor
    head: OutputHead
    ids: Tensor


Variant = Callable[[Problem], object]


def make_problem(rows: int, width: int, vocabulary: int, dtype: torch.dtype, device: str) -> Problem:
    """Logits of standard deviation 3, made in blocks so that float32 copies stay small."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=random).to(device, dtype)
    weight = torch.empty(vocabulary, width, dtype=dtype, device=device)
    block = torch.randn(1024, width, generator=random) * (3 / width**0.5)
    for start in range(0, vocabulary, len(block)):
        weight[start : start + len(block)] = block.roll(start // len(block), 1)[: vocabulary - start].to(device, dtype)
    return Problem(hidden, OutputHead(weight), torch.randint(vocabulary, (rows,), generator=random).to(device))


def floor(problem: Problem) -> None:
    """The bare matrix product over tiles."""
    weight = problem.head.weight
    through_onednn = weight.device.type == "cpu" and (weight.dtype == torch.bfloat16 or onednn_is_faster())
    for rows in problem.hidden.split(TILE_ROWS if weight.device.type == "cpu" else len(problem.hidden)):
        for tokens in weight.split(TILE_TOKENS if weight.device.type == "cpu" else 32_768):
            if through_onednn:
                torch.ops.mkldnn._linear_pointwise(rows, tokens, None, "none", [], "")
            else:
                torch.mm(rows, tokens.T)


def default_product(problem: Problem) -> None:
    """PyTorch's own product, in blocks of rows."""
    for rows in problem.hidden.split(TILE_ROWS):
        torch.mm(rows, problem.head.weight.T)


def plain_logits(problem: Problem) -> None:
    """What a user would write."""
    logits = (problem.hidden @ problem.head.weight.T).float()
    logprobs = logits.log_softmax(-1)
    logprobs.gather(1, problem.ids.unsqueeze(1))
    logprobs.topk(2, dim=-1)
    -(logprobs.exp() * logprobs).sum(-1)
    logits.logsumexp(-1)  # with the mean: self-certainty
    logits.mean(-1)


def trl_chunked(problem: Problem) -> None:
    """TRL's function with its own tile."""
    from trl.kernels import ChunkedLogProbFunction

    ChunkedLogProbFunction.apply(problem.hidden, problem.head.weight, None, problem.ids, 1.0, 32_768)


def ours(problem: Problem) -> None:
    """The backend chosen here."""
    os.environ.pop(VARIABLE, None)
    statistics_of_hidden(*problem)


def ours_in_tiles(problem: Problem) -> None:
    """PyTorch operations only, as where there is no compiler."""
    os.environ[VARIABLE] = "tiles"
    statistics_of_hidden(*problem)
    os.environ.pop(VARIABLE)


VARIANTS: dict[str, Variant] = {
    "floor": floor,
    "ours": ours,
    "ours in tiles": ours_in_tiles,
    "default mm": default_product,
    "plain logits": plain_logits,
    "TRL chunked": trl_chunked,
}


def seconds_of(variant: Variant, problem: Problem) -> float:
    """One call."""
    started = time.perf_counter()
    variant(problem)
    if problem.hidden.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


@torch.no_grad()
def times(problem: Problem, budget: float) -> dict[str, float]:
    """Fastest call of each variant, interleaved, at least twice and then for so many seconds."""
    fastest = dict.fromkeys(VARIANTS, float("inf"))
    few = Problem(problem.hidden[:8], problem.head, problem.ids[:8])
    for variant in VARIANTS.values():
        seconds_of(variant, few)
    ends, rounds = time.perf_counter() + budget, 0
    while rounds < 2 or time.perf_counter() < ends:
        for name, variant in VARIANTS.items():
            fastest[name] = min(fastest[name], seconds_of(variant, problem))
        rounds += 1
    return fastest


@torch.no_grad()
def extra_memory(name: str, size: tuple[int, int, int], dtype: torch.dtype, device: str) -> int:
    """Peak bytes beyond the inputs."""
    problem = make_problem(*size, dtype, device)
    few = Problem(problem.hidden[:8], problem.head, problem.ids[:8])
    VARIANTS[name](few)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        VARIANTS[name](problem)
        return torch.cuda.max_memory_allocated() - before
    return_free_memory()
    forget_peak_memory()
    before = peak_memory()
    VARIANTS[name](problem)
    return peak_memory() - before


def compare_times(
    sizes: list[tuple[int, int, int]], dtypes: list[torch.dtype], device: str, budget: float
) -> list[Any]:
    """One row of figures for each size and precision."""
    found = []
    cases = [(dtype, *size) for dtype in dtypes for size in sizes]
    for dtype, rows, width, vocabulary in track(cases, "sizes", console=Console(stderr=True), transient=True):
        measured = times(make_problem(rows, width, vocabulary, dtype, device), budget)
        name = str(dtype).removeprefix("torch.")
        found.append({"dtype": name, "V": vocabulary, "d": width, "N": rows, "seconds": measured})
    return found


def show_times(found: list[Any], title: str) -> dict[str, Any]:
    """The ratios to the floor, and their medians by precision."""
    others = [name for name in VARIANTS if name != "floor"]
    rows = []
    for row in found:
        floor_seconds = row["seconds"]["floor"]
        row["ratios"] = {name: row["seconds"][name] / floor_seconds for name in others}
        flops = 2 * row["V"] * row["d"] * row["N"]
        rows.append(
            [
                f"{row['dtype']} {row['V']:,} x {row['d']} x {row['N']}",
                f"{flops / floor_seconds / 1e9:.0f} GF/s",
                *(f"{row['ratios'][name]:.2f}" for name in others),
            ]
        )
    medians = {
        dtype: {name: median(row["ratios"][name] for row in found if row["dtype"] == dtype) for name in others}
        for dtype in dict.fromkeys(row["dtype"] for row in found)
    }
    for dtype, values in medians.items():
        rows.append([f"median, {dtype}", "", *(f"{values[name]:.2f}" for name in others)])
    show(title, ["V x d x N", "floor", *others], rows)
    return medians


def compare_memory(sizes: list[tuple[int, int, int]], dtypes: list[torch.dtype], device: str) -> list[Any]:
    """Peak memory of every variant, each in its own process."""
    found = []
    for dtype in dtypes:
        for size in sizes:
            peaks = {name: in_own_process(extra_memory, name, size, dtype, device) / 2**20 for name in VARIANTS}
            found.append({"dtype": str(dtype).removeprefix("torch."), "N": size[0], "d": size[1], "MiB": peaks})
    rows = [
        [f"{row['dtype']}, d={row['d']}, N={row['N']}", *(f"{peak:,.0f}" for peak in row["MiB"].values())]
        for row in found
    ]
    show("peak memory beyond the inputs, MiB", ["V = 151,936", *VARIANTS], rows)
    return found


def main() -> None:
    """Times, then memory."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    vocabularies, widths, rows = ((32_000,), (896, 2048), (512,)) if arguments.quick else (VOCABULARIES, WIDTHS, ROWS)
    sizes = [(count, width, vocabulary) for vocabulary in vocabularies for width in widths for count in rows]
    dtypes = [torch.bfloat16] if arguments.device == "cuda" else [torch.float32, torch.bfloat16]
    # Memory first: processes are forked before threads and a device are at work.
    memory_sizes = [(512, 896, 151_936)] if arguments.quick else [(512, 896, 151_936), (4096, 896, 151_936)]
    memory = compare_memory(memory_sizes, dtypes, arguments.device)
    chosen = next(report for report in survey(torch.device(arguments.device), dtypes[-1]) if report.chosen)
    found = compare_times(sizes, dtypes, arguments.device, budget=0.5 if arguments.quick else 3.0)
    medians = show_times(found, f"time over the floor; {torch.get_num_threads()} threads, backend {chosen.name}")
    write_json(arguments.json, {"quick": arguments.quick, "times": found, "medians": medians, "memory": memory})


if __name__ == "__main__":
    main()
