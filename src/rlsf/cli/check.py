"""``rlsf check``: see what a run would do before any long work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from rlsf.cli.labels import say_labels
from rlsf.cli.options import Overrides, RecipeOptions

if TYPE_CHECKING:
    from rlsf.pipeline.cost import Cost
    from rlsf.pipeline.preview import Example, Preview

_DEFAULT_OPTIONS = RecipeOptions()
_VERDICTS = {True: "right", False: "wrong", None: ""}


def check(
    *overrides: Overrides,
    options: RecipeOptions = _DEFAULT_OPTIONS,
    examples: Annotated[int, Parameter(validator=Number(gte=0))] = 3,
) -> None:
    """Show rendered prompts, extracted answers, grader verdicts and a cost estimate; writes nothing.

    Parameters
    ----------
    examples:
        How many prompts, and how many labelled questions, to look at.
    """
    from rlsf.pipeline.preview import preview

    recipe = options.resolve(overrides)
    say_labels(recipe)
    show(preview(recipe, examples), Console())


def show(found: Preview, console: Console) -> None:
    """Print a preview."""
    for example in found.examples:
        title = Text(f"{example.prompt.id}, {example.token_count} tokens{_gold(example.prompt.gold)}")
        console.print(Panel(Text(example.text), title=title, title_align="left"))
        console.print(_traces(example))
    for tried in found.tried:
        key, value = tried.limit
        without = sum(trace.answer is None for trace in tried.traces)
        console.print(
            f"{len(tried.traces)} {'completions' if key.startswith('online') else 'traces'} tried: {without} without an"
            f" answer, {tried.truncated} truncated at {key}={value}",
            highlight=False,
            soft_wrap=True,
        )
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    console.print(_cost(found.cost), highlight=False, soft_wrap=True)
    if found.cost.prompts:
        bound = "at most about" if found.cost.dialogues else "about"
        learning = found.cost.learning.beside(found.recipe.budget)
        console.print(f"learning alone: {bound} {learning}", highlight=False, soft_wrap=True)


def _gold(answer: str | None, limit: int = 40) -> str:
    if answer is None:
        return ""
    line = " ".join(answer.split())
    return f", gold answer {line if len(line) <= limit else line[:limit] + '...'}"


def _traces(example: Example) -> Table:
    table = Table(
        Column("#", justify="right"),
        Column("answer", max_width=20),
        Column("", no_wrap=True),
        Column("confidence", justify="right"),
        Column("end", no_wrap=True),
        Column("trace", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    for trace, confidence, verdict in zip(example.traces, example.confidences, example.verdicts, strict=True):
        table.add_row(
            str(trace.index),
            Text(trace.answer.text if trace.answer else f"none: {trace.failure}"),
            Text(_VERDICTS[verdict], style="green" if verdict else "red"),
            "" if confidence is None else f"{confidence:.3f}",
            trace.finish_reason,
            Text(trace.text.strip()),
        )
    return table


def _cost(cost: Cost) -> str:
    parts = [f"{cost.prompts:,} prompts to learn from"] if cost.prompts else []
    parts += [f"{cost.questions:,} questions to measure on"] if cost.questions else ["no --eval-data to measure on"]
    parts.append(
        f"{cost.traces:,} traces of {cost.tokens:,} tokens in about {_duration(cost.sampling_seconds)}"
        f" ({cost.workers} process{'es' if cost.workers > 1 else ''})"
    )
    if cost.judging_seconds:
        parts.append(f"judging those to learn from in about {_duration(cost.judging_seconds)}")
    return f"a whole run: {'; '.join([*parts, *_learning(cost)])}"


def _learning(cost: Cost) -> list[str]:
    """What is learned from, and how long that takes."""
    parts, model, dialogues = [], cost.reward_model, cost.dialogues
    if model is not None:
        parts.append(
            f"a reward model of about {model.pairs:,} pairs in {model.optimiser_steps:,} optimiser steps in about"
            f" {_duration(model.seconds)}"
        )
    if dialogues is not None:
        parts.append(
            f"{dialogues.dialogues:,} dialogues of at most about {dialogues.attempts:,} attempts with"
            f" {dialogues.tokens:,} tokens in about {_duration(dialogues.sampling_seconds)}"
        )
        parts.append(f"at most about {dialogues.examples:,} examples and {_steps(cost)}")
    elif cost.completions:
        parts.append(
            f"{cost.completions:,} completions of {cost.completion_tokens:,} tokens to learn from in about"
            f" {_duration(cost.completion_seconds)}"
        )
        taught = f"{cost.warm_up_steps:,} steps of warm-up and " if cost.warm_up_steps else ""
        parts.append(f"{taught}at most {_steps(cost)}")
    elif cost.prompts and model is None:
        parts.append(f"about {cost.pairs:,} pairs and {_steps(cost)}")
    return parts


def _steps(cost: Cost) -> str:
    return f"{cost.optimiser_steps:,} optimiser steps in about {_duration(cost.training_seconds)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
