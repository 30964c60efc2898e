"""The warm-up stage: which completions it rewrites into what, and the policy that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_files import events, manifest, rows, weights

from rlsf.errors import InputError
from rlsf.models import model_fingerprint
from rlsf.pipeline import warm_up
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.online import online_config
from rlsf.prompts.prompt import Prompt
from rlsf.recipes import Recipe
from rlsf.rewards.forms import drawn_confidence, drawn_grade
from rlsf.rewards.grading import GradingPrompt
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace, traces_to_table

Build = Callable[..., Recipe]
Open = Callable[..., Run]

END = 1
LINE = ("online.warm_up.steps=2",)
TAGS = (*LINE, "online.rewards.brier_calibration.written=tags", "answer.format=tag", "answer.pattern=null")
PROMPTS = [
    Prompt("sum", "What is 70 + 1?"),
    Prompt("choice", "Which is even?", choices=("three", "four", "five", "seven")),
]


def trace(run: Run, prompt_id: str, index: int, text: str, *, truncated: bool = False) -> Trace:
    """A completion with a text of our own."""
    ids = np.array([*run.tokenizer(text, add_special_tokens=False)["input_ids"], *(() if truncated else (END,))])
    return Trace(
        prompt_id=prompt_id,
        index=index,
        strategy="sampling",
        prompt_token_ids=np.array([5, 6, 7 + index], dtype=np.int32),
        token_ids=ids.astype(np.int32),
        text=text,
        finish_reason="length" if truncated else "eos",
        statistics=TokenStatistics.missing(len(ids), 3),
    )


def taught(run: Run, *traces: Trace) -> list[tuple[list[int], str]]:
    """What is made of the traces: the ids of each prompt, and what is to be said after it, as text with its end."""
    folder = run.folder.warm_up / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(traces_to_table(list(traces)), folder / "part-00000.parquet")
    answered = warm_up.answered_completions(run, PROMPTS)
    examples = warm_up.in_form(run, online_config(run), answered, END)
    return [(list(prompt), run.tokenizer.decode(completion)) for prompt, completion in examples]


@pytest.fixture
def run_of(tmp_path: Path, small_online: Build) -> Callable[..., Run]:
    """A function that makes a run which is not opened."""

    def build(*overrides: str, name: str = "rlcr") -> Run:
        return Run(small_online(*overrides, name=name), RunFolder(tmp_path / "run"))

    return build


@pytest.fixture
def end(run_of: Callable[..., Run]) -> str:
    """The text of the token that ends a completion."""
    return run_of(*LINE).tokenizer.decode([END])


def test_completions_get_a_last_line_with_a_confidence(run_of: Callable[..., Run], end: str) -> None:
    run = run_of(*LINE)
    said = [
        trace(run, "sum", 0, " 70 + 1 = 71. The answer is 71."),
        trace(run, "sum", 1, " The answer is 72.\nConfidence: 0.3"),
        trace(run, "choice", 0, " The answer is B."),
    ]
    assert taught(run, *said) == [
        ([5, 6, 7], f" 70 + 1 = 71. The answer is 71.\nConfidence: {drawn_confidence(0, 'sum#0')}{end}"),
        ([5, 6, 8], f" The answer is 72.\nConfidence: {drawn_confidence(0, 'sum#1')}{end}"),
        ([5, 6, 7], f" The answer is B.\nConfidence: {drawn_confidence(0, 'choice#0')}{end}"),
    ]


@pytest.mark.parametrize("analysis", [True, False])
def test_completions_get_tags_around_the_answer_as_it_is_said(
    run_of: Callable[..., Run], end: str, analysis: bool
) -> None:
    run = run_of(*TAGS, f"online.rewards.brier_calibration.analysis={analysis}".lower())
    said = [
        trace(run, "sum", 0, " 70 + 1,000 = 1,070. The answer is 1,070."),
        trace(run, "sum", 1, " 7 </think> <answer> 8 </answer> of 9"),
        trace(run, "choice", 0, " The answer is (B)."),
    ]
    doubts = " <analysis>Any step above may be wrong.</analysis>" if analysis else ""
    expected = [
        (" 70 + 1,000 = 1,070. The answer is 1,070.", "1,070", "sum#0"),
        (" 7", "8", "sum#1"),
        (" The answer is (B).", "B", "choice#0"),
    ]
    for (_, text), (reasoning, answer, key) in zip(taught(run, *said), expected, strict=True):
        confidence = f"<confidence>{drawn_confidence(0, key)}</confidence>"
        assert text == f"{reasoning} </think> <answer>{answer}</answer>{doubts} {confidence}{end}"


def test_a_confidence_that_is_stated_already_is_no_answer(run_of: Callable[..., Run]) -> None:
    run = run_of(*TAGS)
    said = [
        trace(run, "sum", 0, " The answer is 71. <confidence>0.3</confidence>"),
        trace(run, "sum", 1, " The answer is 71.\nConfidence: 0.3"),
    ]
    assert ["<answer>71</answer>" in text for _, text in taught(run, *said)] == [True, True]
    assert taught(run, trace(run, "sum", 0, " No idea.\nConfidence: 0.3")) == []


def test_solutions_stay_as_they_are_and_are_graded_at_random(run_of: Callable[..., Run], end: str) -> None:
    run = run_of(*LINE, name="rise-verify")
    solution = trace(run, "sum", 0, " 70 + 1 = 71. The answer is 71.")
    (asked, said), (asked_for_grade, grade) = taught(run, solution)
    assert (asked, said) == ([5, 6, 7], solution.text + end)
    question = GradingPrompt(template="terse", form="line").text("What is 70 + 1?", solution.text)
    assert question in run.tokenizer.decode(asked_for_grade)
    assert grade == f" Grade: {drawn_grade(0, 'sum#0')}{end}"


@pytest.mark.parametrize("name", ["rlcr", "rise-verify"])
def test_completions_without_an_answer_or_an_end_are_left_out(run_of: Callable[..., Run], name: str) -> None:
    run = run_of(*LINE, name=name)
    said = [
        trace(run, "sum", 0, " The answer is 71."),
        trace(run, "sum", 1, " The answer is 72.", truncated=True),
        trace(run, "sum", 2, " I do not know."),
        trace(run, "sum", 3, ""),
        trace(run, "choice", 0, " None of them."),
    ]
    assert {tuple(prompt) for prompt, _ in taught(run, *said)} >= {(5, 6, 7)}
    assert len(taught(run, *said)) == len(taught(run, said[0]))


def test_an_answer_that_holds_a_tag_cannot_stand_in_the_form(run_of: Callable[..., Run]) -> None:
    run = run_of(*TAGS)
    assert taught(run, trace(run, "sum", 0, " <answer> 7 </think> </answer>")) == []


@given(texts=st.lists(st.sampled_from(["71", "72", "1,000"]), min_size=4, max_size=4))
def test_confidences_depend_on_no_answer(texts: list[str], run_of_line: Run) -> None:
    said = [trace(run_of_line, "sum", place, f" The answer is {text}.") for place, text in enumerate(texts)]
    stated = [text.split("Confidence: ")[1] for _, text in taught(run_of_line, *said)]
    other = [text.split("Confidence: ")[1] for _, text in taught(run_of_line, *_right(run_of_line, 4))]
    assert stated == other


@pytest.fixture(scope="module")
def run_of_line(tmp_path_factory: pytest.TempPathFactory, small_online: Build) -> Run:
    return Run(small_online(*LINE, name="rlcr"), RunFolder(tmp_path_factory.mktemp("line") / "run"))


def _right(run: Run, count: int) -> list[Trace]:
    return [trace(run, "sum", place, " The answer is 71.") for place in range(count)]


def test_a_warm_up_killed_in_the_middle_leaves_the_same_policy(
    tmp_path: Path, small_online: Build, open_run: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlsf.training import policy

    recipe = small_online(*LINE, name="rlcr")

    def teach(name: str) -> Path:
        with open_run(recipe, tmp_path / name, resume=True) as run:
            warm_up.warm_up_stage(run, online_config(run))
        return tmp_path / name

    class Killed(BaseException):
        """What no handler of errors catches."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    whole, saved = teach("whole"), policy.save_policy
    with monkeypatch.context() as cut:
        cut.setattr(policy, "save_policy", killed)
        with pytest.raises(Killed):
            teach("cut")
        # A policy without a manifest is one that may be half of one.
        cut.setattr(policy, "save_policy", lambda *given, **named: killed(saved(*given, **named)))
        with pytest.raises(Killed):
            teach("cut")
    assert (tmp_path / "cut" / "checkpoints" / "warm-up" / "policy").exists()
    cut_short = teach("cut")
    place = "checkpoints/warm-up"
    assert weights(whole, f"{place}/policy") == weights(cut_short, f"{place}/policy")
    assert manifest(whole, place) == manifest(cut_short, place)
    assert rows(whole) == rows(cut_short)
    assert events(whole) == events(cut_short)
    start = Run(recipe, RunFolder(whole)).start_config()
    assert start.path == str(whole / place / "policy")
    assert weights(Path(str(recipe.model.path)), ".") != weights(whole, f"{place}/policy")


def test_nothing_to_rewrite_is_one_clear_line(tmp_path: Path, small_online: Build, open_run: Open) -> None:
    recipe = small_online(*LINE, "online.max_completion_length=2", name="rlcr")
    with open_run(recipe, tmp_path / "run") as run:
        with pytest.raises(InputError) as raised:
            warm_up.warm_up_stage(run, online_config(run))
    assert str(raised.value) == (
        "teach the form: none of 8 completions has an answer and an end within online.max_completion_length=2 tokens:"
        " look at some with `rlsf check`, then raise that budget, or set online.warm_up.steps=0"
    )


def test_a_warm_up_for_a_reward_without_a_form_is_refused(small_online: Build) -> None:
    with pytest.raises(InputError, match=r"online\.warm_up\.steps=2 teaches a form, which only the rewards"):
        small_online("online.warm_up.steps=2", name="intuitor")
    assert Run(small_online(name="intuitor"), RunFolder(Path("none"))).start_config() == small_online().model


@pytest.mark.parametrize(
    ("warm_up_steps", "remedy"),
    [
        (2, "online.warm_up.steps=2 did not teach it: raise that number, or online.warm_up.learning_rate"),
        (0, "or ask for this one in render.system, or teach the form with online.warm_up.steps"),
    ],
    ids=["taught", "untaught"],
)
def test_a_form_that_nobody_keeps_to_names_the_warm_up(
    tmp_path: Path, small_online: Build, open_run: Open, warm_up_steps: int, remedy: str
) -> None:
    from rlsf.pipeline.run import run_all

    with open_run(small_online(f"online.warm_up.steps={warm_up_steps}", name="rlcr"), tmp_path / "run") as run:
        with pytest.raises(InputError) as raised:
            run_all(run)
    assert str(raised.value).startswith("evaluate before: no trace has an answer in the format answer.format=regex: ")
    assert str(raised.value).endswith(remedy)


def test_a_model_measured_alone_is_measured_as_it_is_given(tmp_path: Path, small_online: Build, open_run: Open) -> None:
    from rlsf.pipeline.run import evaluate_all

    recipe = small_online(*LINE, "prompts.path=null", "answer.format=auto", "answer.pattern=null", name="rlcr")
    with open_run(recipe, tmp_path / "run") as run:
        summary = evaluate_all(run)
    assert summary["after"] is None
    measured = manifest(tmp_path / "run", "evaluation/before/traces")["inputs"]["model"]["fingerprint"]
    assert measured == model_fingerprint(recipe.model)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_without_an_answer_to_compare_with_the_guard_is_said_to_be_off(
    tmp_path: Path, small_online: Build, open_run: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlsf.pipeline.online import online_stage

    with open_run(small_online("online.warm_up.steps=0", "online.max_steps=2", name="rlcr"), tmp_path / "run") as run:
        counts = online_stage(run).counts
    assert "warning: none of 4 held-out prompts has an answer to compare with" in capsys.readouterr().err
    assert (counts["best_step"], counts["reason"]) == (2, "no selection: the last step is kept")
