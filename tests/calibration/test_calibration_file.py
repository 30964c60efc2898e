"""The file beside the model: exact, checked, and refused in one line where it is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlsf.calibration import CALIBRATION, Calibration, make_calibration, out_of_fold
from rlsf.errors import InputError
from rlsf.evaluation import Outcome, brier, ece, log_loss
from rlsf.models import ModelConfig, model_fingerprint

METHODS = ("isotonic", "platt", "temperature")


def outcomes(n: int = 200, seed: int = 0) -> list[Outcome]:
    """Greedy outcomes, a tenth of them without an answer."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(n):
        confidence, silent = float(generator.random()), number % 10 == 0
        found.append(
            Outcome(
                prompt_id=f"q{number}",
                mode="greedy",
                trace_index=0,
                answer=None if silent else "1",
                confidence=0.0 if silent else confidence,
                correct=not silent and bool(generator.random() < confidence**0.3),
                correct_flexible=False,
                graded=True,
                tokens=5,
                truncated=False,
                failure="no answer found" if silent else None,
            )
        )
    return found


def calibration(method: Any = "isotonic", **changes: Any) -> Calibration:
    made: dict[str, Any] = {"method": method, "alpha": 0.3, "signal": "answer_disparity", "mode": "greedy"}
    made |= {"branches": 10, "aggregate": False, "model": "m", "fingerprint": "f", "made_from": ["d"]}
    return make_calibration(outcomes(), **{**made, **changes})


@pytest.mark.parametrize("method", METHODS)
def test_loading_gives_back_every_bit(method: str, tmp_path: Path) -> None:
    made = calibration(method)
    made.save(tmp_path / CALIBRATION)
    loaded = Calibration.find(tmp_path)
    assert loaded == made
    asked = np.random.default_rng(1).random(1000)
    np.testing.assert_array_equal(loaded.probability(asked), made.probability(asked))
    np.testing.assert_array_equal(loaded.answers(asked), made.answers(asked))


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert Calibration.find(tmp_path) is None


@pytest.mark.parametrize("method", METHODS)
def test_figures_count_every_question(method: str) -> None:
    made, given = calibration(method), outcomes()
    confidence, correct = [one.confidence for one in given], [one.correct for one in given]
    assert (made.questions, made.unanswered) == (200, 20)
    assert made.raw.ece == pytest.approx(ece(confidence, correct))
    assert made.raw.brier == pytest.approx(brier(confidence, correct))
    assert made.calibrated.brier < made.raw.brier
    assert made.threshold.questions == 200
    assert made.threshold.answered == pytest.approx(float(made.answers(confidence).mean()))
    probability, answered = made.of_questions(confidence, [one.failure is None for one in given])
    assert probability[0] == 0
    assert not answered[::10].any()
    assert made.of_questions([1.0, 1.0], [True, False])[1].tolist() == [True, False], "however sure it is"


@pytest.mark.parametrize("method", METHODS)
def test_calibrated_figures_are_those_out_of_fold(method: Any) -> None:
    """Not those of the calibrator on the questions that it was fitted on, which flatter it."""
    given = sorted(outcomes(), key=lambda one: one.prompt_id)
    usable = np.array([one.failure is None for one in given])
    correct, probability = np.array([one.correct for one in given]), np.zeros(200)
    confidence = np.array([one.confidence for one in given])
    probability[usable] = out_of_fold(confidence[usable], correct[usable], method, 5, seed=3)
    figures = calibration(method, seed=3).calibrated
    assert figures.ece == pytest.approx(ece(probability, correct))
    assert figures.brier == pytest.approx(brier(probability, correct))
    assert figures.log_loss == pytest.approx(log_loss(probability, correct))


def test_the_calibrator_is_not_bent_by_questions_without_an_answer() -> None:
    with_answers = [one for one in outcomes() if one.failure is None]
    made = {"signal": "s", "mode": "greedy", "branches": 1, "aggregate": False, "model": "m"}
    made |= {"fingerprint": "f", "made_from": ["d"], "method": "platt"}
    assert make_calibration(outcomes(), **made).calibrator == make_calibration(with_answers, **made).calibrator


def test_another_use_is_refused_by_what_differs() -> None:
    made = calibration()
    assert made.misfit("answer_disparity", "greedy", "f", branches=3, aggregate=True) is None
    assert made.misfit("answer_disparity", "greedy") is None
    assert "signal answer_disparity, not entropy" in str(made.misfit("entropy", "greedy"))
    assert "mode greedy, not majority" in str(made.misfit("answer_disparity", "majority", "f"))
    assert "another model" in str(made.misfit("answer_disparity", "greedy", "g"))
    votes = made.model_copy(update={"mode": "majority"})
    assert "branches 10, not 5" in str(votes.misfit("answer_disparity", "majority", "f", branches=5))
    summed = made.model_copy(update={"mode": "cot_decoding"})
    assert "aggregate False, not True" in str(summed.misfit("answer_disparity", "cot_decoding", aggregate=True))
    with pytest.raises(InputError, match="rlsf calibrate"):
        made.require("entropy", "greedy", "f")


def test_another_way_of_asking_is_refused_by_what_differs() -> None:
    """The prompt and the answer's format decide a confidence as much as the model does."""
    asked = {"render": {"system": "Think.", "few_shot": None}, "sampling": {"max_new_tokens": 48}}
    made = calibration(asked=asked)
    fits = ("answer_disparity", "greedy", "f", 10, False)
    assert made.misfit(*fits, asked) is None
    assert made.misfit(*fits) is None, "not known, not compared"
    assert calibration().misfit(*fits, asked) is None, "a file of an earlier version"
    long = {**asked, "render": {"system": "Think.", "few_shot": "Q: 1 + 1? A: 2 " * 100}}
    for other, words in (
        ({**asked, "render": {"system": None, "few_shot": None}}, "render.system 'Think.', not None"),
        ({**asked, "sampling": {"max_new_tokens": 5}}, "sampling.max_new_tokens 48, not 5"),
        (long, "render.few_shot None, not 'Q: 1 + 1?"),
    ):
        with pytest.raises(InputError) as error:
            made.require(*fits, other)
        assert words in str(error.value)
        assert len(str(error.value)) < 250


def test_a_mode_without_outcomes_is_refused() -> None:
    with pytest.raises(InputError, match="no outcomes of mode 'majority'"):
        calibration(mode="majority")


def _changed(**changes: Any) -> bytes:
    return json.dumps({**calibration().model_dump(mode="json"), **changes}).encode()


HOSTILE = {
    "empty": b"",
    "no JSON": b"\x80\x04pickle",
    "a list": b"[]",
    "half a file": _changed()[:300],
    "deep": b"[" * 100_000,
    "another version": _changed(schema_version=2),
    "unknown key": _changed(code="import os"),
    "another method": _changed(calibrator={"method": "pickle", "value": "gASV"}),
    "decreasing": _changed(calibrator={"method": "isotonic", "confidence": [0.1, 0.2], "value": [0.9, 0.1]}),
    "unsorted": _changed(calibrator={"method": "isotonic", "confidence": [0.2, 0.1], "value": [0.1, 0.9]}),
    "uneven": _changed(calibrator={"method": "isotonic", "confidence": [0.2], "value": [0.1, 0.9]}),
    "no knots": _changed(calibrator={"method": "isotonic", "confidence": [], "value": []}),
    "outside": _changed(calibrator={"method": "isotonic", "confidence": [0.2], "value": [1.5]}),
    "not a number": _changed(calibrator={"method": "temperature", "temperature": float("nan")}),
    "infinite": _changed(calibrator={"method": "platt", "slope": float("inf"), "intercept": 0}),
    "falling": _changed(calibrator={"method": "platt", "slope": -1.0, "intercept": 0}),
    "another section": _changed(asked={"model": {"trust_remote_code": True}}),
    "no temperature": _changed(calibrator={"method": "temperature", "temperature": 0}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_calibration_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CALIBRATION).write_bytes(content)
    with pytest.raises(InputError, match=r"calibration\.json is no calibration: .*rlsf calibrate") as error:
        Calibration.find(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(InputError, match="no calibration in"):
            Calibration.load(path)


def test_a_calibration_is_no_part_of_the_model(tmp_path: Path) -> None:
    """Else it would belong to another model as soon as it is written, and no evaluation could be taken up again."""
    (tmp_path / "config.json").write_text("{}")
    model = ModelConfig(path=str(tmp_path))
    before = model_fingerprint(model)
    calibration().save(tmp_path / CALIBRATION)
    assert model_fingerprint(model) == before
