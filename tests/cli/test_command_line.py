"""Help, resuming and interrupting, as a user meets them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rlsf.cli.app import INTERRUPTED, USER_ERROR, app, execute
from rlsf.demo import MODEL_DIR
from rlsf.recipes import resolve, to_yaml

COMMANDS = ("demo", "check", "run", "sample", "rank", "train", "eval", "report", "score", "ask", "recipes", "doctor")


def test_help_lists_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == 0
    shown = capsys.readouterr().out
    lines = re.findall(r"^│ (\w+) +(\S.*?) *│$", shown, re.MULTILINE)
    assert tuple(name for name, _ in lines if name in COMMANDS) == COMMANDS
    assert "rlsf check --model MODEL --prompts FILE" in " ".join(shown.split())


def test_only_the_first_page_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["eval", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "To begin" not in shown
    assert "[FOLDER] SECTION.KEY=VALUE" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_explained(command: str) -> None:
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        if argument.show:
            assert argument.parameter.help, argument.name


@pytest.fixture
def run_folder(tmp_path: Path, demo_data: tuple[Path, Path]) -> Path:
    """A run that was stopped before it made anything."""
    layer = {"model": {"path": str(MODEL_DIR)}, "prompts": {"path": str(demo_data[0]), "limit": 2}}
    folder = tmp_path / "my run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(to_yaml(resolve("rlsf-trace", overrides=layer)))
    return folder


def test_a_resumed_run_needs_no_other_option(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", "--resume", "--output", str(run_folder), "--dry-run"]) == 0
    assert capsys.readouterr().out == (run_folder / "recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (("--sampling.branches", "3"), "sampling.branches: 10 -> 3"),
        (("--recipe", "rlsf"), "recipe: 'rlsf-trace' -> 'rlsf'"),
    ],
)
def test_a_resumed_run_keeps_to_its_recipe(
    run_folder: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], difference: str
) -> None:
    assert execute(["run", "--resume", "--output", str(run_folder), *change]) == USER_ERROR
    assert f"was started with another recipe ({difference})" in capsys.readouterr().err


def test_prompts_on_the_command_line_replace_those_of_the_file(
    tmp_path: Path, demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file, questions = tmp_path / "mine.yaml", str(demo_data[0])
    file.write_text("prompts: {preset: svamp, split: train, limit: 5}\n")
    assert execute(["run", "--config", str(file), "--prompts", questions, "--dry-run"]) == 0
    prompts = yaml.safe_load(capsys.readouterr().out)["prompts"]
    assert (prompts["path"], prompts["preset"], prompts["split"], prompts["limit"]) == (questions, None, None, 5)


@pytest.mark.parametrize(
    ("stage", "arguments", "how"),
    [
        ("run.run_all", ("run", "--resume", "--output"), "rlsf run --resume --output"),
        ("run.sample_round", ("sample", "--resume", "--output"), "rlsf sample --resume --output"),
        ("ranking.rank_stage", ("rank",), "rlsf rank"),
        ("training.train_stage", ("train",), "rlsf train"),
    ],
)
def test_an_interrupt_says_how_to_go_on(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    arguments: tuple[str, ...],
    how: str,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"rlsf.pipeline.{stage}", interrupted)
    assert execute([*arguments, str(run_folder)]) == INTERRUPTED == 130
    line = f"stopped: what is finished is kept: go on with `{how} '{run_folder}'`"
    assert capsys.readouterr().err.splitlines()[-1] == line
