"""``rlsf calibrate`` on the bundled model: what is written, what evaluation then shows, and what it is not used for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlsf.calibration import CALIBRATION, Calibration, TemperatureCalibrator
from rlsf.cli.app import USER_ERROR, execute
from rlsf.demo import MODEL_DIR, write_data
from rlsf.models import ModelConfig, model_fingerprint
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import OUTCOMES, evaluate_stage, summary_stage
from rlsf.pipeline.reporting import report_stage
from rlsf.recipes import Recipe

Build = Callable[..., Recipe]
Open = Callable[..., Run]
FEW = ("--sampling.branches", "3", "--sampling.max-new-tokens", "48", "--sampling.workers", "1")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty labelled questions."""
    return write_data(tmp_path_factory.mktemp("labelled"), self_training=1, test=60, seed=3)[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a copy of the bundled model in ``model``."""
    shutil.copytree(MODEL_DIR, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calibrate(*arguments: object) -> int:
    return execute(["calibrate", *map(str, arguments)])


def summary(run: Path) -> dict:
    return json.loads((run / "evaluation" / "summary.json").read_text())


def test_from_a_model_to_calibrated_figures(
    folder: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    greedy = ("--mode", "greedy", "--method", "platt", "--alpha", "0.8")
    assert calibrate("--model", "model", "--data", labelled, *greedy, *FEW) == 0
    shown = " ".join(capsys.readouterr().out.split())
    made = Calibration.load(folder / "model" / CALIBRATION)
    assert (made.mode, made.signal, made.questions, made.calibrator.method) == (
        *("greedy", "answer_disparity", 60, "platt"),
    )
    assert made.fingerprint == model_fingerprint(ModelConfig(path="model"))
    assert made.asked is not None
    assert made.asked["sampling"] == {"max_new_tokens": 48, "stop": []}
    assert f"{made.raw.ece:.3f} {made.raw.brier:.3f}" in shown
    assert f"{made.calibrated.ece:.3f} {made.calibrated.brier:.3f}" in shown
    assert f"answers {100 * made.threshold.answered:.1f} %" in shown

    # Other questions: figures of the stored calibrator.
    others = write_data(tmp_path_factory.mktemp("others"), self_training=1, test=20, seed=77)[1]
    measure = ("--model", "model", *FEW, "--evaluation.bootstrap", "100")
    assert execute(["eval", *measure, "--data", str(others), "--output", "others"]) == 0
    assert "Calibrated (platt), Greedy: ECE" in capsys.readouterr().out
    found = summary(folder / "others")["before"]
    assert found["greedy"]["calibrated"]["held_out"]
    assert 0 < found["greedy"]["calibrated"]["brier"] != found["greedy"]["brier"]
    assert found["majority"]["calibrated"] is None
    assert "Calibrated confidence" in (folder / "others" / "report.html").read_text()

    # A part of the questions that it was made from: its cross-validated figures, which are not flattered.
    limited = ("--evaluation-data.limit", "10")
    assert execute(["eval", *measure, "--data", str(labelled), *limited, "--output", "same"]) == 0
    again = summary(folder / "same")["before"]["greedy"]["calibrated"]
    assert not again["held_out"]
    assert (again["ece"], again["brier"]) == (made.calibrated.ece, made.calibrated.brier)
    assert "cross-validated" in capsys.readouterr().out


def test_a_run_is_calibrated_without_sampling_again(
    folder: Path, labelled: Path, small_recipe: Build, open_run: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    """After training it is the policy that is calibrated, from what was measured of it."""
    data = (f"evaluation_data.path={labelled}", "sampling.branches=3")
    with open_run(small_recipe(*data), folder / "run") as run:
        evaluate_stage(run, "before", run.recipe.model)
        shutil.copytree(MODEL_DIR, run.folder.policy)
        evaluate_stage(run, "after", run.trained_config(1))
        before = summary_stage(run)
        page = report_stage(run).read_text()
    assert before["after"]["greedy"]["calibrated"] is None
    assert "not calibrated: rlsf calibrate turns them into probabilities" in page
    capsys.readouterr()
    written = (folder / "run" / "evaluation" / "after" / OUTCOMES).stat().st_mtime_ns
    assert calibrate("run", "--mode", "greedy", "--method", "temperature", "--alpha", "0.9") == 0
    assert (folder / "run" / "evaluation" / "after" / OUTCOMES).stat().st_mtime_ns == written
    made = Calibration.load(folder / "run" / "policy" / CALIBRATION)
    assert isinstance(made.calibrator, TemperatureCalibrator)
    assert made.raw.ece == pytest.approx(before["after"]["greedy"]["ece"])
    assert made.raw.brier == pytest.approx(before["after"]["greedy"]["brier"])
    assert "Made and measured on the same questions" in capsys.readouterr().out
    assert execute(["eval", str(folder / "run")]) == 0
    after = summary(folder / "run")
    assert after["after"]["greedy"]["calibrated"]["method"] == "temperature"
    assert after["before"]["greedy"]["calibrated"] is None
    assert {**after["after"]["greedy"], "calibrated": None} == before["after"]["greedy"], (
        "raw figures stay as they were"
    )


def test_a_calibration_for_something_else_is_not_used(
    folder: Path, labelled: Path, small_recipe: Build, open_run: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    model = (f"evaluation_data.path={labelled}", "evaluation_data.limit=40", f"model.path={folder / 'model'}")
    with open_run(small_recipe(*model, "sampling.branches=3"), folder / "run") as run:
        evaluate_stage(run, "before", run.recipe.model)
        summary_stage(run)
    assert calibrate("run", "--mode", "majority", "--alpha", "0.9") == 0
    file = folder / "model" / CALIBRATION
    made = Calibration.load(file)
    for changes, words in (
        ({"signal": "answer_entropy"}, "signal answer_entropy, not trace_confidence"),
        ({"branches": 9}, "branches 9, not 3"),
        ({"fingerprint": "0"}, "another model"),
        ({"asked": {"render": {"system": "Think."}}}, "render.system 'Think.', not None"),
    ):
        made.model_copy(update=changes).save(file)
        capsys.readouterr()
        with open_run(small_recipe(*model, "sampling.branches=3"), folder / "run", resume=True) as run:
            assert summary_stage(run)["before"]["majority"]["calibrated"] is None
        said = " ".join(capsys.readouterr().err.split())
        assert "is not used: it was made for" in said
        assert words in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to calibrate: a run folder, or --model MODEL --data FILE"),
        (("run", "--model", "model"), "say what to calibrate"),
        (("--model", "model"), "no labelled questions to calibrate on: say --data FILE"),
        (("--model", "model", "--data", "DATA", "--alpha", "2"), "--alpha 2: give a share"),
        (("--model", "owner/name", "--data", "DATA"), "owner/name has no folder of yours"),
        (("--model", "mdoel", "--data", "DATA"), "else mend the path"),
        (("--model", "model", "--data", "DATA", "--evaluation-data.limit", "19"), "19 labelled questions are too few"),
        (("--model", "model", "--data", "DATA", "--output", "model/config.json/c.json"), "cannot write model/config"),
        (("--model", "model", "--data", "DATA", "--output", "."), "--output . is a folder"),
        (
            ("--model", "model", "--data", "DATA", "--evaluation.modes", "[greedy]", "--mode", "majority"),
            "--mode majority is not measured here: choose one of greedy",
        ),
        (("--model", "model", "--data", "UNLABELLED"), "needs the gold answers"),
        (("nowhere",), "nowhere is not a run folder"),
        (("nowhere", "--seed", "3"), "no other questions or keys"),
    ],
)
def test_mistakes_are_met_before_any_work(
    arguments: tuple[str, ...], words: str, folder: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlabelled = folder / "unlabelled.jsonl"
    unlabelled.write_text('{"id": "a", "question": "1 + 1?"}\n')
    known = {"DATA": str(labelled), "UNLABELLED": str(unlabelled)}
    assert calibrate(*(known.get(argument, argument) for argument in arguments)) == USER_ERROR
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (folder / "runs").exists()


def test_a_run_without_labels_is_refused(
    folder: Path, small_recipe: Build, open_run: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe().model_copy(update={"evaluation_data": None})
    with open_run(recipe, folder / "run"):
        pass
    assert calibrate("run") == USER_ERROR
    assert "no labelled questions to calibrate on in run" in " ".join(capsys.readouterr().err.split())
