"""`rlsf ask` as a user meets it: answer, confidence, abstention, and one line for every mistake."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mistakes import Fails, write
from rich.console import Console
from rich.text import Text

from rlsf.calibration import CALIBRATION, Calibration, Figures, IsotonicCalibrator, PlattCalibrator, Threshold
from rlsf.cli.app import execute
from rlsf.cli.ask import NOT_ANSWERED, split_question
from rlsf.cli.replies import show
from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig, model_fingerprint
from rlsf.pipeline.asking import Asking, ask
from rlsf.pipeline.asking_options import AskingOptions
from rlsf.pipeline.evaluation import evaluation_sampling
from rlsf.pipeline.manner import manner_of
from rlsf.pipeline.reply_file import json_line
from rlsf.prompts import Prompt
from rlsf.recipes import resolve, to_yaml

QUESTION = "Vera packs 2 boxes with 6 stamps each. She adds 7 stamps. How many stamps are there?"
FEW = ("--sampling.branches", "4")
Asks = Callable[..., tuple[int, str]]


@pytest.fixture
def asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asks:
    """A function that runs `rlsf ask` and returns its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = execute(["ask", *map(str, arguments)])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of one's own with the bundled model."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    return folder


def calibration(model: Path, least: float | None = 0.5, **changes: Any) -> Calibration:
    """A calibration that halves the log-odds and asks for a confidence of ``least``."""
    figures = Figures(ece=0.1, brier=0.2, log_loss=0.6)
    none = {"answered": 0.0, "error": None, "bound": None, "reason": "3 of the 80 surest answers are wrong"}
    some = {"answered": 0.6, "error": 0.03, "bound": 0.05}
    threshold = Threshold(value=least, alpha=0.05, delta=0.1, questions=500, **(none if least is None else some))
    made = {
        **{"signal": "answer_disparity", "mode": "cot_decoding", "branches": 4, "aggregate": False},
        **{"model": str(model), "fingerprint": model_fingerprint(ModelConfig(path=str(model)))},
        **{
            "questions": 500,
            "unanswered": 0,
            "folds": 5,
            "bins": 10,
            "raw": figures,
            "calibrated": figures,
        },
        **{"calibrator": PlattCalibrator(slope=0.5, intercept=0.0), "threshold": threshold},
    }
    return Calibration(**{**made, **changes})


def test_an_uncalibrated_answer(asks: Asks) -> None:
    code, shown = asks(QUESTION, "--model", MODEL_DIR)
    lines = shown.splitlines()
    assert code == 0
    assert re.fullmatch(r"\d+", lines[0]), "the answer alone, for `head -1`"
    assert re.fullmatch(
        r"confidence (> )?\d+ % \(uncalibrated: the model's own answer_disparity; `rlsf calibrate` makes it a"
        r" probability\)",
        lines[1],
    )
    counts = [int(count) for count in re.findall(r"(\d+) (?:of 10 traces )?says? ", lines[2])]
    assert sum(counts) == 10
    assert counts == sorted(counts, reverse=True)
    assert lines[3] == ""
    assert re.fullmatch(r"trace \d+ of 10, \d+ tokens(, begun with its first token of rank \d+)?:", lines[4])
    assert re.search(rf"\[\[{lines[0][0]}.*\]\]", lines[5])
    assert lines[6] == "{31 %}: how probable the token before it was, where that is less than 50 %; [[...]]: the answer"
    assert "\x1b" not in shown


def test_greedy_asks_once_and_majority_votes(asks: Asks) -> None:
    code, shown = asks("--model", MODEL_DIR, "--mode", "greedy", QUESTION)
    assert code == 0
    assert "traces say" not in shown
    assert "trace 1 of 1, " in shown
    _, shown = asks("--model", MODEL_DIR, "--mode=majority", *FEW, QUESTION)
    votes = re.search(r"(\d) of 4 traces says? (\S+)[,;\n]", shown)
    assert votes is not None
    assert shown.splitlines()[0] == votes[2]
    assert f"confidence {100 * int(votes[1]) // 4} % (uncalibrated: the share of traces that agree;" in shown


def test_a_reply_as_json(asks: Asks) -> None:
    code, shown = asks(QUESTION, "--model", MODEL_DIR, "--json", *FEW)
    reply = json.loads(shown)
    assert code == 0
    assert (reply["id"], reply["calibrated"], reply["abstained"], reply["reason"]) == ("question", False, False, None)
    assert reply["answer"] == reply["guess"]
    assert reply["answer"] in reply["trace"]
    assert 0 <= reply["confidence"] == reply["measured"] <= 1
    assert sum(reply["votes"].values()) == reply["traces"] == 4


def test_a_calibrated_answer(asks: Asks, model: Path) -> None:
    _, shown = asks(QUESTION, "--model", model, "--json", *FEW)
    measured = json.loads(shown)["measured"]
    calibration(model, least=measured - 1e-5).save(model / CALIBRATION)
    code, shown = asks(QUESTION, "--model", model)
    assert code == 0
    assert "(calibrated on 500 questions)" in shown.splitlines()[1]
    assert " of 4 traces " in shown, "as many branches as the calibration was made for"
    _, shown = asks(QUESTION, "--model", model, "--json")
    reply = json.loads(shown)
    odds = measured / (1 - measured)
    assert reply["calibrated"]
    assert reply["confidence"] == pytest.approx(odds**0.5 / (1 + odds**0.5), abs=1e-3)
    assert reply["measured"] == measured


def test_no_calibration_is_certain(asks: Asks, model: Path) -> None:
    always = IsotonicCalibrator(confidence=(0.0,), value=(1.0,))
    calibration(model, least=0.0, calibrator=always).save(model / CALIBRATION)
    _, shown = asks(QUESTION, "--model", model)
    assert "confidence > 99 % (calibrated on 500 questions)" in shown


def test_thresholds_within_a_flat_calibrator_are_told_apart(asks: Asks, model: Path) -> None:
    flat = IsotonicCalibrator(confidence=(0.0,), value=(0.7,))
    calibration(model, least=1.0, calibrator=flat).save(model / CALIBRATION)
    _, shown = asks(QUESTION, "--model", model)
    assert re.search(r"confidence 70 %, measured as 0\.\d{4}, below the 1\.0000 needed for at most 5 %", shown)


def test_abstention(asks: Asks, model: Path, tmp_path: Path) -> None:
    calibration(model, least=1.0, mode="majority").save(tmp_path / "mine.json")
    said = (QUESTION, "--model", model, "--calibration", tmp_path / "mine.json")
    code, shown = asks(*said)
    assert code == NOT_ANSWERED == 3
    assert re.fullmatch(
        r"I would rather not answer: confidence \d+ %, below the > 99 % needed for at most 5 % errors among answered"
        r" \(confidence 90 %\)\n--show-guess shows the best guess\n",
        shown,
    )
    code, guessed = asks(*said, "--show-guess")
    assert code == NOT_ANSWERED
    assert re.search(r"^best guess: \d+$", guessed, re.MULTILINE)
    assert "[[" in guessed
    code, line = asks(*said, "--json")
    reply = json.loads(line)
    assert code == NOT_ANSWERED
    assert (reply["answer"], reply["abstained"]) == (None, True)
    assert reply["guess"] in reply["votes"]
    assert re.fullmatch(r"measured confidence 0\.\d{4} is below 1\.0000", reply["reason"])


def test_a_calibration_without_a_threshold_answers_nothing(asks: Asks, model: Path) -> None:
    calibration(model, least=None).save(model / CALIBRATION)
    code, shown = asks(QUESTION, "--model", model)
    assert code == NOT_ANSWERED
    assert "no confidence is enough for at most 5 % errors among answered (confidence 90 %): 3 of the 80" in shown


def test_an_answer_without_a_confidence_is_never_promised(asks: Asks, model: Path) -> None:
    """The bundled model says no confidence: its answer stands as uncalibrated, and no threshold lets it through."""
    said = (QUESTION, "--model", model, "--signal", "verbalised", *FEW)
    code, shown = asks(*said)
    assert code == 0
    assert shown.splitlines()[1].startswith("confidence unknown: ")
    calibration(model, least=0.0, signal="verbalised").save(model / CALIBRATION)
    code, shown = asks(*said)
    assert code == NOT_ANSWERED
    assert shown.splitlines()[0].endswith("and nothing is promised without one")
    reply = json.loads(asks(*said, "--json")[1])
    assert (reply["measured"], reply["confidence"], reply["abstained"]) == (None, 0.0, True)


def test_a_question_is_sampled_as_the_evaluation_samples_it() -> None:
    """Whatever the recipe learns from: else a calibration would be of other confidences."""
    drawn = {"strategy": "sampling", "continuation": "sampled", "temperature": 0.7, "max_new_tokens": 9}
    recipe = resolve("rlsf", overrides={"sampling": drawn})
    assert recipe.sampling.strategy == "sampling"
    for mode in ("cot_decoding", "majority"):
        assert Asking(recipe, mode).sampling == evaluation_sampling(recipe)
    assert Asking(recipe, "greedy").sampling == evaluation_sampling(recipe).model_copy(update={"branches": 1})


def test_a_calibration_for_something_else(asks: Asks, fails: Fails, model: Path) -> None:
    calibration(model, fingerprint="0" * 64).save(model / CALIBRATION)
    code, shown = asks(QUESTION, "--model", model)
    assert code == 0
    assert "(uncalibrated: " in shown
    assert f"is not used: it was made for another model ({model}, or an earlier state of it)" in shown
    line = fails("ask", QUESTION, "--model", model, "--calibration", model)
    assert "the calibration was made for another model" in line
    calibration(model).save(model / CALIBRATION)
    _, shown = asks(QUESTION, "--model", model, "--signal", "mean_disparity")
    assert "is not used: it was made for signal answer_disparity, not mean_disparity" in shown


def test_a_calibration_for_another_prompt(asks: Asks, fails: Fails, model: Path, capsys: pytest.CaptureFixture) -> None:
    """The prompt that it was made with is the one that is asked with; of another it says nothing, and does not."""
    asked = manner_of(resolve("rlsf", overrides={"render": {"system": "Count."}, "sampling": {"max_new_tokens": 40}}))
    calibration(model, least=0.0, asked=asked).save(model / CALIBRATION)
    system = ("--render.system", "Count.", "--sampling.max-new-tokens", "40")
    raw, used = (
        asks(QUESTION, *said, "--json") for said in (("--model", MODEL_DIR, *FEW, *system), ("--model", model))
    )
    raw, used = json.loads(raw[1]), json.loads(used[1])
    assert used["calibrated"]
    assert (used["measured"], used["trace"]) == (raw["measured"], raw["trace"])
    other = (QUESTION, "--model", model, "--render.system", "Guess.")
    _, shown = asks(*other)
    assert "is not used: it was made for render.system 'Count.', not 'Guess.'" in shown
    assert "(uncalibrated: " in shown
    assert execute(["ask", *map(str, other), "--json"]) == 0
    shown = capsys.readouterr()
    assert not json.loads(shown.out)["calibrated"]
    assert "warning: the calibration beside the model is not used" in shown.err
    line = fails("ask", *other, "--calibration", model)
    assert "the calibration was made for render.system 'Count.', not 'Guess.'" in line


def test_what_a_file_says_never_reaches_the_terminal_as_a_command(
    asks: Asks, fails: Fails, model: Path, tmp_path: Path
) -> None:
    hostile = "\x1b]0;owned\x07\x9b31m\u202e"
    made = calibration(model, fingerprint="0").model_copy(update={"model": f"m{hostile}"})
    made.save(model / CALIBRATION)
    _, shown = asks(QUESTION, "--model", model)
    assert "made for another model (m⟨U+001B⟩]0;owned⟨U+0007⟩⟨U+009B⟩31m⟨U+202E⟩, or" in shown
    lines = [
        fails("ask", QUESTION, "--model", f"{tmp_path}/{hostile}"),
        fails("ask", QUESTION, "--model", MODEL_DIR, "--calibration", f"{tmp_path}/{hostile}"),
    ]
    assert all("⟨U+001B⟩]0;owned" in line for line in lines)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*shown, *"".join(lines)}


def test_json_of_hostile_text_is_printable_and_the_same() -> None:
    record = {"trace": "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066))) + 'é "quoted" \\'}
    line = json_line(record)
    assert json.loads(line) == record
    assert line.isprintable()
    assert "é" in line


def test_a_long_answer_is_not_broken_in_a_pipe(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    whole = ("--answer.format", "regex", "--answer.pattern", "(?s)^.*", "--mode", "greedy")
    _, shown = asks(QUESTION, "--model", MODEL_DIR, *whole)
    assert len(shown.splitlines()[0]) > 10
    assert shown.splitlines()[1].startswith("confidence ")


def test_no_answer_found(asks: Asks) -> None:
    code, shown = asks(QUESTION, "--model", MODEL_DIR, "--answer.format", "boxed", *FEW)
    assert code == NOT_ANSWERED
    assert shown.startswith("no answer found: ")
    assert "[[" not in shown
    assert "trace 1 of 4, " in shown


def test_options_are_letters(asks: Asks) -> None:
    code, shown = asks("What is 3 + 4?", "--model", MODEL_DIR, "--choice", "7", "--choice", "9", *FEW)
    assert code in (0, NOT_ANSWERED)
    assert re.match(r"[AB]\n|no answer found", shown)
    assert asks("--choice", "7", "--choice", "9", "What is 3 + 4?", "--model", MODEL_DIR, *FEW) == (code, shown)


def test_a_question_on_standard_input(asks: Asks, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    def stdin(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    said = asks(QUESTION, "--model", MODEL_DIR, *FEW)
    for dash in ((), ("-",)):
        stdin(QUESTION.encode() + b"\n")
        assert asks(*dash, "--model", MODEL_DIR, *FEW) == said
    stdin(b" \n")
    assert fails("ask", "--model", MODEL_DIR) == "the question on standard input is empty"
    stdin(b"caf\xe9?")
    assert fails("ask", "-", "--model", MODEL_DIR) == "the question on standard input is not UTF-8 at byte 3"


def test_the_policy_of_a_run_is_asked_as_the_run_did(
    asks: Asks, fails: Fails, tmp_path: Path, demo_data: tuple[Path, Path]
) -> None:
    layer = {
        **{"model": {"path": str(MODEL_DIR)}, "prompts": {"path": str(demo_data[0]), "limit": 1}},
        **{"sampling": {"branches": 3}, "signal": "mean_disparity"},
    }
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(to_yaml(resolve("rlsf-trace", overrides=layer)))
    _, of_start = asks(QUESTION, "--run", run)
    assert "of 3 traces" in of_start
    assert "own mean_disparity" in of_start
    shutil.copytree(MODEL_DIR, run / "policy")
    assert asks(QUESTION, "--run", run) == asks(QUESTION, "--model", run / "policy") == (0, of_start)
    _, otherwise = asks(QUESTION, "--model", run / "policy", "--recipe", "rlsf", "--sampling.branches", "2")
    assert "of 2 traces" in otherwise
    assert "own answer_disparity" in otherwise
    (tmp_path / "mine.yaml").write_text(f"model: {{path: {run / 'policy'}}}\nsampling: {{branches: 4}}\n")
    assert "of 4 traces" in asks(QUESTION, "--config", tmp_path / "mine.yaml")[1]
    assert "is not a run folder (no recipe.yaml)" in fails("ask", QUESTION, "--run", tmp_path)
    assert "--run names a recipe already" in fails("ask", QUESTION, "--run", run, "--recipe", "rlsf")


def test_the_question_may_stand_anywhere_and_hold_anything() -> None:
    for question in ("If 3x = 12, x?", "-3 + 5", "x.y?", "a=b", "--- why?"):
        for arguments in (
            (question, "--sampling.branches", "5", "--seed=3", "answer.format=boxed"),
            ("--sampling.branches", "5", question, "--seed=3", "answer.format=boxed"),
            ("--sampling.branches", "5", "--seed=3", "answer.format=boxed", question),
        ):
            rest = ("--sampling.branches", "5", "--seed=3", "answer.format=boxed")
            assert split_question(arguments) == (question, rest)
    assert split_question(("--seed",)) == (None, ("--seed",))


def test_colours_on_a_terminal_and_none_where_they_are_not_wanted() -> None:
    """What a terminal is shown: colours and an underlined answer, or, under NO_COLOR, marks in their place."""
    import pty

    command = [sys.executable, "-m", "rlsf", "ask", QUESTION, "--model", str(MODEL_DIR), "--mode", "greedy"]
    base = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    base |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "120"}
    shown = []
    for extra in ({}, {"NO_COLOR": "1"}):
        parent, child = pty.openpty()
        process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=base | extra)
        os.close(child)
        shown.append(_read(parent))
        assert process.wait() == 0
    coloured, plain = shown
    assert "\x1b[1;4;38;2;" in coloured
    assert "underlined" in coloured
    assert "48;2;" not in plain
    assert "[[" in plain
    assert "┏" in plain, "the answer in a frame"


def test_a_narrow_terminal_breaks_lines_between_words() -> None:
    asking, _ = AskingOptions(layer={"model": {"path": str(MODEL_DIR)}, "sampling": {"branches": 2}}).resolve()
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=40)
    with console.capture() as caught:
        show(ask(asking, Prompt("q", QUESTION)), asking, console, misfit="render.system 'Think.', not None")
    lines = Text.from_ansi(caught.get()).plain.splitlines()
    *shown, legend = (line.strip() for line in lines)
    assert max(map(len, shown)) <= 40
    assert "(uncalibrated: the model's own answer_disparity; `rlsf calibrate` makes it a probability)" in " ".join(
        shown
    )
    assert legend.startswith("sure ")


def _read(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            os.close(descriptor)
            return b"".join(parts).decode()
        parts.append(part)


def test_mistakes(fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert 'no question: say `rlsf ask "QUESTION"`' in fails("ask", "--model", MODEL_DIR)
    assert "no model: say --model" in fails("ask", QUESTION)
    assert "two questions, 'What' and 'is': put a question of several words in quotes" in fails("ask", "What", "is")
    assert "the question is empty" in fails("ask", " ", "--model", MODEL_DIR)
    assert "not UTF-8 at character 3" in fails("ask", "caf\udce9", "--model", MODEL_DIR)
    choices = ("ask", QUESTION, "--model", MODEL_DIR, "--choice", "7")
    assert fails(*choices) == "--choice: 1 choices: give from 2 to 26"
    assert fails(*choices, "--choice", " ") == "--choice 2 is empty"
    assert fails(*choices, "--choice", "caf\udce9") == "--choice 2 is not UTF-8 at character 3"
    assert "no such model folder" in fails("ask", QUESTION, "--model", tmp_path / "nowhere")
    assert "unknown confidence signal" in fails("ask", QUESTION, "--model", MODEL_DIR, "--signal", "sure")
    assert "unknown key 'sampling.brances'" in fails("ask", QUESTION, "--model", MODEL_DIR, "--sampling.brances", "3")
    assert "--mode" in fails("ask", QUESTION, "--model", MODEL_DIR, "--mode", "turns")
    assert "no calibration in" in fails("ask", QUESTION, "--model", MODEL_DIR, "--calibration", tmp_path / "none.json")
    long = "How many apples? " * 500
    assert re.search(
        r"prompt 'question' has \d+ tokens and the model's context 512", fails("ask", long, "--model", MODEL_DIR)
    )
    questions = write(tmp_path / "q.jsonl", {"question": QUESTION})
    assert "--output FILE.jsonl" in fails("ask", "--model", MODEL_DIR, "--batch", questions)
    assert "leave out the question" in fails("ask", QUESTION, "--model", MODEL_DIR, "--batch", questions)
    assert "no model" in fails("ask", "--resume", "--output", tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
