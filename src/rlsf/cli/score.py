"""``rlsf score``: token statistics of traces that exist already."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.options import Workers
from rlsf.errors import InputError
from rlsf.pipeline.scoring_config import CompletionColumns, scoring_config
from rlsf.recipes.resolve import merge, parse_overrides
from rlsf.sampling.executor import ExecutorOptions

if TYPE_CHECKING:
    from rlsf.pipeline.manifest import Manifest

ScoringOverrides = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Keys of a recipe that say how the model is loaded and answers are found: of model and answer, and"
        " render.chat_arguments, for example --answer.format boxed.",
    ),
]
AtLeastOne = Annotated[int | None, Parameter(validator=Number(gte=1))]
_COLUMNS, _WORKERS = CompletionColumns(), ExecutorOptions()


def score(
    *overrides: ScoringOverrides,
    model: str | None = None,
    traces: Path | None = None,
    output: Path | None = None,
    resume: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    positions: Literal["completion", "answer"] | None = None,
    columns: CompletionColumns = _COLUMNS,
    batch_tokens: AtLeastOne = None,
    shard_traces: AtLeastOne = None,
    workers: Workers = _WORKERS,
) -> None:
    """Compute the token statistics of traces that exist, your own or another engine's, by one forward pass each.

    Parameters
    ----------
    model:
        The model to score with: a folder or a hub id.
    traces:
        A Parquet file or folder of traces, a run folder, or JSON lines or Parquet of another engine with prompts and
        completions.
    output:
        Folder for the scored traces; by default beside the traces, NAME.scored.
    resume:
        Go on in the output folder where it stopped; nothing else need be said again.
    positions:
        Score every token of a completion (the default), or those of its answer alone.
    columns:
        Where another engine's files keep what.
    batch_tokens:
        Tokens of one forward pass: bounds memory. By default 4096 on a CPU, else 16384.
    shard_traces:
        Traces of one file of the output, 4096 by default: bounds memory, and what a resumed run does again.
    """
    from rlsf.pipeline.manifest import read_manifest
    from rlsf.pipeline.scored_shards import ScoredFolder
    from rlsf.pipeline.scoring import score_stage
    from rlsf.pipeline.trace_files import scored_beside

    said: dict[str, Any] = {
        "traces": None if traces is None else str(traces),
        "positions": positions,
        "columns": columns.model_dump(exclude_none=True),
        "batch_tokens": batch_tokens,
        "shard_traces": shard_traces,
    }
    said = {key: value for key, value in said.items() if value not in (None, {})}
    layer = merge({} if model is None else {"model": {"path": model}}, parse_overrides(overrides))
    if output is None and traces is None:
        raise InputError("nothing to score: say --traces FILE_OR_FOLDER, or --resume --output FOLDER to go on")
    folder = output or scored_beside(traces or Path())
    kept = ScoredFolder(folder).kept_config() if resume else {}
    if resume and not kept and None in (model, traces):
        raise InputError(f"nothing to resume: no scoring was begun in {folder}")
    config = scoring_config(kept, said, layer)
    started, before = time.monotonic(), read_manifest(folder)
    with resumed_by("rlsf", "score", "--resume", "--output", folder, *workers.arguments()):
        manifest = score_stage(config, folder, resume=resume, executor=workers)
        _summarise(manifest, folder, "before" if before else f"in {time.monotonic() - started:.1f} s")


def _summarise(manifest: Manifest, folder: Path, when: str) -> None:
    found = manifest.counts
    lines = [f"{_number(found['traces'], 'trace')}, {_number(found['tokens'], 'token')} scored {when}"]
    if found["way"] == "fused":
        lines.append(f"from hidden states, no logits in memory: {found['reason']}")
    else:
        lines.append(f"by logits, slower and with more memory: {found['reason']}")
    if found["answers"]:
        mean = found["disparity"] / found["answers"]
        lines.append(f"mean confidence {mean:.3f} (answer_disparity, {_number(found['answers'], 'answer')})")
    if found["unscored"]:
        lines.append(f"{_number(found['unscored'], 'trace')} without statistics, the first because: {found['why']}")
    lines.append(f"traces  {folder}")
    console = Console()
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
