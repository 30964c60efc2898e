"""Courses: what a model was taught goes with it, and decides questions and settings."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlsf.cli.demo import data_layer
from rlsf.demo import MODEL_DIR, train
from rlsf.demo.courses import COURSES, SUMS_1M, SUMS_24M, course_of, find_course
from rlsf.demo.problems import LONG
from rlsf.demo.settings import demo_settings
from rlsf.demo.tasks import generate
from rlsf.errors import InputError
from rlsf.recipes import RECIPES, resolve
from rlsf.recipes.resolve import flatten, merge


@pytest.fixture
def longer(tmp_path: Path) -> Path:
    """A folder that says it holds a model of the larger course."""
    folder = tmp_path / "model"
    folder.mkdir()
    SUMS_24M.write(folder)
    return folder


def test_a_course_goes_with_its_model(longer: Path) -> None:
    assert course_of(MODEL_DIR) is SUMS_1M
    assert course_of(longer) is SUMS_24M


def test_a_model_without_a_course_and_an_unknown_course_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no course\.json: name a model that python -m rlsf\.demo\.train has made"
    ):
        course_of(tmp_path)
    with pytest.raises(InputError, match=r"course 'sums-24': unknown \(did you mean .*known: sums-1m, sums-24m"):
        find_course("sums-24")


def test_questions_are_those_of_the_course(longer: Path, tmp_path: Path) -> None:
    mine, bundled = data_layer(tmp_path, False, longer), data_layer(tmp_path, False)
    asked = [json.loads(line)["question"] for line in Path(mine["evaluation_data"]["path"]).read_text().splitlines()]
    assert asked == [problem.question for problem in generate("test", 500, 0, LONG)]
    assert mine["evaluation_data"] != bundled["evaluation_data"]
    assert (mine["model"]["path"], bundled["model"]["path"]) == (str(longer), str(MODEL_DIR))


@pytest.mark.parametrize("name", RECIPES)
def test_settings_of_the_larger_course_fit_every_recipe_and_are_smaller_steps(name: str, longer: Path) -> None:
    def rates(settings: dict[str, Any]) -> dict[str, float]:
        recipe = resolve(name, None, merge(settings, {"model": {"path": str(longer)}}))
        return {key: value for key, value in flatten(recipe.model_dump()) if key.endswith("learning_rate")}

    mine, bundled = rates(demo_settings(name, longer)), rates(demo_settings(name))
    said = {key: value for key, value in bundled.items() if key in dict(flatten(demo_settings(name)))}
    assert said
    assert all(mine[key] < value for key, value in said.items()), (mine, said)


def test_a_model_is_trained_and_asked_its_own_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the larger model with a tiny one in its place."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "heads": 2, "layers": 1, "questions_per_step": 2, "makers": 1}
    monkeypatch.setitem(COURSES, SUMS_24M.name, dataclasses.replace(SUMS_24M, **shape))
    monkeypatch.setattr(train, "TOKENIZER_QUESTIONS", 500)
    where = tmp_path / "made"
    command = ["train", "--course", "sums-24m", "--steps", "2", "--device", "cpu", "--output", str(where)]
    monkeypatch.setattr("sys.argv", command)
    train.main()
    assert course_of(where).level is LONG
    assert json.loads((where / "config.json").read_text())["num_hidden_layers"] == 1


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        ("train", ["--output", "none", "--device", "gpu"], "error: model.device='gpu': use auto, cpu, cuda or cuda:N"),
        ("evaluate", ["--model", "none"], "error: none has no course.json: name a model that"),
    ],
)
def test_mistakes_are_one_line(module: str, arguments: list[str], line: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"rlsf.demo.{module}", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert line in ended.stderr
    assert "Traceback" not in ended.stderr
