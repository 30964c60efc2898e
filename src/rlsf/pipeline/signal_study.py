"""The study of signals: labelled questions sampled and graded, every signal measured on the traces, and the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlsf.answers.equivalence import Grader
from rlsf.answers.voting import group_answers
from rlsf.confidence import SIGNALS
from rlsf.errors import InputError
from rlsf.evaluation.modes import Verdicts
from rlsf.evaluation.signal_schema import SignalStudy, StudySettings
from rlsf.evaluation.signal_study import study_signals
from rlsf.evaluation.studied_traces import STUDY_SCHEMA, StudiedTraces
from rlsf.evaluation.trace_kinds import kind_of
from rlsf.files import read_json, write_json, write_text
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import gold_digest
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.judging import judge_stage, read_judgements
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.preflight import require_usable
from rlsf.pipeline.ranking import pieces_of
from rlsf.pipeline.sampling import read_shard, require_answers, sample_stage
from rlsf.pipeline.served import require_servable
from rlsf.pipeline.shards import prompts_of_shards, shard_paths
from rlsf.pipeline.signal_study_config import SignalStudyConfig
from rlsf.pipeline.table_file import writing_rows
from rlsf.prompts import Prompt
from rlsf.report.names import short_name
from rlsf.report.signal_page import StudyFacts, render_signal_page
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STUDY, PAGE, TRACES = "signals.json", "signals.html", "traces.parquet"
#: The name under which a judge's P(True) stands among the signals.
JUDGE = "judge"


class StudyFolder(RunFolder):
    """``recipe.yaml``, ``settings.json``, ``traces/``, ``judgements/``, ``signals/``, signals.json and signals.html."""

    @property
    def settings_file(self) -> Path:
        return self.path / "settings.json"

    @property
    def measured(self) -> Path:
        """One row a trace: whether it is right, its kind, and its confidence by every signal."""
        return self.path / "signals"

    @property
    def _preliminary(self) -> set[Path]:
        return super()._preliminary | {self.settings_file}

    def kept_settings(self) -> dict[str, Any]:
        """What the study here was begun with; empty where none was."""
        return read_json(self.settings_file) if self.settings_file.is_file() else {}


class StudyRun(Run):
    """A run whose questions to sample for are the labelled ones; their gold answers are looked at to grade alone."""

    @property
    def prompts(self) -> Sequence[Prompt]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.questions


def study_preflight(run: Run, config: SignalStudyConfig) -> None:
    """Look at everything but the weights, before the folder is taken. Raises ``InputError``."""
    if run.recipe.evaluation_data is None:
        raise InputError("no labelled questions: say --data FILE")
    if run.recipe.model.path is None:
        raise InputError("no model: say --model FOLDER_OR_HUB_ID, or set model.path in the recipe file")
    config.chosen(run.recipe.model)
    require_servable(run.recipe, trains=False)
    require_usable(run.recipe, run.questions, run.tokenizer)


def study_stage(run: StudyRun, folder: StudyFolder, config: SignalStudyConfig) -> SignalStudy:
    """Sample, grade and measure, then write ``signals.json`` and ``signals.html``; what is finished is kept."""
    recipe = run.recipe
    if not folder.settings_file.exists():
        write_json(folder.settings_file, config.model_dump(mode="json"))
    seed = derived_seed(recipe.seed, "sample", 1)
    sampled = sample_stage(run, "sample", recipe.model, run.questions, folder.traces(1), seed, recipe.sampling)
    require_answers(run, "sample", sampled)
    judged = None if recipe.judge is None else judge_stage(run, 1)
    measured = _measure_stage(run, folder, config, sampled, judged)
    # Only now: settings that the traces measured before contradict are refused, and leave the old ones.
    write_json(folder.settings_file, config.model_dump(mode="json"))
    table = _without_silent(run, pq.read_table(folder.measured / TRACES), config)
    settings = StudySettings(
        direct_tokens=config.direct_tokens,
        bins=recipe.evaluation.bins,
        resamples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
    )
    sampling = recipe.sampling
    greedy_first = sampling.strategy == "cot_decoding" and sampling.continuation == "greedy"
    study = study_signals(StudiedTraces.of(table), settings, greedy_first=greedy_first)
    write_json(folder.path / STUDY, study.model_dump(mode="json"))
    facts = StudyFacts(
        model=short_name(recipe.model.path),
        data=_data_name(run),
        tokens=sampled.counts["tokens"],
        truncated=sampled.counts["truncated"],
        recipe=recipe,
        environment=read_json(folder.environment_file),
    )
    write_text(folder.path / PAGE, render_signal_page(study, facts))
    run.metrics.record({"event": "signals", **measured.counts})
    return study


def _data_name(run: Run) -> str:
    data = run.recipe.evaluation_data
    assert data is not None
    return short_name(data.path) or data.preset or ""


def _measure_stage(
    run: StudyRun, folder: StudyFolder, config: SignalStudyConfig, sampled: Manifest, judged: Manifest | None
) -> Manifest:
    """Write one row a trace, a shard at a time."""
    names = config.chosen(run.recipe.model)
    inputs = {
        "traces": sampled.digest,
        "judgements": None if judged is None else judged.digest,
        "gold": gold_digest(run.questions),
        "signals": names,
        "direct_tokens": config.direct_tokens,
    }
    done = finished(folder.measured, "signals", inputs)
    if done is not None:
        return done
    columns = [*names, *([] if judged is None else [JUDGE])]
    schema = pa.schema([*STUDY_SCHEMA, *((name, pa.float64()) for name in columns)])
    said = iter(()) if judged is None else read_judgements(folder.judgements(1))
    count = 0
    with (
        Grader() as grader,
        writing_rows(folder.measured / TRACES, schema) as write,
        run.progress.stage("measure signals", sampled.counts["prompts"]) as advance,
    ):
        for path, asked in prompts_of_shards(shard_paths(folder.traces(1)), run.questions):
            for question, traces in zip(asked, read_shard(path), strict=True):
                rows = _rows(question, traces, names, config, grader, run.tokenizer)
                if judged is not None:
                    rows = _with_judgements(rows, said)
                write(pa.Table.from_pylist(rows, schema=schema))
                count += len(rows)
                advance(1)
    manifest = Manifest("signals", inputs, {"questions": sampled.counts["prompts"], "traces": count})
    manifest.write(folder.measured)
    return manifest


def _rows(
    question: Prompt,
    traces: Sequence[Trace],
    signals: Sequence[str],
    config: SignalStudyConfig,
    grader: Grader,
    tokenizer: PreTrainedTokenizerBase,
) -> list[dict[str, Any]]:
    """The traces of one question as rows of ``STUDY_SCHEMA`` and signals."""
    assert question.gold is not None
    verdicts = Verdicts(question.gold, question.choices, grader)
    answers = [trace.answer_text for trace in traces]
    classes = dict.fromkeys(range(len(traces)), -1)
    for number, members in enumerate(group_answers(answers, verdicts.same)):
        classes |= dict.fromkeys(members, number)
    rows = []
    for place, trace in enumerate(traces):
        pieces, answer = pieces_of(trace, tokenizer), trace.answer
        kind = None if answer is None else kind_of(pieces, answer, config.direct_tokens)
        rows.append(
            {
                "prompt_id": trace.prompt_id,
                "index": trace.index,
                "answer": answer and answer.text,
                "answer_class": classes[place],
                "answer_start": answer and answer.start,
                "answer_end": answer and answer.end,
                "tokens": len(trace.token_ids),
                "correct": verdicts.of(answer.text) if answer else False,
                "worked": kind and kind.worked,
                "copied": kind and kind.copied,
                **{name: SIGNALS[name].confidence(trace, pieces) for name in signals},
            }
        )
    return rows


def _with_judgements(rows: Sequence[Mapping[str, Any]], said: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the judge's confidences, which come in the order of the traces."""
    joined = []
    for row in rows:
        judgement = next(said)
        assert (judgement["prompt_id"], judgement["index"]) == (row["prompt_id"], row["index"])
        joined.append({**row, JUDGE: judgement["confidence"]})
    return joined


def _without_silent(run: Run, table: pa.Table, config: SignalStudyConfig) -> pa.Table:
    """The table without signals that no trace has a value of; those that were asked for by name are missed aloud."""
    silent = [name for name in table.column_names[len(STUDY_SCHEMA) :] if table[name].null_count == table.num_rows]
    for name in silent:
        if name in (config.signals or ()):
            run.progress.warn(f"{name}: no trace has a value of this signal, so that it is left out")
    if len(silent) == len(table.column_names) - len(STUDY_SCHEMA):
        raise InputError(f"no trace has a value of {', '.join(silent)}: name other signals with --signals")
    return table.drop_columns(silent)
