"""Dialogues against a scripted policy: who is asked again, with what, what is learned and counted, and who votes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlsf.answers.answer import Answer
from rlsf.demo import MODEL_DIR
from rlsf.models import load_tokenizer
from rlsf.pipeline import attempt_rewards, dialogue_probe, sampled_dialogues
from rlsf.pipeline import dialogues as of_dialogues
from rlsf.pipeline.attempt_rewards import rewarder
from rlsf.pipeline.dialogue_probe import follow_up
from rlsf.pipeline.sampled_dialogues import SampledDialogues, sample_dialogues
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt, Turn
from rlsf.recipes import Recipe, parse_overrides, resolve
from rlsf.sampling.config import SamplingConfig
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace

#: What an attempt earns, as text; ``cut`` was cut, ``loop`` repeats itself.
Said = str


def trace(prompt_id: str, index: int, said: Said, answer: str | None = None) -> Trace:
    ids = np.asarray([3, 4] * 10 if said == "loop" else [5, index, *said.encode()], dtype=np.int32)
    return Trace(
        prompt_id=prompt_id,
        index=index,
        strategy="sampling",
        prompt_token_ids=np.asarray([*prompt_id.encode()], dtype=np.int32),
        token_ids=ids,
        text=said,
        finish_reason="length" if said == "cut" else "eos",
        statistics=TokenStatistics.missing(len(ids), 10),
        answer=None if answer is None else Answer(answer, 0, 1),
    )


@dataclass
class Policy:
    """Says what its script holds for a prompt, attempt after attempt, and notes how it was asked."""

    script: dict[str, list[Said]]
    asked: list[tuple[Sequence[Prompt], SamplingConfig, int, Any]] = field(default_factory=list)

    def sample_stage(
        self, run: Any, title: str, model: Any, prompts: Any, folder: Path, seed: int, sampling: Any
    ) -> Any:
        self.asked.append((prompts, sampling, seed, model))
        return SimpleNamespace(digest=folder.name, counts={"without_answer": 0, "traces": 1})

    def read_traces(self, folder: Path) -> list[list[Trace]]:
        prompts, sampling, _, _ = self.asked[-1]
        return [
            [trace(prompt.id, index, self.script[prompt.id].pop(0)) for index in range(sampling.branches)]
            for prompt in prompts
        ]


@contextmanager
def by_what_is_said(*_: Any):
    """An attempt earns the number that it says."""
    yield lambda prompt, traces: [0.99 if one.text in ("cut", "loop") else float(one.text) for one in traces]


def run_of(recipe: Recipe) -> Any:
    return SimpleNamespace(
        recipe=recipe,
        tokenizer=None,
        prompts=[],
        folder=SimpleNamespace(
            traces=lambda round_: Path(f"traces-{round_}"), checkpoints=lambda round_: Path(f"checkpoints-{round_}")
        ),
        policy_config=lambda round_: f"policy of round {round_}",
        title=lambda title, round_: title,
    )


def recipe_with(*overrides: str) -> Recipe:
    shipped = ("introspection.samples=[1,2,2]", "introspection.rounds=2", *overrides)
    return resolve("rise-introspection", overrides=parse_overrides(shipped))


def asker(run: Any, model: Any):
    return lambda prompt, answers: Prompt(prompt.id, prompt.question, turns=tuple(Turn(one, model) for one in answers))


@pytest.fixture
def dialogues(monkeypatch: pytest.MonkeyPatch):
    """Sampled from a script, in round 2."""

    def sample(policy: Policy, *overrides: str) -> tuple[SampledDialogues, Recipe]:
        monkeypatch.setattr(sampled_dialogues, "sample_stage", policy.sample_stage)
        monkeypatch.setattr(sampled_dialogues, "read_traces", policy.read_traces)
        monkeypatch.setattr(sampled_dialogues, "rewarder", by_what_is_said)
        monkeypatch.setattr(sampled_dialogues, "asker", asker)
        recipe = recipe_with(*overrides)
        prompts = [Prompt(prompt_id, "How many?") for prompt_id in policy.script]
        return sample_dialogues(run_of(recipe), 2, prompts), recipe

    return sample


SCRIPT = {
    "solved": ["0.9"],  # the threshold itself is a success
    "second": ["0.1", "0.3", "0.95"],
    "third": ["0.5", "0.2", "0.4", "0.6", "0.1"],
    "never": ["cut"],
    "lost": ["0.2", "cut", "loop"],
}


def script() -> dict[str, list[Said]]:
    return {name: [*said] for name, said in SCRIPT.items()}


def test_who_is_asked_again_and_with_what(dialogues: Any) -> None:
    policy = Policy(script())
    dialogues(policy)
    # A success, an attempt that was cut, and a turn of which nothing can be used end a dialogue.
    assert [[prompt.id for prompt in asked] for asked, *_ in policy.asked] == [
        [*SCRIPT],
        ["second", "third", "lost"],
        ["third"],
    ]
    # The best attempt of each turn is what the next one sees.
    turns = {prompt.id: [turn.answer for turn in prompt.turns] for asked, *_ in policy.asked for prompt in asked}
    assert turns == {"solved": [], "second": ["0.1"], "third": ["0.5", "0.4"], "never": [], "lost": ["0.2"]}
    assert not any(policy.script.values()), "every attempt was asked for"


def test_how_a_turn_is_sampled(dialogues: Any) -> None:
    policy = Policy(script())
    dialogues(policy, "introspection.temperature=0.7", "sampling.branches=9", "sampling.temperature=0.2")
    assert [(one.strategy, one.branches, one.temperature) for _, one, _, _ in policy.asked] == [
        ("sampling", samples, 0.7) for samples in (1, 2, 2)
    ]
    assert {model for *_, model in policy.asked} == {"policy of round 2"}, "the newest policy"
    assert len({seed for _, _, seed, _ in policy.asked}) == 3, "turns draw their own random numbers"


@pytest.mark.parametrize(
    ("select", "learned"),
    [
        ("all", ["0.9", "0.1", "0.95", "0.5", "0.4", "0.6", "0.2"]),
        ("better", ["0.9", "0.1", "0.95", "0.5", "0.6", "0.2"]),
        ("best", ["0.9", "0.1", "0.95", "0.5", "0.6", "0.2"]),
        ("success", ["0.9", "0.95"]),
    ],
)
def test_what_is_learned(dialogues: Any, select: str, learned: list[str]) -> None:
    found, recipe = dialogues(Policy(script()), f"introspection.select={select}")
    attempts = found.learned(recipe.introspection)
    assert [one.trace.text for one in attempts] == learned
    assert [one.reward for one in attempts] == [float(said) for said in learned]
    if select == "all":
        assert [one.turn for one in attempts] == [1, 1, 2, 1, 2, 3, 1]


def test_what_is_counted(dialogues: Any) -> None:
    found, recipe = dialogues(Policy({**script(), "worse": ["0.5", "0.1", "0.2", "0.3", "0.5"]}))
    counts = found.counts(recipe.introspection, found.learned(recipe.introspection))
    assert counts == {
        "without_attempt": 1,
        "first_successes": 1,
        "longer": 3,
        "improved": 2,  # "worse" ends as it began
        "later_successes": 1,
        "examples": 10,
        "later_examples": 5,
    }
    assert list(found.stages) == ["turn-1", "turn-2", "turn-3"]


def test_examples_that_are_there_already_are_left_out_where_the_recipe_says_so(dialogues: Any) -> None:
    twice = {"one": ["0.5", "0.2", "0.2"]}
    settings = ("introspection.samples=[3]", "introspection.attempts=all")
    found, recipe = dialogues(Policy({name: [*said] for name, said in twice.items()}), *settings)
    first, *rest = found.turns[0][0].examples
    assert len(found.learned(recipe.introspection)) == len([first, *rest]) == 3, "tokens differ"
    doubled = SampledDialogues([*found.turns, *found.turns])
    assert len(doubled.learned(recipe.introspection)) == 3
    kept = recipe.introspection.model_copy(update={"drop_duplicates": False})
    assert len(doubled.learned(kept)) == 6


# What attempts earn, by the recipe


def test_gold_rewards_of_right_wrong_and_missing_answers() -> None:
    prompt = Prompt("1", "How many?", gold="5")
    traces = [trace("1", index, "said", answer) for index, answer in enumerate(["5", "4", None, "5.0"])]
    with rewarder(recipe_with("introspection.reward=gold"), None) as rewards:  # type: ignore[arg-type]
        assert rewards(prompt, traces) == [1.0, 0.0, -1.0, 1.0]


def test_confidence_rewards_are_those_of_the_recipes_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_rewards, "get_signal", lambda name: name)
    monkeypatch.setattr(
        attempt_rewards,
        "confidences",
        lambda traces, signal, tokenizer: [0.25 if signal == "answer_disparity" else 0.75, None],
    )
    with rewarder(recipe_with("signal=answer_disparity"), None) as rewards:  # type: ignore[arg-type]
        assert rewards(Prompt("1", "How many?"), [trace("1", 0, "a"), trace("1", 1, "b")]) == [0.25, 0.0]


# The probe


def test_the_probe_asks_again_with_the_answer_where_dialogues_have_a_second_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialogue_probe, "asker", asker)
    assert follow_up(run_of(recipe_with("introspection.samples=[4]")), 1) is None
    ask = follow_up(run_of(recipe_with()), 3)
    assert ask is not None
    assert ask(Prompt("1", "How many?"), "7").turns == (Turn("7", "policy of round 3"),)


# What the policy sees, and whether it fits


def test_old_answers_are_left_out_where_an_attempt_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_with(f"model.path={MODEL_DIR}", "introspection.window=2", "sampling.max_new_tokens=40")
    run = run_of(recipe)
    run.tokenizer = load_tokenizer(recipe.model)
    question, said = Prompt("1", "How many?"), of_dialogues.introspection_config(run).feedback

    def seen(answers: Sequence[str], context: int | None) -> list[str]:
        monkeypatch.setattr(of_dialogues, "configured_context_length", lambda _: context)
        return [turn.answer for turn in of_dialogues.asker(run, recipe.model)(question, answers).turns]

    assert seen(["1", "2", "3"], None) == ["2", "3"], "the last two, as introspection.window says"
    both = Prompt("1", "How many?", turns=tuple(Turn(one, said.replace("{question}", "How many?")) for one in "23"))
    needed = len(render(both, run.tokenizer, recipe.render).token_ids) + recipe.sampling.max_new_tokens
    assert seen(["1", "2", "3"], needed) == ["2", "3"]
    assert seen(["1", "2", "3"], needed - 1) == ["3"]
    assert seen(["1", "2", "3"], 41) == [], "in the end the question stands alone"


# At inference


def test_every_question_is_asked_for_every_turn_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy({"right": ["1", "1", "0.2"], "wrong": ["0.1", "cut", "0.3"]})
    monkeypatch.setattr(of_dialogues, "sample_stage", policy.sample_stage)
    monkeypatch.setattr(of_dialogues, "read_traces", policy.read_traces)
    monkeypatch.setattr(of_dialogues, "asker", lambda run, model: asker(run, "again"))
    for vote in ("majority", "confidence"):
        recipe = recipe_with("introspection.turns=3", f"introspection.vote={vote}", "introspection.temperature=0.7")
        run = run_of(recipe)
        run.folder.evaluation = Path
        run.questions = [Prompt(name, "How many?", gold="1") for name in policy.script]
        policy.script = {"right": ["1", "1", "0.2"], "wrong": ["0.1", "cut", "0.3"]}
        policy.asked.clear()
        found = of_dialogues.evaluation_dialogues(run, "after", recipe.model)
        assert [[prompt.id for prompt in asked] for asked, *_ in policy.asked] == [["right", "wrong"]] * 3
        assert [turn.answer for turn in policy.asked[2][0][1].turns] == ["0.1", "cut"]
        assert [(one.branches, one.temperature) for _, one, _, _ in policy.asked] == [(1, 0.7)] * 3
        assert len({seed for _, _, seed, _ in policy.asked}) == 3
        assert [one.text for one in found.traces["wrong"]] == ["0.1", "cut", "0.3"]
        assert [one.index for one in found.traces["wrong"]] == [0, 1, 2]
        monkeypatch.setattr(of_dialogues, "confidences", lambda traces, signal, tokenizer: [0.5] * len(traces))
        assert found.of(run, run.questions[0]).weighted == (vote == "confidence")
