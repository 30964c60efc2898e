"""Best of N: traces sampled or given, the confidence of each, and one answer a question by each selector."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsf.confidence import Signal, get_signal
from rlsf.errors import InputError
from rlsf.files import digest, read_json, write_json
from rlsf.pipeline.best_of_n_config import BestOfNConfig
from rlsf.pipeline.context import Run
from rlsf.pipeline.environment import describe_environment
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.foreign_samples import read_samples
from rlsf.pipeline.given import look_at
from rlsf.pipeline.given_samples import (
    Questions,
    have_statistics,
    join,
    measure,
    recorded_questions,
)
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.preflight import require_usable
from rlsf.pipeline.sampling import read_shard, require_answers, sample_stage
from rlsf.pipeline.scoring import score_stage
from rlsf.pipeline.scoring_config import CompletionColumns, ScoringConfig
from rlsf.pipeline.selection import Candidates, SelectionSettings, select_stage
from rlsf.pipeline.served import require_served_signal
from rlsf.pipeline.shards import shard_paths
from rlsf.pipeline.trace_files import TraceFiles, find_traces
from rlsf.prompts import Prompt, has_gold, load_prompts
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.select import Selector
from rlsf.traces import Trace

_COLUMNS_OF_SURENESS = (
    "a confidence for each, --columns.confidence NAME, or the log-probabilities of its tokens, --columns.logprobs NAME"
)


class BestOfNFolder(RunFolder):
    """Where everything goes: ``recipe.yaml``, ``best-of-n.json``, ``traces/`` or ``scored/``, and ``selection/``."""

    @property
    def config_file(self) -> Path:
        return self.path / "best-of-n.json"

    @property
    def scored(self) -> Path:
        return self.path / "scored"

    @property
    def selection(self) -> Path:
        return self.path / "selection"

    @property
    def _preliminary(self) -> set[Path]:
        return super()._preliminary | {self.config_file}

    def kept_config(self) -> dict[str, Any]:
        """The configuration of what was begun here; empty where nothing was."""
        return read_json(self.config_file) if self.config_file.is_file() else {}


@dataclass(frozen=True, slots=True)
class Source:
    """Where candidates come from. Everything that can be seen beforehand was looked at when it was made.

    ``made`` does the long work, sampling or scoring, and says what it was made from; ``questions`` are read after it.
    """

    selectors: Sequence[Selector]
    made: Callable[[], dict[str, Any]]
    questions: Callable[[], Sequence[Candidates]]


def best_of_n(run: Run, folder: BestOfNFolder, config: BestOfNConfig, *, resume: bool) -> Manifest:
    """Sample or read traces and choose among them, in the folder of ``run``; what is finished there is kept.

    Mistakes that can be seen without the model's weights are met before the folder is taken. Raises ``InputError``.
    """
    run.executor.require_usable()
    source = _sampled(run, config) if config.traces is None else _given(run, folder, config, Path(config.traces))
    recipe = run.recipe
    settings = SelectionSettings(tuple(source.selectors), config.subsets, recipe.evaluation.bootstrap, recipe.seed)
    with _opened(run, folder, config, resume=resume):
        return select_stage(folder.selection, source.questions, settings, source.made(), run.progress)


@contextlib.contextmanager
def _opened(run: Run, folder: BestOfNFolder, config: BestOfNConfig, *, resume: bool) -> Iterator[None]:
    """The folder of ``run``, which may have no model, taken and given back; what is refused leaves its settings."""
    folder.open(run.recipe, resume=resume)
    kept = folder.kept_config()
    try:
        write_json(folder.config_file, config.model_dump(mode="json"))
        if not folder.environment_file.exists():
            write_json(folder.environment_file, describe_environment())
        with run:
            yield
    except InputError:
        if kept:
            write_json(folder.config_file, kept)
        raise
    finally:
        folder.close()


def _sampled(run: Run, config: BestOfNConfig) -> Source:
    """Traces that the recipe's model samples for the questions of the data."""
    recipe = run.recipe
    signal, prompts = get_signal(recipe.signal), _questions(recipe)
    require_served_signal(recipe.model, recipe.signal)
    require_usable(recipe, prompts, run.tokenizer)

    def made() -> dict[str, Any]:
        seed = derived_seed(recipe.seed, "sample", 1)
        sampled = sample_stage(run, "sample", recipe.model, prompts, run.folder.traces(1), seed, recipe.sampling)
        require_answers(run, "sample", sampled)
        return {"traces": sampled.digest, "gold": _gold_digest(prompts), "confidence": signal.name}

    def questions() -> list[Candidates]:
        found = _measured(run, shard_paths(run.folder.traces(1)), signal, {})
        by_id = {prompt.id: prompt for prompt in prompts}
        return [found[id].candidates(by_id[id], None) for id in by_id]

    return Source(config.chosen, made, questions)


def _given(run: Run, folder: BestOfNFolder, config: BestOfNConfig, place: Path) -> Source:
    """Traces that exist: of rlsf, of another engine with a confidence each, or of one to be scored."""
    recipe, files = run.recipe, find_traces(place.expanduser())
    prompts = None if recipe.evaluation_data is None else {prompt.id: prompt for prompt in _questions(recipe)}
    if prompts is not None and config.columns.gold is not None:
        raise InputError("gold answers are in --data or in --columns.gold: say one of the two")
    if files.recorded and config.columns != BestOfNConfig().columns:
        raise InputError(f"--columns.* mean nothing for {place}: traces recorded by rlsf keep their own")
    by_column = config.columns.of_sureness is not None
    # The majority asks no trace how sure it is, so that texts are enough.
    unmeasured = by_column or (not files.recorded and recipe.model.path is None and config.asks_no_sureness)
    known = _known(run, files, config, with_traces=unmeasured)
    if prompts is not None:
        join(known, prompts, str(recipe.evaluation_data and recipe.evaluation_data.path))
    signal = get_signal(recipe.signal)
    scoring = None if unmeasured else _scoring(recipe, files, config, signal)
    made_from: dict[str, Any] = {
        "gold": _gold_digest(prompts.values()) if prompts else None,
        "columns": config.columns.model_dump(),
        "answer": recipe.answer.model_dump(mode="json"),
        "confidence": None if unmeasured else signal.name,
        "first": config.first,
    }

    def made() -> dict[str, Any]:
        if scoring is None:
            return {"traces": files.digest, **made_from}
        scored = score_stage(scoring, folder.scored, resume=True, progress=run.progress, executor=run.executor)
        return {"traces": scored.digest, **made_from}

    def questions() -> list[Candidates]:
        if not unmeasured:
            paths = files.paths if scoring is None else shard_paths(folder.scored)
            _measured(run, paths, signal, known)
        return [known[id].candidates(prompts[id] if prompts else None, config.first) for id in known]

    selectors = _allowed(config, known, run) if by_column else config.chosen
    return Source(selectors, made, questions)


def _known(run: Run, files: TraceFiles, config: BestOfNConfig, *, with_traces: bool) -> Questions:
    """The questions of traces that exist; raises ``InputError`` where there are none."""
    if files.recorded:
        known = recorded_questions(files)
    else:
        warn = run.progress.warn
        known = read_samples(files, config.columns, run.recipe.answer, with_traces=with_traces, warn=warn)
    if not known:
        raise InputError(f"{config.traces}: no traces in it")
    return known


def _questions(recipe: Recipe) -> list[Prompt]:
    """The questions of the data, with gold answers where they have some."""
    data = recipe.evaluation_data
    if data is None:
        raise InputError("no questions: say --data FILE, or give --traces that were sampled before")
    return load_prompts(data, with_gold=has_gold(data, "evaluation_data"), learned_from=False)


def _gold_digest(prompts: Iterable[Prompt]) -> str:
    return digest([[prompt.id, prompt.gold, list(prompt.choices)] for prompt in prompts])


def _scoring(recipe: Recipe, files: TraceFiles, config: BestOfNConfig, signal: Signal) -> ScoringConfig | None:
    """How traces without statistics are to be scored; None where none need be.

    Raises ``InputError`` where that takes a model and none is given, and for traces that the model cannot score.
    """
    measured = files.recorded and (not signal.statistics or config.asks_no_sureness or have_statistics(files))
    if recipe.model.path is None and (not measured or signal.needs_pieces):
        need = f"have no statistics for {signal.name}" if not measured else f"are to be read for {signal.name}"
        raise InputError(
            f"the traces in {config.traces} {need}: say --model, the one that sampled them"
            + (
                ""
                if files.recorded
                else f", or name a column with {_COLUMNS_OF_SURENESS}, or --selectors majority alone"
            )
        )
    if measured:
        return None
    own = config.columns.model_dump(include=set(CompletionColumns.model_fields))
    scoring = ScoringConfig(
        model=recipe.model,
        traces=str(config.traces),
        columns=CompletionColumns(**own),
        answer=recipe.answer,
        chat_arguments=recipe.render.chat_arguments,
    )
    look_at(scoring)
    return scoring


def _allowed(config: BestOfNConfig, known: Questions, run: Run) -> list[Selector]:
    """The selectors that confidences of any range allow: ``weighted`` is refused, or left out where not named."""
    outside = ((id, trace.confidence) for id, found in known.items() for trace in found.traces)
    first = next(((id, value) for id, value in outside if value is not None and not 0 <= value <= 1), None)
    if first is None:
        return config.chosen
    why = f"confidence {first[1]:g} of question {first[0]!r} is not in [0, 1], as the selector weighted needs it"
    if "weighted" in (config.selectors or ()):
        raise InputError(
            f"{why}: leave weighted out of --selectors, or give confidences in {config.columns.confidence!r}"
        )
    run.progress.warn(f"{why}: it is left out")
    return [selector for selector in config.chosen if selector.kind != "weighted"]


def _measured(run: Run, paths: Sequence[Path], signal: Signal, known: Questions) -> Questions:
    """The traces of the shards ``paths``, each with the confidence of ``signal``."""
    tokenizer = run.tokenizer if signal.needs_pieces else None
    with run.progress.stage(f"measure {signal.name}", len(paths)) as advance:
        for path in paths:
            traces: Iterator[Trace] = (trace for group in read_shard(path) for trace in group)
            measure(traces, signal, tokenizer, known)
            advance(1)
    return known
