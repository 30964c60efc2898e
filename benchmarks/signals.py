"""Which confidence signal tells right answers from wrong ones, and which of ten branches would each prefer?

python benchmarks/signals.py [--quick] [--json FILE] [--page docs/signals-study.md] [--model DIR]

Runs what ``rlsf signals`` runs on labelled validation questions of the bundled model's tasks (never the test split),
and measures on the same traces the forms that ``trace_confidence`` could have taken: which tokens count, and which mean
is taken over them. Intervals are 95 % bootstraps over questions. ``arithmetic`` leaves out comparisons ("who has the
most?"), whose answer is no result of an equation. ``pairs``: the rule of the recipe ``rlsf-trace``, surest branch
against the rest, answers differing, gap at least 0.1.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _page import Table, write_tables
from _shared import options, show, write_json
from _signal_forms import FORMS
from rlsf.demo import MODEL_DIR
from rlsf.demo.solutions import style_of
from rlsf.demo.tasks import Problem, generate
from rlsf.evaluation.signal_advice import remarks
from rlsf.evaluation.signal_measures import MEASURES
from rlsf.evaluation.signal_schema import Estimate, SignalStudy
from rlsf.evaluation.signal_study import study_signals
from rlsf.evaluation.studied_traces import STUDY_SCHEMA, StudiedTraces
from rlsf.pipeline.ranking import pieces_of
from rlsf.pipeline.sampling import read_traces
from rlsf.pipeline.signal_study import TRACES, StudyFolder, StudyRun, study_stage
from rlsf.pipeline.signal_study_config import SignalStudyConfig, with_statistics_for
from rlsf.preferences import RankingConfig, rank_prompt
from rlsf.recipes.resolve import resolve
from rlsf.traces import Trace

#: The rule of the recipe ``rlsf-trace``, the same for every signal.
RANKING = RankingConfig(rule="best_versus_rest", threshold=0.0, minimum_gap=0.1, different_answers=True)
OURS, OUR_FORM = "trace_confidence", "numbers, signs: weakest tenth"
#: Columns of a table: measure, title, whether with its interval.
RIGHT_AND_WRONG = (
    ("auroc", "all", True),
    ("within_question", "in a question", False),
    ("direct", "direct", False),
    ("across_reasoning", "across", False),
    ("worked", "worked", True),
)
CHOOSING = (
    ("surest_accuracy", "surest right", True),
    ("surest_ece", "ECE", True),
    ("saturated", ">= .99", False),
    ("tied", "tied", False),
)
OF_FORMS = (("auroc", "all", True), ("surest_accuracy", "surest right", False), ("surest_ece", "ECE", True))
Columns = Sequence[tuple[str, str, bool]]
PREFERRED = ("pairs", "right > wrong", "wrong > right")
SHARES = {"surest_accuracy", "tied", "saturated", "saturated_wrong"}


def sampled(model: Path, problems: Sequence[Problem], folder: Path, resamples: int) -> tuple[StudyRun, SignalStudy]:
    """The study of the command, in ``folder``."""
    data = folder / "questions.jsonl"
    records = [
        {"id": problem.id, "question": problem.question, "answer": problem.gold}
        | ({"choices": list(problem.choices)} if problem.choices else {})
        for problem in problems
    ]
    data.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), encoding="utf-8")
    layer: dict[str, Any] = {
        "model": {"path": str(model), "dtype": "float32"},
        "evaluation_data": {"path": str(data)},
        "sampling": {"max_new_tokens": 96},
        "evaluation": {"bootstrap": resamples},
    }
    config = SignalStudyConfig()
    recipe = resolve(None, None, layer)
    place = StudyFolder(folder / "study")
    run = StudyRun(with_statistics_for(recipe, config.chosen(recipe.model)), place)
    with run.open(resume=False):
        return run, study_stage(run, place, config)


def with_forms(run: StudyRun, table: pa.Table) -> tuple[pa.Table, dict[str, Trace]]:
    """The table of the study with a column for every form, without those of the signals; and its traces by id."""
    traces = {trace.trace_id: trace for group in read_traces(run.folder.traces(1)) for trace in group}
    columns: dict[str, list[float | None]] = {name: [] for name in FORMS}
    ids = zip(table["prompt_id"].to_pylist(), table["index"].to_pylist(), strict=True)
    for prompt, index in ids:
        trace = traces[f"{prompt}#{index}"]
        pieces = pieces_of(trace, run.tokenizer)
        for name, form in FORMS.items():
            columns[name].append(None if trace.answer is None else form(trace, pieces))
    forms = table.select(STUDY_SCHEMA.names)
    for name, values in columns.items():
        forms = forms.append_column(name, pa.array(values, pa.float64()))
    return forms, traces


def preferences(table: pa.Table, traces: Mapping[str, Trace]) -> dict[str, dict[str, float]]:
    """What ``RANKING`` makes of every column: pairs, and the shares that prefer right to wrong and wrong to right."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["prompt_id"], []).append(row)
    found = {}
    for name in table.column_names[len(STUDY_SCHEMA) :]:
        signs = []
        for rows in groups.values():
            group = [traces[f"{row['prompt_id']}#{row['index']}"] for row in rows]
            correct = {row["index"]: bool(row["correct"]) for row in rows}
            pairs, _ = rank_prompt(group, [row[name] for row in rows], RANKING)
            signs += [correct[pair.chosen.trace.index] - correct[pair.rejected.trace.index] for pair in pairs]
        better, worse = (float(np.mean(np.array(signs) == sign)) if signs else 0.0 for sign in (1, -1))
        found[name] = {"pairs": len(signs), "right > wrong": better, "wrong > right": worse}
    return found


def text(one: Estimate, measure: str, *, bounds: bool) -> str:
    """A figure, shares in per cent, with its interval if asked for."""
    if one.value is None:
        return "-"
    share = measure in SHARES
    scale, digits = (100, 1) if share else (1, 3)
    shown = f"{scale * one.value:.{digits}f}{' %' if share else ''}"
    if not bounds or one.interval is None:
        return shown
    low, high = (f"{scale * bound:.{digits}f}".removeprefix("0" if scale == 1 else "") for bound in one.interval)
    return f"{shown} [{low}, {high}]"


def signal_table(
    study: SignalStudy,
    columns: Columns,
    arithmetic: SignalStudy | None = None,
    preferred: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """Every signal with some measures, AUROC among worked arithmetic, and what it would prefer, as far as given."""
    header = ["signal", *(title for _, title, _ in columns)]
    header += [] if arithmetic is None else ["worked arithmetic"]
    header += [] if preferred is None else PREFERRED
    rows = []
    for name in sorted(study.signals, key=lambda name: -(study.signals[name].figures["auroc"].value or 0)):
        row = [f"**`{name}`**" if name in (OURS, OUR_FORM) else f"`{name}`"]
        row += [text(study.signals[name].figures[measure], measure, bounds=bounds) for measure, _, bounds in columns]
        if arithmetic is not None:
            row.append(text(arithmetic.signals[name].figures["worked"], "worked", bounds=True))
        if preferred is not None:
            pairs, better, worse = (preferred[name][key] for key in PREFERRED)
            row += [f"{pairs:.0f}", *(f"{100 * share:.1f} %" if pairs else "-" for share in (better, worse))]
        rows.append(row)
    return header, rows


def separation_table(study: SignalStudy, arithmetic: SignalStudy) -> Table:
    """For every measure the best signal, those not separated from it, and those that are."""
    rankings = {MEASURES[key].title: ranking for key, ranking in study.rankings.items()}
    rankings["Worked, arithmetic"] = arithmetic.rankings["worked"]
    rows = []
    for title, ranking in rankings.items():
        apart = [f"`{name}`" for name, one in ranking.differences.items() if one.separated]
        alike = [f"`{name}`" for name in ranking.alike[1:]]
        rows.append([title, f"`{ranking.best}`", ", ".join(alike) or "-", ", ".join(apart) or "-"])
    return ["measure", "best", "not separated from it", "separated"], rows


def difference_table(study: SignalStudy, arithmetic: SignalStudy) -> Table:
    """Every signal less the best, where traces are worked and over all, with interval and corrected p."""
    rows = []
    for title, ranking in (
        ("all", study.rankings["auroc"]),
        ("worked", study.rankings["worked"]),
        ("worked, arithmetic", arithmetic.rankings["worked"]),
    ):
        for name, one in ranking.differences.items():
            low, high = one.interval or (float("nan"), float("nan"))
            p = "-" if one.p_holm is None else f"{one.p_holm:.3f}" if one.p_holm >= 0.001 else "< 0.001"
            rows.append([title, f"`{name}` less `{ranking.best}`", f"{one.value:+.3f} [{low:+.3f}, {high:+.3f}]", p])
    return ["traces", "difference of AUROC", "", "p, Holm"], rows


def span_table(studies: Mapping[str, SignalStudy]) -> Table:
    """Where the answer's span is all but certain, beside ours, by questions and kind of trace."""
    header = ["questions", "traces", "number", "right"]
    for name in ("answer_disparity", OURS):
        header += [f"`{name}` AUROC", ">= .99 if right", ">= .99 if wrong"]
    rows = []
    for questions, study in studies.items():
        for kind, counts in study.kinds.items():
            if not counts.traces:
                continue
            row = [questions, kind, str(counts.traces), f"{100 * counts.right / counts.traces:.1f} %"]
            for name in ("answer_disparity", OURS):
                one = study.signals[name].kinds[kind]
                row.append("-" if one.auroc is None else f"{one.auroc:.3f}")
                row += [
                    "-" if share is None else f"{100 * share:.1f} %"
                    for share in (one.saturated_right, one.saturated_wrong)
                ]
            rows.append(row)
    return header, rows


def facts_table(study: SignalStudy, facts: Mapping[str, float]) -> Table:
    """What was sampled, and what answers without any signal."""
    rows = [[name, f"{value:,.0f}" if value > 1 else f"{100 * value:.1f} %"] for name, value in facts.items()]
    names = {"trace": "a branch at random", "greedy": "greedy", "majority": "the majority", "any": "any branch"}
    rows += [
        [f"right: {names[name]}", text(one, "surest_accuracy", bounds=True)] for name, one in study.accuracy.items()
    ]
    return ["", ""], rows


def studied(table: pa.Table, study: SignalStudy) -> SignalStudy:
    """The same study of other columns or fewer questions."""
    return study_signals(StudiedTraces.of(table), study.settings)


def main() -> None:
    """The command line."""
    parser = options("Signals of confidence on the branches of the bundled model.")
    parser.add_argument("--model", type=Path, default=MODEL_DIR, help="another folder with a model of these tasks")
    parser.add_argument("--questions", type=int, help="how many; 1000, or 300 with --quick")
    parser.add_argument("--seed", type=int, default=7, help="of the questions")
    parser.add_argument("--page", type=Path, help="a Markdown page whose marked tables are written")
    arguments = parser.parse_args()
    started = time.perf_counter()
    problems = generate("validation", arguments.questions or (300 if arguments.quick else 1000), arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        run, study = sampled(arguments.model, problems, Path(folder), 500 if arguments.quick else 2000)
        table = pq.read_table(run.folder.path / "signals" / TRACES).select([*STUDY_SCHEMA.names, *study.signals])
        form_table, traces = with_forms(run, table)
    by_id = {problem.id: problem for problem in problems}
    compares = pa.array([by_id[id].arithmetic.goal in ("most", "fewest") for id in table["prompt_id"].to_pylist()])
    mask = np.asarray(compares)
    arithmetic, comparisons = studied(table.filter(~mask), study), studied(table.filter(mask), study)
    forms, form_arithmetic = studied(form_table, study), studied(form_table.filter(~mask), study)
    preferred = preferences(table, traces) | preferences(form_table, traces)
    rows = [row for row in table.to_pylist() if row["answer"] is not None]
    styles = [style_of(traces[f"{row['prompt_id']}#{row['index']}"].text) == "worked" for row in rows]
    facts = {
        "questions": len(problems),
        "branches": study.traces,
        "with an answer": study.answered / study.traces,
        "kind by tokens as by the demo's own texts": float(
            np.mean([row["worked"] == style for row, style in zip(rows, styles, strict=True)])
        ),
    }
    tables = {
        "facts": facts_table(study, facts),
        "signals": signal_table(study, RIGHT_AND_WRONG, arithmetic),
        "choosing": signal_table(study, CHOOSING, preferred=preferred),
        "separation": separation_table(study, arithmetic),
        "differences": difference_table(study, arithmetic),
        "span": span_table({"all": study, "arithmetic": arithmetic, "comparisons": comparisons}),
        "forms": signal_table(forms, OF_FORMS, form_arithmetic, preferred),
    }
    for title, (header, lines) in tables.items():
        show(title, list(header), [list(line) for line in lines])
    print(study.advice, *remarks(study), sep="\n")
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} seconds")
    if arguments.page is not None:
        write_tables(arguments.page, tables)
    content = {"study": study, "arithmetic": arithmetic, "comparisons": comparisons, "forms": forms}
    figures = {name: one.model_dump(mode="json") for name, one in content.items()}
    write_json(arguments.json, {**facts, "seconds": seconds, "preferences": preferred, **figures})


if __name__ == "__main__":
    main()
