"""Online runs end to end on the bundled model: what they write, and what their results do and do not depend on."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from run_files import events, manifest, rows, weights

from rlsf.cli.app import USER_ERROR, execute
from rlsf.errors import InputError
from rlsf.models import model_fingerprint
from rlsf.pipeline import online
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.online import online_stage
from rlsf.pipeline.probe import held_out
from rlsf.pipeline.run import run_all
from rlsf.recipes import Recipe

Build = Callable[..., Recipe]
Open = Callable[..., Run]

LAST = "checkpoints/round-1/checkpoint-4"
#: A reward that looks at gold answers in place of one that does not.
LABELS = ("online.rewards.self_certainty=null", "online.rewards.correctness.weight=1.0")
#: For a method that has a form to teach.
TAUGHT = ("online.warm_up.steps=2", "online.max_steps=2", "sampling.branches=4")


def agreements(by_step: Mapping[int, float]) -> Callable[..., Callable[..., Mapping[str, float]]]:
    """In place of ``agreement_probe``: a given agreement at each step, as if of many prompts."""
    return lambda *_: lambda model, step: {"agreement": by_step[step], "confidence": 0.5, "prompts": 1000}


def learn(run: Run) -> None:
    with run:
        online_stage(run)


def variants(questions: Path, folder: Path) -> dict[str, Path]:
    """The same questions with their gold answers, with those of other questions, and without."""
    labelled = [json.loads(line) for line in questions.read_text().splitlines()]
    # An option's letter answers no question without options.
    free = [place for place, row in enumerate(labelled) if "choices" not in row]
    others = [row["answer"] for row in labelled]
    for place, other in zip(free, random.Random(0).sample(free, len(free)), strict=True):
        others[place] = labelled[other]["answer"]
    assert others != [row["answer"] for row in labelled]
    written = {
        "true": labelled,
        "shuffled": [{**row, "answer": answer} for row, answer in zip(labelled, others, strict=True)],
        "absent": [{key: value for key, value in row.items() if key != "answer"} for row in labelled],
    }
    for name, records in written.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return {name: folder / f"{name}.jsonl" for name in written}


def test_an_online_run_leaves_a_whole_folder(tmp_path: Path, small_online: Build, open_run: Open) -> None:
    folder = tmp_path / "run"
    with open_run(small_online(), folder) as run:
        summary = run_all(run)
        prompts = [prompt.id for prompt in run.prompts]
        kept_out = held_out(run, prompts)
    assert summary == json.loads((folder / "evaluation" / "summary.json").read_text())
    assert summary is not None
    assert summary["before"]["greedy"]["n"] == summary["after"]["greedy"]["n"] == 16
    measured = events(folder)
    assert [event["step"] for event in measured if event["event"] == "training"] == [1, 2, 3, 4]
    assert [event["step"] for event in measured if event["event"] == "probe"] == [0, 2, 4]
    phases = [event.get("phase") for event in measured if event["event"] == "sampling"]
    assert phases == ["evaluate before", "sample for the guard", "evaluate after"]
    # The guard's prompts are sampled before training and learned from never.
    sampled = rows(folder, "traces/**/*.parquet").values()
    assert {row["prompt_id"] for table in sampled for row in table} == set(kept_out)
    assert manifest(folder)["counts"]["prompts"] == len(prompts) - len(kept_out) == 20
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {"policy/README.md", "report.html", "recipe.yaml", "environment.json"} <= names
    assert not [name for name in names if "partial" in name or "preferences" in name or "warm-up" in name]


def test_the_probes_prompts_are_not_trained_on(
    tmp_path: Path, small_online: Build, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rlsf.training

    given: list[dict] = []

    class Enough(Exception):
        """What was wanted has been seen."""

    def look(*, rows: list[dict], **_: object) -> None:
        given.extend(rows)
        raise Enough

    monkeypatch.setattr(rlsf.training, "train_online", look)
    for name, overrides in (("free", ()), ("labelled", LABELS)):
        given.clear()
        with open_run(small_online(*overrides), tmp_path / name) as run:
            with pytest.raises(Enough):
                online_stage(run)
            everything = {prompt.id for prompt in run.prompts}
            kept_out = set(held_out(run, everything))
        assert {row["prompt_id"] for row in given} == everything - kept_out
        assert len(kept_out) == 4
        assert all(("answer" in row) == (name == "labelled") for row in given), "gold answers where they are used"


def test_gold_answers_leave_a_label_free_run_alone(
    tmp_path: Path, small_online: Build, open_run: Open, labelled_data: tuple[Path, Path]
) -> None:
    found = {}
    for name, prompts in variants(labelled_data[0], tmp_path).items():
        learn(open_run(small_online(f"prompts.path={prompts}"), tmp_path / name))
        folder = tmp_path / name
        found[name] = (weights(folder), weights(folder, LAST), rows(folder), events(folder), manifest(folder))
    assert found["true"] == found["shuffled"] == found["absent"]
    start = weights(Path(str(small_online().model.path)), ".")
    assert all(found["true"][1][name] != tensor for name, tensor in start.items() if "embed" in name)


def test_gold_answers_decide_a_run_that_learns_from_them(
    tmp_path: Path, small_online: Build, open_run: Open, labelled_data: tuple[Path, Path]
) -> None:
    files = variants(labelled_data[0], tmp_path)
    found = {}
    for name, file in (("first", "true"), ("again", "true"), ("other", "shuffled")):
        recipe = small_online(*LABELS, f"prompts.path={files[file]}", "online.guard.enabled=false")
        learn(open_run(recipe, tmp_path / name))
        found[name] = weights(tmp_path / name)
    assert found["first"] == found["again"]
    assert found["first"] != found["other"]
    files["true"].write_text(files["shuffled"].read_text())
    recipe = small_online(*LABELS, f"prompts.path={files['true']}", "online.guard.enabled=false")
    with open_run(recipe, tmp_path / "first", resume=True) as run:
        with pytest.raises(InputError, match=r"round-1 was made from other inputs \(gold: "):
            online_stage(run)
    with pytest.raises(InputError, match="learns from gold answers"):
        learn(open_run(small_online(*LABELS, f"prompts.path={files['absent']}"), tmp_path / "absent"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_online: Build, open_run: Open) -> Path:
    """A run with a warm-up, which every test leaves as it is."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with open_run(small_online(*TAUGHT, name="rise-verify"), folder) as run:
        run_all(run)
    return folder


def written(folder: Path) -> dict[str, int]:
    """When each file was last written, but for those that every start writes anew."""
    anew = ("report.html", "README.md", "metrics.jsonl", "summary.json", "recipe.yaml", ".lock")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in anew]
    return {str(path): path.stat().st_mtime_ns for path in paths}


def test_stages_alone_make_what_a_run_makes(tmp_path: Path, whole: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "recipe.yaml").write_text((whole / "recipe.yaml").read_text())
    assert execute(["train", str(parts)]) == 0
    assert execute(["eval", str(parts)]) == 0
    for model in ("policy", "checkpoints/warm-up/policy"):
        assert weights(whole, model) == weights(parts, model)
    assert rows(whole) == rows(parts)
    summaries = [(folder / "evaluation" / "summary.json").read_text() for folder in (whole, parts)]
    assert summaries[0] == summaries[1]


def test_learning_starts_from_the_policy_that_was_taught(whole: Path, small_online: Build) -> None:
    recipe = small_online(*TAUGHT, name="rise-verify")
    taught = Run(recipe, RunFolder(whole)).start_config()
    assert taught.path == str(whole / "checkpoints" / "warm-up" / "policy")
    stages = ("checkpoints/warm-up/traces", "evaluation/before/traces", "traces/round-1", "checkpoints/round-1")
    sampled_by = [manifest(whole, stage)["inputs"]["model"]["fingerprint"] for stage in stages]
    assert sampled_by == [model_fingerprint(recipe.model), *[model_fingerprint(taught)] * 3]
    assert sampled_by[0] != sampled_by[1]


def test_what_is_finished_is_not_done_again(
    whole: Path, small_online: Build, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    before, measured = written(whole), events(whole)
    monkeypatch.setattr(Run, "model_to_train", never)
    monkeypatch.setattr(Run, "pool", property(never))
    with open_run(small_online(*TAUGHT, name="rise-verify"), whole, resume=True) as run:
        assert run_all(run) == json.loads((whole / "evaluation" / "summary.json").read_text())
    assert written(whole) == before
    assert events(whole) == measured


@pytest.mark.parametrize(
    ("key", "value", "refusal"),
    [
        ("online.learning_rate", "1e-3", "round-1 was made from other inputs (online.learning_rate: 0.0003 -> 0.001)"),
        ("online.warm_up.steps", "3", "warm-up was made from other inputs (warm_up.steps: 2 -> 3)"),
        ("online.warm_up.temperature", "0.5", "warm-up was made from other inputs (warm_up.temperature: 1.0 -> 0.5)"),
    ],
)
def test_other_settings_are_refused_by_name(
    whole: Path,
    small_online: Build,
    open_run: Open,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: str,
    refusal: str,
) -> None:
    before, recipe = written(whole), (whole / "recipe.yaml").read_text()
    with pytest.raises(InputError, match=rf"started with another recipe \({key}: "):
        open_run(small_online(*TAUGHT, f"{key}={value}", name="rise-verify"), whole, resume=True)
    assert execute(["train", str(whole), f"--{key}", value]) == USER_ERROR
    assert refusal in capsys.readouterr().err
    assert written(whole) == before
    assert (whole / "recipe.yaml").read_text() == recipe


@pytest.mark.parametrize(
    ("by_step", "steps", "kept", "reason"),
    [
        ({0: 0.5, 2: 0.9, 4: 0.89}, 4, 2, "agreement 0.900, the best of 3 probes"),
        ({0: 0.9, 2: 0.1, 4: 0.9}, 2, 0, "stopped at step 2: "),
    ],
    ids=["passed its best", "collapsed"],
)
def test_the_policy_is_that_of_the_step_that_the_guard_keeps(
    tmp_path: Path,
    small_online: Build,
    open_run: Open,
    monkeypatch: pytest.MonkeyPatch,
    by_step: Mapping[int, float],
    steps: int,
    kept: int,
    reason: str,
) -> None:
    monkeypatch.setattr(online, "agreement_probe", agreements(by_step))
    folder = tmp_path / "run"
    with open_run(small_online("evaluation_data=null"), folder) as run:
        assert run_all(run) is None
    counts = manifest(folder)["counts"]
    assert (counts["steps"], counts["best_step"]) == (steps, kept)
    assert weights(folder) == weights(folder, f"checkpoints/round-1/checkpoint-{kept}")
    assert weights(folder) != weights(folder, f"checkpoints/round-1/checkpoint-{steps}")
    assert reason in counts["reason"]
    page, card = (folder / "report.html").read_text(), (folder / "policy" / "README.md").read_text()
    assert f"gives the reason: {counts['reason']}." in html.unescape(page)
    assert f"| checkpoint | step {kept} of {steps}: {counts['reason']} |" in card
