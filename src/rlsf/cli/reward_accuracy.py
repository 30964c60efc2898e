"""What ``rlsf eval --reward-model`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from rlsf.errors import InputError
from rlsf.files import write_json
from rlsf.recipes.recipe import Recipe

if TYPE_CHECKING:
    from rlsf.evaluation.reward_accuracy import PairShare
    from rlsf.evaluation.schema import Interval
    from rlsf.pipeline.reward_bench import BenchmarkResult

RESULT = "reward_evaluation.json"
#: Shares of what is measured of length bias, in few words.
_LENGTH = {
    "balanced": "shorter and longer alike",
    "length_accuracy": "answer that keeps a limit",
    "limit_accuracy": "limit that an answer keeps",
    "trained_accuracy": "the same, as in training",
}


def show_reward_accuracy(reward_model: str, recipe: Recipe, output: Path | None) -> None:
    """Measure a reward model on pairs of texts, print what is found, and write it to ``output`` where that is said.

    ``recipe`` says where the pairs are (``evaluation_data``), how prompts are rendered, how the model is loaded, and
    how many bins and resamples are taken.
    """
    from rlsf.pipeline.reward_bench import evaluate_reward_model

    if recipe.evaluation_data is None:
        raise InputError("no pairs to measure the reward model on: say --data FILE.jsonl")
    settings = recipe.evaluation
    found = evaluate_reward_model(
        recipe.model.model_copy(update={"path": reward_model, "revision": None}),
        recipe.evaluation_data,
        recipe.render,
        recipe.conditioning,
        bins=settings.bins,
        resamples=settings.bootstrap,
        seed=recipe.seed,
    )
    measured, console = found.accuracy, Console()
    for line in _lines(found):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_table("Chosen answer", measured.by_length))
    differences = {_range(group.least, group.most): group for group in measured.by_difference}
    console.print(_table("Chosen longer by, tokens", differences))
    alike = {name: getattr(found.length_bias, key) for key, name in _LENGTH.items()}
    if any(alike.values()):
        console.print(_table("Length in words", {name: share for name, share in alike.items() if share is not None}))
    if measured.by_subset:
        console.print(_table("Subset", measured.by_subset))
    if output is not None:
        bias = found.length_bias.model_dump(mode="json")
        write_json(
            output / RESULT, {**measured.model_dump(mode="json"), "length_bias": bias, "too_long": found.too_long}
        )
        console.print(f"written to {output / RESULT}", highlight=False, soft_wrap=True)


def _lines(found: BenchmarkResult) -> list[str]:
    measured = found.accuracy
    lines = [
        f"{_count(measured.pairs, 'pair')} of {_count(measured.prompts, 'prompt')}:"
        f" accuracy {_share(measured.accuracy, measured.interval)}",
        f"ECE {measured.ece:.3f}, Brier {measured.brier:.3f}, log loss {measured.log_loss:.3f} nats",
    ]
    if measured.length_slope is not None:
        correlation = "" if measured.length_correlation is None else f", correlation {measured.length_correlation:+.2f}"
        lines.append(f"{measured.length_slope:+.4f} reward a token among answers to one prompt{correlation}")
    if found.too_long:
        lines.append(f"{_count(found.too_long, 'pair')} left out: longer than the context")
    return lines


def _range(least: int, most: int) -> str:
    return " to ".join(dict.fromkeys(f"{bound:+d}" if bound else "0" for bound in (least, most)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(name: str, shares: Mapping[str, PairShare]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(name)
    table.add_column("Pairs", justify="right")
    table.add_column("Accuracy", justify="right")
    for key, share in shares.items():
        table.add_row(key, str(share.pairs), _share(share.accuracy, share.interval))
    return table


def _share(value: float, interval: Interval) -> str:
    bounds = "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{100 * value:.1f} %{bounds}"
