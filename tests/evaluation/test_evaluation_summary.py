"""summary.json: its values against the metrics, its pairing, its schema and its page of documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from documented_keys import models_of, require_every_key
from pydantic import BaseModel

from rlsf.errors import InputError
from rlsf.evaluation import EvaluationConfig, Outcome, Summary, accuracy_at_coverage, auroc, ece, summarise
from rlsf.evaluation import schema as schema_module
from rlsf.evaluation.config import Mode
from rlsf.evaluation.modes import NO_CONFIDENCE

CONFIG = EvaluationConfig(bootstrap=200)
DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


def outcomes(n: int = 60, seed: int = 0, skill: float = 0.0, modes=CONFIG.modes) -> list[Outcome]:
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        for mode in modes:
            confidence = float(generator.random())
            correct = bool(generator.random() < min(1.0, confidence + skill))
            rows.append(
                Outcome(
                    prompt_id=f"q{index}",
                    mode=mode,
                    trace_index=0,
                    answer="7",
                    confidence=confidence,
                    correct=correct,
                    correct_flexible=correct or index % 5 == 0,
                    graded=True,
                    tokens=int(generator.integers(5, 50)),
                    truncated=index % 10 == 0,
                )
            )
    return rows


def test_figures_are_those_of_the_metrics():
    before = outcomes()
    greedy = [outcome for outcome in before if outcome.mode == "greedy"]
    confidence, correct = [o.confidence for o in greedy], [o.correct for o in greedy]
    summary = summarise(before, None, CONFIG, "answer_disparity", seed=0)
    figures = summary["before"]["greedy"]
    assert figures["n"] == 60
    assert figures["accuracy"] == pytest.approx(np.mean(correct))
    assert figures["accuracy_flexible"] == pytest.approx(np.mean([o.correct_flexible for o in greedy]))
    assert figures["ece"] == pytest.approx(ece(confidence, correct))
    assert figures["auroc"] == pytest.approx(auroc(confidence, correct))
    assert figures["mean_tokens"] == pytest.approx(np.mean([o.tokens for o in greedy]))
    assert figures["truncated"] == 6
    assert set(figures["accuracy_at_coverage"]) == {"0.5", "0.8", "0.9"}
    assert figures["accuracy_at_coverage"]["0.8"] == pytest.approx(accuracy_at_coverage(confidence, correct, 0.8))
    low, high = figures["intervals"]["accuracy"]
    assert low < figures["accuracy"] < high
    assert (summary["signal"], summary["after"], summary["difference"]) == ("answer_disparity", None, None)


def test_difference_is_after_less_before_and_paired():
    before, after = outcomes(), outcomes(skill=0.3)
    summary = summarise(before, after, CONFIG, "s", seed=0)
    for mode in CONFIG.modes:
        change = summary["difference"][mode]["accuracy"]
        expected = summary["after"][mode]["accuracy"] - summary["before"][mode]["accuracy"]
        assert change["value"] == pytest.approx(expected)
        # The same random draws and more skill: no question gets worse, so no resample does.
        assert change["interval"][0] >= 0
        assert change["probability_of_improvement"] > 0.975
    assert set(summary["difference"]["greedy"]) == set(summary["after"]["greedy"]["intervals"])
    assert summary["difference"]["greedy"]["mean_tokens"]["probability_of_improvement"] is None


def test_nothing_changed():
    summary = summarise(outcomes(), outcomes(), CONFIG, "s", seed=0)
    for metric, change in summary["difference"]["majority"].items():
        assert (change["value"], change["interval"]) == (0.0, [0.0, 0.0]), metric
        assert change["probability_of_improvement"] in (0.5, None)


def test_row_order_does_not_matter_and_the_seed_does():
    rows = outcomes()
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    first = summarise(rows, None, CONFIG, "s", seed=0)
    assert summarise(shuffled, None, CONFIG, "s", seed=0) == first
    other = summarise(rows, None, CONFIG, "s", seed=1)
    assert other["before"]["greedy"]["intervals"] != first["before"]["greedy"]["intervals"]
    assert other["before"]["greedy"]["ece"] == first["before"]["greedy"]["ece"]


def failed(n: int) -> list[Outcome]:
    return [
        Outcome(f"q{i}", mode, 0, None, 0.0, False, False, True, 9, True, "no number in the text")
        for i in range(n)
        for mode in CONFIG.modes
    ]


def test_undefined_figures_are_null_and_failures_are_counted():
    summary = summarise(failed(4), failed(4), CONFIG, "s", seed=0)
    figures = summary["before"]["greedy"]
    assert (figures["auroc"], figures["intervals"]["auroc"]) == (None, None)
    assert summary["difference"]["greedy"]["auroc"] == {
        "value": None,
        "interval": None,
        "probability_of_improvement": None,
    }
    assert (figures["without_answer"], figures["truncated"], figures["accuracy"], figures["n"]) == (4, 4, 0.0, 4)
    json.dumps(summary, allow_nan=False)


def test_undecided_and_unmeasured_questions_are_counted():
    rows = [
        Outcome("q1", "greedy", 0, "7", 0.0, True, True, True, 9, False, NO_CONFIDENCE),
        Outcome("q2", "greedy", 0, "7", 0.4, False, False, False, 9, False),
    ]
    figures = summarise(rows, None, EvaluationConfig(modes=("greedy",), bootstrap=100), "s", 0)["before"]["greedy"]
    assert (figures["without_confidence"], figures["ungraded"], figures["without_answer"]) == (1, 1, 0)


def test_one_question_is_enough():
    json.dumps(summarise(outcomes(1), outcomes(1, seed=3), CONFIG, "s", 0), allow_nan=False)


def test_the_summary_is_its_schema_and_survives_json():
    summary = summarise(outcomes(250), outcomes(250, skill=0.2), CONFIG, "s", seed=0)
    text = json.dumps(summary, allow_nan=False)
    assert Summary.model_validate_json(text).model_dump(mode="json") == summary
    curves = summary["after"]["cot_decoding"]["curves"]
    assert len(curves["risk_coverage"]) == 200
    assert len(curves["reliability"]) == 10
    assert sum(point["correct"] + point["wrong"] for point in curves["histogram"]) == 250


def test_every_figure_is_defined_in_one_line():
    summary = summarise(outcomes(5), None, CONFIG.model_copy(update={"aggregate": True}), "s", seed=0)
    figures = set(summary["before"]["greedy"]) - {"intervals", "curves"}
    assert set(summary["definitions"]) == figures | set(CONFIG.modes)
    assert all(line and "\n" not in line for line in summary["definitions"].values())
    assert "summed" in summary["definitions"]["cot_decoding"]


def test_unpaired_questions_are_refused():
    with pytest.raises(InputError, match=r"not measured on the same questions \('q59' is in one only, 1 in all\)"):
        summarise(outcomes(60), outcomes(59), CONFIG, "s", seed=0)


def test_a_question_twice_is_refused():
    with pytest.raises(InputError, match="'q0' has two outcomes for mode 'greedy'"):
        summarise([*outcomes(3), outcomes(1)[0]], None, CONFIG, "s", seed=0)


def test_a_mode_without_outcomes_is_refused():
    with pytest.raises(InputError, match="no outcomes for mode 'majority'"):
        summarise(outcomes(3, modes=("greedy", "cot_decoding")), None, CONFIG, "s", seed=0)


@pytest.mark.parametrize("model", models_of(schema_module), ids=lambda model: model.__name__)
def test_the_documentation_lists_every_key(model: type[BaseModel]):
    require_every_key(DOCUMENT, model)


def test_the_documentation_lists_every_column_of_the_outcomes():
    from rlsf.evaluation import OUTCOME_SCHEMA

    text = DOCUMENT.read_text(encoding="utf-8")
    for field in OUTCOME_SCHEMA:
        assert f"| `{field.name}` | {field.type} |" in text


def test_the_documentation_names_every_decoding_mode_where_it_may_stand():
    text = DOCUMENT.read_text(encoding="utf-8")
    column = next(line for line in text.splitlines() if line.startswith("| `mode` |"))
    for mode in get_args(Mode):
        assert f"\n| `{mode}` | " in text
        assert f"`{mode}`" in column
