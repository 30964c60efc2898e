"""``rlsf compare`` on a few questions: all files, shared samplings, the same figures however it is done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compared import FEW, figures
from mistakes import Fails, write

from rlsf.cli.app import INTERRUPTED, execute
from rlsf.pipeline.comparing_processes import _Process
from rlsf.pipeline.metrics import MetricsLog

METHODS = ("rlsf", "rlsf-trace", "rlsf-online")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of three methods with two seeds, two runs at a time."""
    folder = tmp_path_factory.mktemp("comparisons") / "small"
    arguments = ["--recipes", ",".join(METHODS), "--seeds", "2", "--workers", "2", "--output", str(folder)]
    assert execute(["compare", "--demo", *arguments, *FEW]) == 0
    return folder


def test_every_run_is_there_and_measured(compared: Path) -> None:
    found = figures(compared)
    assert [method["recipe"] for method in found["methods"]] == ["before", *METHODS]
    assert [method["kind"] for method in found["methods"]] == ["start", *["self-feedback"] * 3]
    for method in found["methods"]:
        assert method["seeds"] == [0, 1]
        assert method["failed"] == []
        assert method["n"] == 6
        assert method["figures"]["entropy"]["value"] > 0
        for seed in (0, 1):
            run = compared / "runs" / method["recipe"] / f"seed-{seed}"
            summary = json.loads((run / "evaluation" / "summary.json").read_text())
            phase = "before" if method["recipe"] == "before" else "after"
            assert method["figures"]["accuracy"]["by_seed"][str(seed)] == summary[phase]["greedy"]["accuracy"]
            assert method["figures"]["ece"]["by_seed"][str(seed)] == pytest.approx(summary[phase]["greedy"]["ece"])
            assert (run / "report.html").exists()
            assert (run / "log.txt").stat().st_size > 0
    for name in ("comparison.html", "comparison.md", "comparison.yaml"):
        assert all(method in (compared / name).read_text() for method in METHODS), name


def test_what_is_sampled_alike_is_sampled_once_and_counted_for_each(compared: Path) -> None:
    for seed in (0, 1):
        runs = [compared / "runs" / name / f"seed-{seed}" for name in ("rlsf", "rlsf-trace")]
        parts = [(run / "traces" / "round-1" / "part-00000.parquet").read_bytes() for run in runs]
        assert parts[0] == parts[1]
        starts = [compared / "runs" / name / f"seed-{seed}" for name in ("before", *METHODS)]
        part = Path("evaluation") / "before" / "traces" / "part-00000.parquet"
        assert len({(run / part).read_bytes() for run in starts}) == 1
        for run in runs:
            logged = [event for event in MetricsLog(run / "metrics.jsonl").events() if event["event"] == "sampling"]
            assert sorted(event["phase"] for event in logged) == ["evaluate after", "evaluate before", "sample"]
    log = (compared / "runs" / "rlsf" / "seed-0" / "log.txt").read_text()
    assert "evaluate after: 6" in log
    assert "evaluate before: 6" not in log
    by_name = {method["recipe"]: method["spent"] for method in figures(compared)["methods"]}
    assert by_name["before"]["generated_tokens"] == 0
    assert by_name["rlsf"]["generated_tokens"] == by_name["rlsf-trace"]["generated_tokens"] > 0
    assert by_name["rlsf"]["optimiser_steps"] == 2
    spent = json.loads((compared / "comparison.json").read_text())["methods"][1]["spent"]
    assert spent["seconds_learning"] > 0
    assert spent["seconds_measuring"] > 0


def test_gold_answers_are_handed_to_methods_that_need_them(compared: Path) -> None:
    data = compared.parent / "demo-data"
    assert "answer" not in (data / "self_training.jsonl").read_text()
    for name in METHODS:
        assert "self_training.jsonl" in (compared / "runs" / name / "seed-0" / "recipe.yaml").read_text()


def test_going_on_with_all_done_does_nothing_and_says_the_same(
    compared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(_Process, "__init__", started)
    whole = (compared / "comparison.json").read_bytes()
    assert execute(["compare", "--resume", "--output", str(compared)]) == 0
    assert (compared / "comparison.json").read_bytes() == whole
    shown = capsys.readouterr().out
    assert all(name in shown for name in METHODS)
    assert f"html  {compared / 'comparison.html'}" in shown


def test_another_question_names_what_differs(compared: Path, fails: Fails) -> None:
    again = ("compare", "--output", compared)
    assert "exists: choose another --output" in fails(*again, "--demo", "--recipes", ",".join(METHODS), *FEW)
    assert "seeds: [0, 1] -> [0, 1, 2]" in fails(*again, "--resume", "--seeds", "3")
    assert "recipes: " in fails(*again, "--resume", "--recipes", "rlsf")
    line = fails(*again, "--resume", "--training.beta", "0.3")
    assert "methods.rlsf.training.beta: 0.2 -> 0.3" in line
    assert "methods.rlsf-trace.training.beta: 0.1 -> 0.3" in line


def test_a_cost_curve_measures_every_checkpoint(compared: Path, tmp_path: Path, fails: Fails) -> None:
    folder = tmp_path / "curved"
    command = ["compare", "--demo", "--curve", "--recipes", "rlsf,rlsf-online", "--seeds", "1", "--output", str(folder)]
    assert execute([*command, *FEW]) == 0
    found, plain = figures(folder), {one["recipe"]: one for one in figures(compared)["methods"]}
    methods = {one["recipe"]: one for one in found["methods"]}
    (only,) = methods["before"]["curves"]["0"]
    assert only["generated_tokens"] == only["training_tokens"] == 0
    for name in ("rlsf", "rlsf-online"):
        start, *way, end = methods[name]["curves"]["0"]
        assert start == only, "the model as given, measured by equal settings"
        # Both steps are measured; the second is the end where its policy is kept.
        assert [one["step"] for one in way] in ([1], [1, 2])
        assert end == plain[name]["curves"]["0"][-1], "the same training, kept checkpoints and measuring aside"
        assert start["generated_tokens"] < way[0]["generated_tokens"] <= end["generated_tokens"]
        assert 0 < way[0]["training_tokens"] < end["training_tokens"]
    assert methods["rlsf"]["curves"]["0"][1]["generated_tokens"] < methods["rlsf"]["spent"]["generated_tokens"] + 1
    whole = (folder / "comparison.json").read_bytes()
    assert execute(["compare", "--resume", "--output", str(folder)]) == 0
    assert (folder / "comparison.json").read_bytes() == whole
    assert "curve: False -> True" in fails("compare", "--output", compared, "--resume", "--curve")


@pytest.mark.slow
def test_figures_do_not_depend_on_how_many_runs_there_are_at_a_time(compared: Path, tmp_path: Path) -> None:
    arguments = ["--recipes", ",".join(METHODS), "--seeds", "2", "--workers", "1", "--output", str(tmp_path / "small")]
    assert execute(["compare", "--demo", *arguments, *FEW]) == 0
    assert figures(tmp_path / "small") == figures(compared) | {"asked": figures(tmp_path / "small")["asked"]}


@pytest.mark.slow
def test_a_run_that_fails_is_a_row_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "failing"
    command = ["compare", "--demo", "--recipes", "rlsf,rlcr", "--seeds", "5,", "--output", str(folder)]
    assert execute([*command, *FEW, "--online.warm_up.steps", "2"]) == 0
    reason = "evaluate before: no trace has an answer in the format answer.format=regex"
    assert reason in capsys.readouterr().err
    methods = {method["recipe"]: method for method in figures(folder)["methods"]}
    assert methods["rlcr"]["figures"] == {}
    assert [failed["seed"] for failed in methods["rlcr"]["failed"]] == [5]
    assert methods["rlcr"]["failed"][0]["reason"].startswith(reason)
    assert methods["rlsf"]["seeds"] == [5]
    assert "labelled.jsonl" in (folder / "runs" / "rlcr" / "seed-5" / "recipe.yaml").read_text()


@pytest.mark.slow
def test_where_all_runs_fail_the_first_reason_is_the_error(tmp_path: Path, fails: Fails) -> None:
    command = ("compare", "--demo", "--recipes", "rlcr", "--seeds", "1", "--output", tmp_path / "failing")
    line = fails(*command, *FEW, "--online.warm_up.steps", "2")
    assert line.startswith("no run to compare: evaluate before: no trace has an answer")
    assert not (tmp_path / "failing" / "comparison.json").exists()


def test_mistakes_are_one_line_and_leave_nothing_behind(fails: Fails, tmp_path: Path) -> None:
    folder, model = tmp_path / "none", ("--model", "model")
    questions = write(tmp_path / "questions.jsonl", {"question": "1 + 1?", "answer": "2"})
    where = ("--output", folder)
    assert "unknown recipe 'rlfs' (did you mean 'rlsf'" in fails("compare", "--demo", "--recipes", "rlfs", *where)
    assert "rc-rm trains a reward model and no policy" in fails("compare", "--demo", "--recipes", "rc-rm", *where)
    assert "--seeds two" in fails("compare", "--demo", "--seeds", "two", *where)
    assert "--demo has its own questions" in fails("compare", "--demo", "--data", "gsm8k", *where)
    assert "model has no course.json: name a model that" in fails("compare", "--demo", *model, *where)
    assert "only a preset" in fails("compare", *model, "--data", questions, *where)
    assert "leave out --prompts" in fails("compare", *model, "--data", "gsm8k", "--prompts", questions, *where)
    assert "nothing to measure on" in fails("compare", *model, "--prompts", questions, *where)
    assert "--budget tokens=3: unknown" in fails("compare", "--demo", "--budget", "tokens=3", *where)
    assert "say each cap once" in fails("compare", "--demo", "--budget", "training-tokens=many", *where)
    assert "--workers 0" in fails("compare", "--demo", "--workers", "0", *where)
    assert "nothing to resume" in fails("compare", "--resume", *where)
    assert "model" in fails("compare", *model, "--prompts", questions, "--eval-data", questions, *where)
    assert not folder.exists()


def test_a_dry_run_shows_methods_and_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "none"
    command = ["compare", "--demo", "--recipes", "rlsf,rlsf-trace,drr,nft", "--seeds", "0,7", "--dry-run", "--curve"]
    assert execute([*command, "--output", str(folder), "--budget", "generated-tokens=5000"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in shown.splitlines()}
    assert rows["rlsf"][1:] == ["self-feedback", "none", "400", "10", "60", "greedy"]
    assert rows["drr"][-1] == "retry"
    assert (
        "4 methods with seeds 0, 7: 8 runs, measured on 500 questions, at every checkpoint; 4 samplings serve several"
        " runs; a run spends at most 5,000 generated tokens" in shown
    )
    assert not folder.exists()


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlsf.pipeline.comparing.work_off", interrupted)
    folder = tmp_path / "cut"
    assert execute(["compare", "--demo", "--recipes", "rlsf", "--workers", "2", "--output", str(folder)]) == INTERRUPTED
    assert f"`rlsf compare --resume --output {folder} --workers 2`" in capsys.readouterr().err


#: Where the work of a comparison can be seen, early and late.
MOMENTS = (
    "comparison.yaml",
    "runs/before/seed-0/evaluation/before/traces/part-00000.parquet",
    "shared",
    "runs/rlsf/seed-0/metrics.jsonl",
    "runs/rlsf/seed-0/checkpoints/round-1/checkpoint-1",
    "runs/rlsf-online/seed-1/checkpoints/round-1/checkpoint-1",
    "runs/rlsf/seed-1/ended.json",
    "runs/rlsf-online/seed-1/evaluation/after/manifest.json",
)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_any_moment_it_ends_like_one_never_killed(
    compared: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    folder = tmp_path / "small"
    command = [sys.executable, "-m", "rlsf", "compare", "--demo", "--resume", "--recipes", ",".join(METHODS)]
    command += ["--seeds", "2", "--workers", "2", "--output", str(folder), *FEW]
    killed = 0
    for moment in MOMENTS:
        if (folder / moment).exists():
            continue
        with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
            while not (folder / moment).exists() and process.poll() is None:
                time.sleep(0.001)
            if process.poll() is None:
                killed += 1
                # The parent alone where it can clean up no more; Ctrl-C reaches the whole group.
                (os.kill if kind == signal.SIGKILL else os.killpg)(process.pid, kind)
            assert process.wait() in (-kind, INTERRUPTED, 0)
    assert killed >= len(MOMENTS) / 2
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    found = figures(folder)
    assert found == figures(compared) | {"asked": found["asked"]}
