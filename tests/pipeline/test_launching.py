"""The processes of a training: what starts them, what the run hears of them, and how they end with it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from run_files import events, manifest, weights

from rlsf.errors import InputError, ResourceError
from rlsf.pipeline import launching
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.launchers import SHIPPED, choose_launcher, configuration_file, require_trainable
from rlsf.pipeline.launching import Launcher, trained
from rlsf.pipeline.piped_progress import Listener, PipedProgress
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.run import run_all
from rlsf.pipeline.training import train_on_pairs
from rlsf.recipes import Recipe, resolve

#: A launcher that starts nothing: it is the one process itself, which says or does what BODY is.
STAND_IN = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[-1])
{body}
"""
DONE = {
    **{"steps": 3, "best_step": 2, "reason": "", "metrics": {}, "probes": [{"step": 0}], "learning_rate": 0.5},
    **{"pairs": 7, "examples": 0, "too_long": 0},
}


def run_with(body: str, folder: Path) -> tuple[Run, io.StringIO]:
    """A run whose trainings are a stand-in's, and what its display shows."""
    shown, script = io.StringIO(), folder / "stand_in.py"
    script.write_text(STAND_IN.format(body=body))
    run = Run(resolve("rlsf"), RunFolder(folder / "run"), ProgressDisplay(Console(file=shown, width=200)))
    run.launcher = Launcher((sys.executable, str(script)))
    return run, shown


def test_the_result_and_the_progress_of_another_process(tmp_path: Path) -> None:
    told = [{"stage": "train", "total": 3, "done": 0}, {"advance": 3}, {"end": "train"}, {"say": "hm", "style": None}]
    lines = "\n".join(f"print('rlsf-progress ' + json.dumps({line}))" for line in told)
    run, shown = run_with(f"print('noise')\n{lines}\n(folder / 'result.json').write_text(json.dumps({DONE}))", tmp_path)
    result = trained(run, train_on_pairs, 1, tmp_path / "checkpoints")
    assert (result.steps, result.best_step, result.pairs, result.probes) == (3, 2, 7, ({"step": 0},))
    launch, *others = shown.getvalue().splitlines()
    assert launch.startswith(f"launch: {sys.executable}")
    assert launch.endswith(f"rlsf.pipeline.training:train_on_pairs 1 {tmp_path / 'checkpoints'}")
    assert [others[0], others[-1]] == ["train: 3", "hm"]
    assert (tmp_path / "checkpoints" / "launch.log").read_text() == "noise\n"


def test_an_error_of_a_process_is_that_of_the_run(tmp_path: Path) -> None:
    failure = {"kind": "InputError", "message": "training.trainer: no"}
    run, _ = run_with(f"(folder / 'failure-0.json').write_text(json.dumps({failure}))\nsys.exit(1)", tmp_path)
    with pytest.raises(InputError, match=r"^training\.trainer: no$"):
        trained(run, train_on_pairs, 1, tmp_path)


def test_an_end_without_a_word_names_the_log_not_an_error_of_before(tmp_path: Path) -> None:
    (tmp_path / "failure-0.json").write_text(json.dumps({"kind": "InputError", "message": "before"}))
    run, _ = run_with("sys.exit('torn')", tmp_path)
    with pytest.raises(ResourceError, match=r"ended with code 1: .*launch\.log says why"):
        trained(run, train_on_pairs, 1, tmp_path)
    assert (tmp_path / "launch.log").read_text() == "torn\n"


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    run, _ = run_with("", tmp_path)
    run.launcher = Launcher(("no-such-launcher",))
    with pytest.raises(InputError, match="cannot launch no-such-launcher"):
        trained(run, train_on_pairs, 1, tmp_path)


def test_an_interrupt_ends_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "(folder / 'at-work').touch()\nprint('rlsf-progress ' + json.dumps({'advance': 1}), flush=True)"
    run, _ = run_with(f"{body}\ntime.sleep(60)\n(folder / 'survived').touch()", tmp_path)

    def interrupted(self: Listener, line: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(launching.Listener, "hear", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trained(run, train_on_pairs, 1, tmp_path)
    assert time.monotonic() - started < 30
    assert (tmp_path / "at-work").exists()
    assert not (tmp_path / "survived").exists()


KILLED = """
import sys
from pathlib import Path
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.launching import Launcher, trained
from rlsf.pipeline.training import train_on_pairs
from rlsf.recipes import resolve
folder, script = map(Path, sys.argv[1:])
run = Run(resolve("rlsf"), RunFolder(folder))
run.folder.take(resume=False)
run.launcher = Launcher((sys.executable, str(script)))
trained(run, train_on_pairs, 1, folder / "checkpoints")
"""


@pytest.mark.slow
def test_a_killed_run_takes_its_processes_along_and_frees_the_folder_after_them(tmp_path: Path) -> None:
    body = "from rlsf.pipeline.training_process import end_with_the_run\nend_with_the_run()\nimport os"
    body += "\n(folder / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    (tmp_path / "stand_in.py").write_text(STAND_IN.format(body=body))
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = [sys.executable, *map(str, (tmp_path / "killed.py", tmp_path / "run", tmp_path / "stand_in.py"))]
    process = subprocess.Popen(arguments)
    pid_file = tmp_path / "run" / "checkpoints" / "pid"
    wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()))
    pid = int(pid_file.read_text())
    with pytest.raises(InputError, match="in use by process"):
        RunFolder(tmp_path / "run").take(resume=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(pid))
    folder = RunFolder(tmp_path / "run")
    wait_until(lambda: taken(folder))  # other threads of the process may end a moment after its first one
    folder.close()


def taken(folder: RunFolder) -> bool:
    """Whether nobody else holds the folder; it is then held here."""
    try:
        folder.take(resume=True)
    except InputError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_piped_is_shown_as_if_it_were_here(capsys: pytest.CaptureFixture[str]) -> None:
    def tell(display: ProgressDisplay) -> None:
        display.warn("careful")
        with display.stage("train", 4, 1) as advance:
            advance(3)

    def shown(show: Callable[[ProgressDisplay], None]) -> list[str]:
        text = io.StringIO()
        show(ProgressDisplay(Console(file=text, width=200)))
        return [line.partition(" in ")[0] for line in text.getvalue().splitlines()]

    tell(PipedProgress())
    lines = capsys.readouterr().out.splitlines()
    listener = shown(
        lambda display: [Listener.hear(hearing, line) for hearing in [Listener(display)] for line in lines]
    )
    assert listener == shown(tell)
    tell(PipedProgress(heard=False))
    assert capsys.readouterr().out == ""


# Launchers


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_accelerate_reads_the_shipped_configurations(name: str) -> None:
    from accelerate.commands.config import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(configuration_file(name)))
    kinds = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP}
    assert config.distributed_type == kinds.get(name, DistributedType.DEEPSPEED)
    assert config.num_processes == -1
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
    if name.startswith("deepspeed"):
        assert config.deepspeed_config["zero_stage"] == int(name[-1])


def test_the_launch_line() -> None:
    launcher = choose_launcher(4, None, None)
    assert launcher is not None
    assert not launcher.cuts_models
    assert launcher.command[1:3] == ("-m", "accelerate.commands.launch")
    assert launcher.command[-4:] == ("--num_processes", "4", "--main_process_port", "0")
    other = choose_launcher(None, None, "srun torchrun --rdzv-id 'a b'")
    assert other is not None
    assert other.command == ("srun", "torchrun", "--rdzv-id", "a b")
    assert choose_launcher(None, None, None) is None
    assert choose_launcher(1, "ddp", None) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, None, None), "--processes=0: say how many"),
        ((2, "fsdp", None), r"--accelerate fsdp \(did you mean 'fsdp2' or 'ddp'\?\): it must be ddp, fsdp2"),
        ((2, None, "torchrun"), "--launch says all of how processes start"),
        ((None, None, " "), "--launch is empty"),
    ],
)
def test_options_that_cannot_be(options: tuple[int | None, str | None, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_launcher(*options)


def test_what_the_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="--accelerate fsdp2 cuts models over GPUs, and there is none"):
        choose_launcher(2, "fsdp2", None)
    with pytest.raises(InputError, match="no GPU to count processes by: say --processes N"):
        choose_launcher(None, "ddp", None)


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("rlif-self-certainty", {}, "trains online, where the policy writes completions with whole models"),
        ("rlsf", {"training": {"lora": {}}}, r"training\.lora: adapters"),
        ("rlsf", {"training": {"precompute_reference": False}}, r"training\.precompute_reference=false"),
        ("rise-introspection", {"introspection": {"training": {"lora": {}}}}, r"introspection\.training\.lora"),
    ],
)
def test_recipes_that_models_in_pieces_cannot_learn(recipe: str, overrides: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_trainable(resolve(recipe, None, overrides), Launcher(("accelerate",), cuts_models=True))
    require_trainable(resolve(recipe, None, overrides), Launcher(("accelerate",)))
    require_trainable(resolve("rlsf"), Launcher(("accelerate",), cuts_models=True))


def test_stage_3_learns_from_examples_alone() -> None:
    launcher = Launcher(("accelerate",), cuts_models=True, zero_stage=3)
    with pytest.raises(InputError, match="training does not train by DeepSpeed ZeRO stage 3"):
        require_trainable(resolve("rlsf"), launcher)
    require_trainable(resolve("rise-introspection"), launcher)


def test_a_step_is_divided_before_any_work() -> None:
    launcher = Launcher(("accelerate",), processes=3)
    with pytest.raises(InputError, match=r"training\.batch_size=16 cannot be divided among 3 processes"):
        require_trainable(resolve("rlsf"), launcher)
    with pytest.raises(InputError, match=r"online\.prompts_per_step x online\.num_generations\)"):
        require_trainable(resolve("rlif-self-certainty", None, {"online": {"prompts_per_step": 2}}), launcher)
    require_trainable(resolve("rlsf", None, {"training": {"batch_size": 12}}), launcher)


# A whole run


@pytest.mark.slow
def test_a_launched_run_is_that_of_one_process(
    tmp_path: Path, small_recipe: Callable[..., Recipe], open_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One launched process is the training itself, to the bit; two are it up to rounding, under steps of plain SGD."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = small_recipe("training.trainer.optim=sgd", "evaluation_data=null")
    launchers = {"here": None, "one": Launcher((sys.executable,)), "two": choose_launcher(2, None, None)}
    for name, launcher in launchers.items():
        with open_run(recipe, tmp_path / name) as run:
            run.launcher = launcher
            run_all(run)
    here, one, two = (tmp_path / name for name in launchers)
    assert weights(one) == weights(here)
    assert manifest(one) == manifest(here)
    assert events(one) == events(here)
    kept = "checkpoints/round-1/checkpoint-6"
    assert weights(two, kept).keys() == weights(here, kept).keys()
    assert manifest(two)["counts"]["steps"] == 6
    losses = [[event["loss"] for event in events(folder) if event["event"] == "training"] for folder in (here, two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
