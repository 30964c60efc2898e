"""What `rlsf check` shows and what it expects a run to take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlsf.cli.app import execute
from rlsf.demo import MODEL_DIR
from rlsf.pipeline.cost import DialogueCost, RewardModelCost, Trial, estimate_cost, estimate_online_cost
from rlsf.pipeline.dialogue_cost import estimate_dialogue_cost
from rlsf.pipeline.learning_tokens import LearningTokens
from rlsf.recipes import parse_overrides, resolve
from rlsf.training.budget_config import BudgetConfig


def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    fixed = ("--model", MODEL_DIR, "--sampling.branches", "3", "--sampling.workers", "1")
    assert execute(["check", *map(str, fixed), *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_prompts_answers_verdicts_and_cost(
    demo_data: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = check(capsys, monkeypatch, "--prompts", demo_data[0], "--eval-data", demo_data[1], "--examples", "2")
    assert len(re.findall(r"─ self_training-5-[01], \d+ tokens ─", shown)) == 2
    assert re.findall(r"─ test-5-([01]), \d+ tokens, gold answer (\S+) ─", shown) == [("0", "16"), ("1", "D")]
    assert "│ Q: Vera packs 2 boxes with 6 stamps each." in shown
    rows = re.findall(r"^([012])  (\S+) +(right|wrong|) +(?:[01]\.\d{3})? +eos  (\S.*?) *$", shown, re.MULTILINE)
    assert [int(index) for index, *_ in rows] == [0, 1, 2] * 4
    assert [verdict != "" for _, _, verdict, _ in rows] == [False] * 6 + [True] * 6, "prompts have no gold answer"
    assert ("16", "right", "The answer is 16.") in [row[1:] for row in rows]  # 2 * 6 + 7 - 3
    # 2 prompts and 16 questions are tried; a run asks 24 prompts once and 16 questions twice, three traces each.
    assert f"{(2 + 16) * 3} traces tried" in shown
    assert "24 prompts to learn from; 16 questions to measure on; 168 traces of" in shown
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_prompts_and_questions_may_share_their_ids(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ("--prompts", demo_data[1], "--eval-data", demo_data[1])
    shown = check(capsys, monkeypatch, *same, "--examples", "1", "--ranking.threshold", "0")
    assert "16 prompts to learn from; 16 questions to measure on" in shown
    assert int(re.findall(r"about (\d+) pairs", shown)[0]) > 0


def test_gold_answers_of_the_prompts_serve_where_there_are_no_others(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = check(capsys, monkeypatch, "--prompts", demo_data[1], "--examples", "1")
    assert "right" in shown
    assert "16 prompts to learn from; no --eval-data to measure on; 48 traces of" in shown


def test_cost_by_hand() -> None:
    recipe = resolve(
        "rlsf", overrides=parse_overrides(["sampling.branches=2", "sampling.workers=2", "training.rounds=3"])
    )
    # Of each prompt: 30 tokens written in half a second, 2 pairs; a trace with its prompt has 25 tokens on average.
    trial = Trial(prompts=4, tokens=120, sampling_seconds=2.0, pairs=8, lengths=[20, 30], forward_seconds=0.001)
    cost = estimate_cost(recipe, 40, 10, trial)
    asked = 3 * 40 + 2 * 10
    assert (cost.traces, cost.tokens) == (2 * asked, 30 * asked)
    assert cost.sampling_seconds == pytest.approx(0.5 * asked / 2)
    # 80 pairs a round, those of 8 prompts held out: 4 steps of 16.
    # 64 pairs x 3 (forward and backward) + 64 (reference), 50 tokens a pair.
    assert (cost.pairs, cost.optimiser_steps) == (3 * 80, 3 * 4)
    assert cost.training_seconds == pytest.approx(3 * (3 * 64 + 64) * 50 * 0.001)
    # Two traces of every prompt, and a greedy answer of each of the 8 before and after, 15 tokens each.
    assert cost.learning == LearningTokens(3 * (30 * 40 + 2 * 8 * 15), 3 * 64 * 50)


def test_measuring_alone_asks_once() -> None:
    trial = Trial(prompts=1, tokens=7, sampling_seconds=1.0, pairs=1, lengths=[9], forward_seconds=0.001)
    cost = estimate_cost(resolve("rlsf", None, {"model": {"path": str(MODEL_DIR)}}), 0, 10, trial)
    assert (cost.traces, cost.tokens, cost.pairs, cost.optimiser_steps) == (100, 70, 0, 0)
    assert cost.learning == LearningTokens(0, 0)
    assert cost.training_seconds == 0


ONLINE = (
    *("--online.prompts_per_step", "4", "--online.num_generations", "3", "--online.max_steps", "6"),
    *("--online.max_completion_length", "48", "--online.guard.prompts", "4"),
)


def test_an_online_recipe_shows_completions_and_no_pairs(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--prompts", demo_data[0], "--eval-data", demo_data[1], "--examples", "2")
    shown = check(capsys, monkeypatch, *data, *ONLINE, "--online.rewards.self_certainty.weight", "1")
    assert [int(index) for index in re.findall(r"^([012])  .* (?:eos|length) ", shown, re.MULTILINE)] == [0, 1, 2] * 4
    assert "12 completions tried: " in shown
    assert "truncated at online.max_completion_length=48" in shown
    assert f"{16 * 3} traces tried: " in shown
    assert "72 completions of " in shown, "6 steps of 4 prompts with 3 completions"
    assert "at most 6 optimiser steps" in shown
    assert "pairs" not in shown
    assert "warning" not in shown


def test_what_would_waste_an_online_run_is_warned_of(
    demo_data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    malformed = (
        "--prompts",
        demo_data[1],
        "--examples",
        "0",
        *ONLINE,
        "--online.rewards.brier_calibration.weight",
        "1",
    )
    shown = check(capsys, monkeypatch, *malformed)
    assert "warning: 4 of 4 prompts give all their 3 completions the same reward (brier_calibration)" in shown
    assert "completions are cut" not in shown
    assert "the same reward" not in check(capsys, monkeypatch, *malformed, "--online.warm_up.steps", "2")
    agreeing = ("--online.rewards.majority_agreement.reward", "share", "--online.max_completion_length", "2")
    shown = check(capsys, monkeypatch, "--prompts", demo_data[0], "--examples", "0", *ONLINE, *agreeing)
    assert "warning: 12 of 12 completions are cut at online.max_completion_length=2 before they end" in shown
    sure = ("--prompts", demo_data[0], "--examples", "0", *ONLINE, "--online.rewards.token_entropy.weight", "1")
    assert "the same reward" not in check(capsys, monkeypatch, *sure)


def test_online_cost_by_hand() -> None:
    settings = {
        **{"prompts_per_step": 5, "num_generations": 4, "num_iterations": 2, "epochs": 1.0, "beta": 0.1},
        **{"guard.prompts": 10, "guard.every": 4, "save_every": 4, "rewards.brier_calibration.weight": 1.0},
        **{"warm_up.steps": 3, "warm_up.batch_size": 8, "warm_up.completions": 2},
    }
    overrides = [*(f"online.{key}={value}" for key, value in settings.items()), "sampling.branches=2"]
    recipe = resolve("rlsf", overrides=parse_overrides([*overrides, "sampling.workers=2"]))
    assert recipe.online is not None
    rollouts = Trial(prompts=5, tokens=200, sampling_seconds=1.0, pairs=0, lengths=[20, 40], forward_seconds=0.001)
    measuring = Trial(prompts=4, tokens=80, sampling_seconds=2.0, pairs=0, lengths=[9], forward_seconds=9.0)
    cost = estimate_online_cost(recipe, recipe.online, 60, 10, rollouts, measuring)
    # 10 prompts are held out; 50 make 10 batches of rollouts, each used for 2 steps.
    assert (cost.optimiser_steps, cost.pairs) == (20, 0)
    # The warm-up samples 12 prompts twice (3 steps of 8 completions).
    assert cost.completions == 10 * 20 + 24
    assert cost.completion_tokens == 10 * (200 + 24)
    assert cost.completion_seconds == pytest.approx(0.2 / 4 * (200 + 24))
    # Questions twice and held-out prompts once, 2 traces each; a probe at 0, 4, ... 20 with one trace a prompt.
    asked, probed = 2 * 10 + 10, 6 * 10
    assert cost.traces == asked * 2 + probed
    assert cost.tokens == 20 * asked + 10 * probed
    assert cost.sampling_seconds == pytest.approx(0.5 * asked / 2 + 0.25 * probed)
    # Forward and backward: 20 steps of 20 and 3 of 8; the start's and the older policy's log-probabilities once.
    assert cost.training_seconds == pytest.approx((3 * (20 * 20 + 3 * 8) + 2 * 200) * 30 * 0.001)
    # Completions, the warm-up's, two traces of held-out prompts and their probes; questions are measured, not learned.
    assert cost.learning == LearningTokens(10 * (200 + 24) + 10 * (20 + 6 * 10), (20 * 20 + 3 * 8) * 30)


def test_the_cost_of_a_reward_model_alone() -> None:
    overrides = ["sampling.branches=2", "sampling.workers=2", "reward_model.batch_size=8", "reward_model.epochs=2"]
    recipe = resolve("rc-rm", overrides=parse_overrides([*overrides, "reward_model.held_out=0.25"]))
    trial = Trial(prompts=4, tokens=120, sampling_seconds=2.0, pairs=8, lengths=[20, 30], forward_seconds=0.001)
    cost = estimate_cost(recipe, 40, 10, trial)
    # Questions are asked once: no policy is there to measure again.
    assert (cost.traces, cost.tokens) == (2 * 50, 30 * 50)
    # 80 pairs and two comparisons of each, three quarters of them to learn from, twice, in batches of 8.
    assert cost.reward_model == RewardModelCost(180, 46, pytest.approx(3 * 2 * 180 * 50 * 0.001), 2 * 180 * 50)
    assert cost.learning == LearningTokens(30 * 40, 2 * 180 * 50)
    assert (cost.pairs, cost.optimiser_steps, cost.training_seconds) == (240, 0, 0)


def test_a_reward_model_adds_traces_pairs_and_scores_to_an_online_run() -> None:
    online = {"prompts_per_step": 5, "num_generations": 4, "num_iterations": 1, "epochs": 1.0, "beta": 0.0}
    overrides = [
        *(f"online.{key}={value}" for key, value in {**online, "guard.prompts": 10, "guard.every": 4}.items()),
        *("online.save_every=4", "online.device_batch_size=null", "sampling.branches=2", "sampling.workers=2"),
        *("reward_model.batch_size=8", "reward_model.epochs=1", "reward_model.held_out=0"),
    ]
    recipe = resolve("rlsf-rm", overrides=parse_overrides(overrides))
    assert recipe.online is not None
    rollouts = Trial(prompts=5, tokens=200, sampling_seconds=1.0, pairs=0, lengths=[20, 40], forward_seconds=0.001)
    sampled = Trial(prompts=4, tokens=80, sampling_seconds=2.0, pairs=8, lengths=[10], forward_seconds=0.01)
    cost = estimate_online_cost(recipe, recipe.online, 60, 10, rollouts, sampled)
    # Every prompt once and questions twice, 2 traces each; a probe at 0, 4, 8 and 10 of 10 steps.
    assert cost.traces == (2 * 10 + 60) * 2 + 4 * 10
    assert cost.reward_model == RewardModelCost(120, 15, pytest.approx(3 * 15 * 8 * 20 * 0.01), 120 * 20)
    assert cost.learning == LearningTokens(10 * 200 + 20 * 60 + 10 * 4 * 10, 200 * 30 + 120 * 20)
    # Forward and backward of 10 steps of 20 completions, and a score of each.
    assert cost.training_seconds == pytest.approx((3 + 1) * 10 * 20 * 30 * 0.001)


def test_the_cost_of_judging() -> None:
    recipe = resolve("core-po", overrides=parse_overrides(["sampling.workers=2", "training.rounds=3"]))
    trial = Trial(4, 120, 2.0, pairs=4, lengths=[20, 30], forward_seconds=0.001, judging_seconds=6.0)
    assert estimate_cost(recipe, 40, 10, trial).judging_seconds == pytest.approx(3 * 40 * 1.5 / 2)
    assert estimate_cost(recipe, 0, 10, trial).judging_seconds == 0, "questions are not judged"


def test_the_cost_of_dialogues() -> None:
    overrides = ["introspection.samples=[2,4,4]", "introspection.turns=3", "introspection.rounds=2"]
    overrides += ["introspection.training.selection.prompts=8", "introspection.training.batch_size=8"]
    overrides += ["introspection.training.epochs=1", "sampling.branches=5", "sampling.workers=2"]
    recipe = resolve("rise-introspection", overrides=parse_overrides(overrides))
    assert recipe.introspection is not None
    # A first attempt takes 10 tokens and a quarter of a second, a question 100 tokens and two seconds.
    first = Trial(prompts=4, tokens=80, sampling_seconds=2.0, pairs=0, lengths=[20, 40], forward_seconds=0.001)
    measuring = Trial(prompts=2, tokens=200, sampling_seconds=4.0, pairs=0, lengths=[9], forward_seconds=9.0)
    cost = estimate_dialogue_cost(recipe, recipe.introspection, 48, 10, first, 0.5, measuring)
    asked, turns = 2 * 10 + 2 * 8, 2 * 10 * 3  # questions before and after, the probe's prompts by round
    assert (cost.traces, cost.tokens) == (asked * 5 + turns, asked * 100 + turns * 10)
    assert cost.sampling_seconds == pytest.approx((asked * 2.0 + turns * 0.25) / 2)
    # 40 dialogues a round, of 2 attempts; half of them go on to 8 more. They leave 40 + 20 + 20 examples.
    attempts = 2 * 40 * (2 + 4)
    assert cost.dialogues == DialogueCost(80, attempts, 10 * attempts, pytest.approx(attempts * 0.25 / 2), 2 * 80)
    assert (cost.pairs, cost.optimiser_steps) == (0, 2 * 10)
    # Later turns see one answer, and are read with it: 40 rows, and 40 of twice the length, 30 tokens each.
    assert cost.training_seconds == pytest.approx(2 * 3 * 10 * 8 * 1.5 * 30 * 0.001)
    # Attempts, five traces of held-out prompts, and two turns of each before and after.
    assert cost.learning == LearningTokens(10 * attempts + 2 * 8 * (100 + 2 * 2 * 10), 2 * 80 * 45)


def test_what_a_budget_allows() -> None:
    assert LearningTokens(8000, 900).beside(BudgetConfig(generated_tokens=2000)) == (
        "8,000 generated tokens, of which budget.generated_tokens=2000 allows 25%, and 900 training tokens"
        " (no budget.training_tokens)"
    )
    assert LearningTokens(8000, 900).beside(BudgetConfig(generated_tokens=8000, training_tokens=899)) == (
        "8,000 generated tokens (within budget.generated_tokens=8000) and 900 training tokens, of which"
        " budget.training_tokens=899 allows 99%"
    )


def test_the_budget_is_told_beside_what_learning_takes(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--prompts", demo_data[0], "--eval-data", demo_data[1], "--examples", "0", "--training.rounds", "1")
    caps = ("--budget.generated-tokens", "1000000", "--budget.training-tokens", "100")
    shown = check(capsys, monkeypatch, *data, *caps)
    ((tokens, share),) = re.findall(
        r"^learning alone: about [\d,]+ generated tokens \(within budget.generated_tokens=1000000\) and"
        r" ([\d,]+) training tokens, of which budget.training_tokens=100 allows (\d+)%$",
        shown,
        re.MULTILINE,
    )
    assert int(share) == 100 * 100 // int(tokens.replace(",", ""))
    assert "learning alone" not in check(capsys, monkeypatch, "--eval-data", demo_data[1], "--examples", "0")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ("--answer.format", "boxed", "--examples", "1"),
            "no trace has an answer in the format answer.format=boxed: look at the traces above, then choose the",
        ),
        (
            ("--answer.format", "boxed", "--examples", "0"),
            "answer.format=boxed: look at some with --examples 3, then choose the format",
        ),
        (
            ("--answer.format", "boxed", "--sampling.max-new-tokens", "4", "--examples", "0"),
            "answer.format=boxed, and 48 of 48 were cut at sampling.max_new_tokens=4: raise it",
        ),
        (
            ("--sampling.max-new-tokens", "5", "--examples", "0"),
            r"[34]\d of 48 traces are cut at sampling.max_new_tokens=5 before they end: raise it",
        ),
    ],
)
def test_traces_without_an_answer_or_an_end_are_warned_of(
    demo_data: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
    said: str,
) -> None:
    shown = check(capsys, monkeypatch, "--eval-data", demo_data[1], *settings)
    warned = re.findall(r"^warning: (.*)$", shown, re.MULTILINE)
    assert len(warned) == 1
    assert re.search(said, warned[0])


def test_answers_that_a_warm_up_will_teach_are_not_expected(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--prompts", demo_data[1], "--eval-data", demo_data[1], "--examples", "0", "--answer.format", "tag")
    teaching = ("--online.warm_up.steps", "2", "--online.device-batch-size", "12")
    shown = check(capsys, monkeypatch, "--recipe", "rlcr", *data, *ONLINE, *teaching)
    assert shown.count("warning: no trace has an answer") == 1
    assert "online.warm_up.steps=2 is there to teach it, which is not tried here" in shown


FEW = ("--sampling.max_new_tokens", "48", "--examples", "1")
TERSE = ("--judge.template", "terse")
RM_SIZES = ("--online.prompts_per_step", "2", "--online.max_completion_length", "48", "--online.guard.prompts", "2")


@pytest.mark.parametrize(
    ("name", "sizes", "told", "untold"),
    [
        ("rlsf-rm", RM_SIZES, (r"a reward model of about [\d,]+ pairs in \d", "completions of"), "warning"),
        ("rc-rm", (), (r"a reward model of about [\d,]+ pairs in \d",), "pairs and"),
        (
            "core-po",
            TERSE,
            (
                r"judging those to learn from in about \d",
                "pairs and",
                r"True and False .*model does not answer in them",
            ),
            "reward model",
        ),
        (
            "rise-introspection",
            ("--introspection.feedback", "{question}"),
            (
                r"\d+ dialogues of at most about \d+ attempts with [\d,]+ tokens",
                r"at most about \d+ examples and \d+ optimiser",
            ),
            "pairs",
        ),
    ],
)
def test_every_kind_of_recipe_is_previewed(
    demo_data: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sizes: tuple[str, ...],
    told: tuple[str, ...],
    untold: str,
) -> None:
    data = ("--prompts", demo_data[0], "--eval-data", demo_data[1], "--prompts.limit", "24")
    shown = check(capsys, monkeypatch, "--recipe", name, *data, *FEW, *sizes)
    for words in told:
        assert re.search(words, shown), words
    assert untold not in shown
    if name == "rise-introspection":
        first, _, _ = shown.partition("test-5-0")
        assert [len(re.findall(rf"^{index}  ", first, re.MULTILINE)) for index in (0, 1)] == [1, 0], "a first attempt"


def test_an_acceptance_model_is_said_not_to_be_counted(
    demo_data: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    data = ("--prompts", demo_data[1], "--eval-data", demo_data[1], "--examples", "1")
    small = ("--sampling.branches", "2", "--sampling.workers", "1", "--sampling.max-new-tokens", "16")
    assert execute(["check", "--recipe", "drr", "--model", str(MODEL_DIR), *map(str, (*data, *small))]) == 0
    shown = capsys.readouterr().out
    assert "warning: the estimate counts the traces that are measured alone" in shown
    assert " pairs " not in shown
