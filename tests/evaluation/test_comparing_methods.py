"""comparison.json: means of runs, failures as data, order, refusals, its schema and its page of documentation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from documented_keys import models_of, require_every_key
from pydantic import BaseModel
from scipy.stats import t

from rlsf.errors import InputError
from rlsf.evaluation import EvaluationConfig, Metrics, Outcome, Sample, summarise
from rlsf.evaluation import comparison_schema as schema_module
from rlsf.evaluation.comparing import CurvePoint, MethodOutcomes, compare_methods
from rlsf.evaluation.comparison_schema import Asked, Comparison

CONFIG = EvaluationConfig(modes=("greedy",), bootstrap=200)
DOCUMENT = Path(__file__).parents[2] / "docs" / "comparison.md"


def outcomes(seed: int, skill: float = 0.0, n: int = 60) -> list[Outcome]:
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        confidence = float(generator.random())
        correct = bool(generator.random() < min(1.0, confidence + skill))
        tokens = int(generator.integers(5, 50))
        rows.append(Outcome(f"q{index}", "greedy", 0, "7", confidence, correct, correct, True, tokens, False))
    return rows


def method(recipe: str, runs: Mapping[int, list[Outcome]], **given) -> MethodOutcomes:
    return MethodOutcomes(recipe, f"the recipe {recipe}", "self-feedback", False, "greedy", runs, **given)


def example() -> list[MethodOutcomes]:
    start = method("before", {0: outcomes(0), 1: outcomes(0), 2: outcomes(0)})
    return [
        dataclasses.replace(start, kind="start"),
        method(
            "rlsf",
            {seed: outcomes(10 + seed, 0.2) for seed in range(3)},
            reference={0: outcomes(0)},
            entropy={0: 0.5, 1: 0.4, 2: 0.3},
            spent={seed: {"generated_tokens": 100.0 * (seed + 1), "seconds_learning": 4.0} for seed in range(3)},
            curve={1: [CurvePoint(0, 0, 0, 0.0, 0.4), CurvePoint(5, 90, 20, 2.0, 0.6)]},
        ),
        method("nft", {0: outcomes(20, 0.1)}, failed={1: "loss is NaN", 2: "loss is NaN"}),
        method("broken", {}, failed={0: "out of memory"}),
    ]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare_methods(example(), CONFIG, 0, Asked(name="all", seeds=(0, 1, 2)))


def test_a_figure_is_the_mean_of_its_runs(comparison: Comparison):
    rlsf = comparison.methods[1]
    for name, figure in rlsf.figures.items():
        if name == "entropy":
            continue
        runs = [Metrics(Sample.of(outcomes(10 + seed, 0.2))).values()[name] for seed in range(3)]
        assert figure.by_seed == pytest.approx(dict(enumerate(runs)))
        assert figure.value == pytest.approx(np.mean(runs))
        assert figure.interval[0] < figure.interval[1]
    assert rlsf.spent == {"generated_tokens": 200.0, "seconds_learning": 4.0}
    assert (rlsf.n, rlsf.seeds, comparison.asked.name) == (60, (0, 1, 2), "all")


def test_one_seed_has_the_intervals_of_its_own_summary(comparison: Comparison):
    nft = comparison.methods[2]
    alone = summarise(outcomes(20, 0.1), None, CONFIG, "s", seed=0)["before"]["greedy"]
    for name, figure in nft.figures.items():
        assert list(figure.interval) == alone["intervals"][name], name
        assert figure.value == alone[name]
    assert 0.5 * alone["ece_if_calibrated"] < nft.ece_if_calibrated < 2 * alone["ece_if_calibrated"]
    assert nft.model_dump(mode="json")["reliability"] == alone["curves"]["reliability"]


def test_entropy_has_students_interval_over_seeds(comparison: Comparison):
    entropy = comparison.methods[1].figures["entropy"]
    assert entropy.value == pytest.approx(0.4)
    assert entropy.interval == pytest.approx(t.interval(0.95, 2, 0.4, 0.1 / np.sqrt(3)))
    assert "entropy" not in comparison.methods[2].figures
    assert "nats" in comparison.definitions["entropy"]


def test_failed_runs_are_told_and_in_no_mean(comparison: Comparison):
    nft, broken = comparison.methods[2:]
    assert [(one.seed, one.reason) for one in nft.failed] == [(1, "loss is NaN"), (2, "loss is NaN")]
    assert nft.seeds == (0,)
    assert (broken.figures, broken.n, broken.reliability, broken.curves) == ({}, 0, (), {})
    assert broken.ece_if_calibrated is None
    assert all("broken" not in (pair.first, pair.second) for pairs in comparison.pairs.values() for pair in pairs)


def test_all_pairs_are_there_second_less_first(comparison: Comparison):
    values = {one.recipe: one.figures for one in comparison.methods if one.figures}
    for metric, pairs in comparison.pairs.items():
        names = [(pair.first, pair.second) for pair in pairs]
        assert names == [("before", "rlsf"), ("before", "nft"), ("rlsf", "nft")]
        for pair in pairs:
            expected = values[pair.second][metric].value - values[pair.first][metric].value
            assert pair.value == pytest.approx(expected)
            assert pair.p <= pair.p_holm <= min(1.0, 3 * pair.p)
    assert set(comparison.pairs) == {"accuracy", "ece", "brier"}


def test_the_reference_is_the_model_as_given_under_the_same_decoding(comparison: Comparison):
    rlsf = comparison.methods[1]
    # The start was measured three times with the same answers: as good as once.
    against = next(pair for pair in comparison.pairs["brier"] if pair.second == "rlsf")
    assert rlsf.against_reference["brier"].value == pytest.approx(against.value)
    assert rlsf.against_reference["brier"].p == pytest.approx(against.p, rel=0.3)
    assert comparison.methods[0].against_reference is None


def test_a_run_without_curve_has_its_end(comparison: Comparison):
    curves = comparison.methods[1].curves
    assert [point.accuracy for point in curves[1]] == [0.4, 0.6]
    (end,) = curves[2]
    assert end.accuracy == comparison.methods[1].figures["accuracy"].by_seed[2]
    assert (end.generated_tokens, end.training_tokens, end.seconds) == (300, 0, 4.0)


def test_reliability_is_of_all_runs_and_counts_a_question_once(comparison: Comparison):
    start, rlsf = comparison.methods[:2]
    assert sum(point.count for point in rlsf.reliability) == 180
    once = summarise(outcomes(0), None, CONFIG, "s", seed=0)["before"]["greedy"]["curves"]["reliability"]
    for point, one in zip(start.reliability, once, strict=True):
        assert point.count == 3 * one["count"]
        assert point.interval == pytest.approx(tuple(one["interval"])) if one["interval"] else point.interval is None


def test_equal_methods_are_not_told_apart():
    runs = {seed: outcomes(seed) for seed in range(3)}
    equal = compare_methods([method("before", runs), method("same", runs)], CONFIG, 0)
    for pairs in equal.pairs.values():
        assert [(pair.value, pair.p, pair.p_holm) for pair in pairs] == [(0.0, 1.0, 1.0)]


def test_order_of_questions_and_seeds_does_not_matter(comparison: Comparison):
    def turned(given: MethodOutcomes) -> MethodOutcomes:
        return dataclasses.replace(given, outcomes={s: list(reversed(o)) for s, o in reversed(given.outcomes.items())})

    again = compare_methods([turned(one) for one in example()], CONFIG, 0, comparison.asked)
    assert again.model_dump_json() == comparison.model_dump_json()


def test_order_of_methods_turns_signs_only(comparison: Comparison):
    turned = compare_methods(example()[::-1], CONFIG, 0, comparison.asked)
    assert turned.methods == comparison.methods[::-1]
    for metric, pairs in comparison.pairs.items():
        others = {(pair.second, pair.first): pair for pair in turned.pairs[metric]}
        for pair in pairs:
            other = others[pair.first, pair.second]
            assert (-other.value, other.p, other.p_holm) == pytest.approx((pair.value, pair.p, pair.p_holm))


def test_other_modes_are_left_out(comparison: Comparison):
    more = [dataclasses.replace(one, mode="majority", correct=False) for one in outcomes(20, 0.1)]
    methods = example()
    methods[2] = dataclasses.replace(methods[2], outcomes={0: [*more, *outcomes(20, 0.1)]})
    assert compare_methods(methods, CONFIG, 0, comparison.asked).methods == comparison.methods


def test_the_comparison_survives_json(comparison: Comparison):
    text = json.dumps(comparison.model_dump(mode="json"), allow_nan=False)
    assert Comparison.model_validate_json(text) == comparison


def test_undefined_figures_are_null():
    wrong = [dataclasses.replace(one, correct=False) for one in outcomes(0)]
    found = compare_methods(
        [method("before", {0: outcomes(0)}), method("silent", {0: wrong, 1: outcomes(1)})], CONFIG, 0
    )
    auroc = found.methods[1].figures["auroc"]
    assert auroc.by_seed[0] is None
    assert auroc.value == auroc.by_seed[1]
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_runs_on_other_questions_are_refused():
    methods = [method("before", {0: outcomes(0)}), method("rlsf", {3: outcomes(0, n=59)})]
    with pytest.raises(InputError, match=r"before, seed 0, and rlsf, seed 3, .* \('q59' is in one only, 1 in all\)"):
        compare_methods(methods, CONFIG, 0)


def test_a_run_without_its_mode_is_refused_by_name():
    methods = [method("before", {0: []})]
    with pytest.raises(InputError, match="before, seed 0: no outcomes for mode 'greedy'"):
        compare_methods(methods, CONFIG, 0)


def test_a_recipe_twice_and_no_run_at_all_are_refused():
    with pytest.raises(InputError, match="'rlsf' is compared with itself"):
        compare_methods([method("rlsf", {0: outcomes(0)})] * 2, CONFIG, 0)
    with pytest.raises(InputError, match="no run was measured"):
        compare_methods([method("rlsf", {}, failed={0: "no"})], CONFIG, 0)


@pytest.mark.parametrize("model", models_of(schema_module), ids=lambda model: model.__name__)
def test_the_documentation_lists_every_key_of_a_comparison(model: type[BaseModel]):
    require_every_key(DOCUMENT, model)
