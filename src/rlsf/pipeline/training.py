"""The training stage: preference pairs to a policy, with the checkpoint chosen without labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlsf.pipeline.budgeting import allowance, part_of_round, with_probes
from rlsf.pipeline.conditioning import pairs_to_learn_from
from rlsf.pipeline.context import Run
from rlsf.pipeline.launching import trained
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.probe import agreement_probe, held_out, surest_answers
from rlsf.pipeline.ranking import CONFIDENCES
from rlsf.pipeline.table_file import reading_rows
from rlsf.sampling.randomness import derived_seed
from rlsf.training.mapped_table import ROWS, mapped_table
from rlsf.training.spending import COUNTS

if TYPE_CHECKING:
    from rlsf.training import TrainingResult

_TEXTS = {"prompt", "chosen", "rejected", "rejected_prompt"}


@spends("learning")
def train_stage(run: Run, round_: int) -> Manifest:
    """Fine-tune the policy of the round before on this round's pairs."""
    made, _ = pairs_to_learn_from(run, round_)
    recipe = run.recipe
    inputs = {
        "preferences": made.digest,
        "training": recipe.training.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    folder = run.folder.checkpoints(round_)
    done = finished(folder, "train", inputs)
    if done is not None:
        return done
    result = trained(run, train_on_pairs, round_, folder)
    counts = ("pairs", "too_long", "steps", "best_step", "learning_rate", "reason", *COUNTS)
    manifest = Manifest("train", inputs, {name: getattr(result, name) for name in counts})
    manifest.write(folder)
    return manifest


def train_on_pairs(run: Run, round_: int) -> TrainingResult:
    """The training itself; in each process where it is done in several."""
    from rlsf.training import keep_reference, train_preferences

    _, path = pairs_to_learn_from(run, round_)
    recipe, base, folder = run.recipe, run.policy_config(round_), run.folder.checkpoints(round_)
    targets = probe_targets(run, round_)
    training_pairs = _pairs_without(path, targets, folder)
    seed = derived_seed(recipe.seed, "train", round_)
    if round_ > 1 and recipe.training.reference == "start":
        keep_reference(
            lambda: run.model_to_train(run.start_config()),
            tokenizer=run.tokenizer,
            preferences=training_pairs,
            config=recipe.training,
            folder=folder,
            seed=seed,
        )
    title = run.title("train", round_)
    with run.progress.stage(title, recipe.training.optimiser_steps(training_pairs.num_rows)) as advance:
        return train_preferences(
            model=run.model_to_train(base),
            tokenizer=run.tokenizer,
            preferences=training_pairs,
            config=recipe.training,
            folder=folder,
            policy_folder=run.folder.round_policy(round_, recipe.rounds),
            seed=seed,
            probe=agreement_probe(run, targets) if targets else None,
            record=lambda event: run.metrics.record({**event, "round": round_}),
            resume=True,
            progress=by_difference(advance),
            allowance=with_probes(
                recipe, allowance(run, part_of_round(round_), [run.folder.traces(round_)]), len(targets)
            ),
        )


def _pairs_without(path: Path, prompt_ids: Iterable[str], folder: Path) -> pa.Table:
    """The pairs of all other prompts, by their token ids: nothing that is trained on needs the texts.

    They stay on disk, in ``folder``, and are read as training comes to them.
    """
    schema = pq.read_schema(path)
    names = [name for name in schema.names if name not in _TEXTS]
    others = ~pc.field("prompt_id").isin(pa.array(list(prompt_ids), pa.string()))
    with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
        batches = file.iter_batches(ROWS, columns=names)
        parts = (pa.Table.from_batches([batch]).filter(others) for batch in batches)
        return mapped_table(parts, pa.schema([schema.field(name) for name in names]), folder)


def by_difference(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A progress display that is told how far the trainer is, where it wants to know how far it has come."""
    reached = 0

    def progress(done: int, total: int) -> None:
        nonlocal reached
        advance(done - reached)
        reached = done

    return progress


def probe_targets(run: Run, round_: int) -> dict[str, str]:
    """Prompts kept out of training for the probe, each with the answer the sampling policy was surest of."""
    path = run.folder.preferences(round_) / CONFIDENCES
    chosen = set(held_out(run, (prompt_id for prompt_id, _ in _surest(path))))
    return {prompt_id: answer for prompt_id, answer in _surest(path) if prompt_id in chosen}


def _surest(path: Path) -> Iterator[tuple[str, str]]:
    """The prompts that have an answer with a confidence, each with the surest one, in the order of the file."""
    rows = (row for table in reading_rows(path) for row in table.to_pylist())
    for _, of_prompt in itertools.groupby(rows, key=itemgetter("prompt_id")):
        yield from surest_answers((row["prompt_id"], row["answer"], row["confidence"]) for row in of_prompt).items()
