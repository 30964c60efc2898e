"""What both models of an audit write, and the figures of it: traces to features, resumable."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.answers.equivalence import Grader
from rlsf.audit import FEATURES, AuditConfig, feature_values
from rlsf.evaluation.modes import Verdicts
from rlsf.files import atomic_path, digest
from rlsf.models import check_vocabulary, load_model, model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.context import Run
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.ranking import pieces_of
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

#: The model at the start, and the trained one.
SIDES = ("before", "after")
MEASURED = "measured.parquet"
#: One row a trace: whose it is, its features under the start, and for labelled questions whether it is right.
MEASURED_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("side", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("correct", pa.bool_()),
        *((name, pa.float64()) for name in FEATURES),
    ]
)


def measured_traces(
    run: Run, after: ModelConfig, config: AuditConfig, prompts: Sequence[Prompt], part: Literal["traces", "questions"]
) -> tuple[pa.Table, str]:
    """Traces of both models for ``prompts`` with their features, in ``MEASURED_SCHEMA``, and what identifies them.

    Both have random numbers of their own. Statistics of either's traces are computed the same way, by one forward pass
    of the start, so that rounding tells no side; traces of one prompt with the same tokens are measured once.
    """
    recipe, folder = run.recipe, run.folder.path / part
    drawn = config.sampling if part == "traces" else config.question_sampling
    sampling = recipe.sampling.model_copy(update=drawn)
    sampled = {
        side: sample_stage(
            run,
            f"{part} {side}",
            model,
            prompts,
            folder / side,
            derived_seed(recipe.seed, "audit", part, side),
            sampling,
        ).digest
        for side, model in zip(SIDES, (recipe.model, after), strict=True)
    }
    inputs = {
        **sampled,
        "model": {"fingerprint": model_fingerprint(recipe.model), "dtype": recipe.model.dtype},
        "gold": digest([[prompt.id, prompt.gold] for prompt in prompts]),
    }
    done = finished(folder, "measure", inputs)
    if done is None:
        table = pa.Table.from_pylist(list(_rows(run, folder, prompts, part)), schema=MEASURED_SCHEMA)
        with atomic_path(folder / MEASURED) as partial:
            pq.write_table(table, partial, compression="zstd")
        done = Manifest("measure", inputs, {"traces": table.num_rows})
        done.write(folder)
    return pq.read_table(folder / MEASURED), done.digest


def _rows(run: Run, folder: Path, prompts: Sequence[Prompt], part: str) -> Iterator[dict[str, Any]]:
    groups = [list(read_traces(folder / side)) for side in SIDES]
    distinct = {_key(trace): trace for group in itertools.chain(*groups) for trace in group}
    found = dict(zip(distinct, _features(run, list(distinct.values()), part), strict=True))
    with Grader() as grader:
        for prompt, *of_sides in zip(prompts, *groups, strict=True):
            verdicts = None if prompt.gold is None else Verdicts(prompt.gold, prompt.choices, grader)
            for side, traces in zip(SIDES, of_sides, strict=True):
                for trace in traces:
                    yield {
                        "prompt_id": prompt.id,
                        "index": trace.index,
                        "side": side,
                        "prompt_ids": trace.prompt_token_ids,
                        "token_ids": trace.token_ids,
                        "text": trace.text,
                        "correct": None if verdicts is None else _is_right(trace, verdicts),
                        **found[_key(trace)],
                    }


def _features(run: Run, traces: Sequence[Trace], part: str) -> Iterator[dict[str, float]]:
    from rlsf.scoring import Scorer

    model = load_model(run.recipe.model)
    check_vocabulary(model, run.tokenizer)
    with run.progress.stage(f"measure {part}", len(traces)) as advance:
        for trace in Scorer(model, run.tokenizer).score(traces):
            yield feature_values(trace, pieces_of(trace, run.tokenizer))
            advance(1)


def _key(trace: Trace) -> tuple[str, tuple[int, ...]]:
    return trace.prompt_id, tuple(trace.token_ids.tolist())


def _is_right(trace: Trace, verdicts: Verdicts) -> bool:
    """As in evaluation, no answer is wrong, and so is one that cannot be graded."""
    return trace.answer is not None and bool(verdicts.of(trace.answer.text))


def pair_table(measured: pa.Table) -> pa.Table:
    """Pairs of traces of one prompt, in the columns of preference pairs: after training chosen, before rejected."""
    rows: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in measured.to_pylist():
        rows.setdefault((row["prompt_id"], row["index"]), {})[row["side"]] = row
    names = {"token_ids": "ids", "text": "text", **{name: name for name in FEATURES}}
    sides = {"chosen": "after", "rejected": "before"}
    pairs = [
        {
            "prompt_id": prompt_id,
            "index": index,
            "prompt_ids": both["before"]["prompt_ids"],
            **{f"{side}_{new}": both[whose][old] for side, whose in sides.items() for old, new in names.items()},
        }
        for (prompt_id, index), both in rows.items()
    ]
    return pa.Table.from_pylist(pairs)
