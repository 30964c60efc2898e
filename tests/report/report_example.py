"""A run as the report sees it: figures by the real evaluation, traces of a made-up model with seeded numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rlsf.answers.answer import Answer
from rlsf.evaluation.config import EvaluationConfig, Mode
from rlsf.evaluation.outcomes import Outcome
from rlsf.evaluation.summary import summarise
from rlsf.recipes.recipe import Recipe
from rlsf.report.choice import choose_questions
from rlsf.report.inputs import BranchSet, BranchView, CheckpointChoice, QuestionView, RankingCounts, ReportInputs
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import FinishReason, Trace

QUESTIONS = 200
NAMES = ("Ava", "Ben", "Chloe", "Dev", "Elin", "Femi")
THINGS = ("marbles", "apples", "stamps", "books", "coins")
CONFIG = EvaluationConfig(bootstrap=200)


def statistics(probability: np.ndarray, vocabulary_size: int = 512) -> TokenStatistics:
    """Statistics of tokens that were the most likely ones, the rest of the mass on 4 others in equal parts."""
    probability = np.clip(probability, 0.21, 0.9999).astype(np.float32)
    rest = (1 - probability) / 4
    entropy = -(probability * np.log(probability) + 4 * rest * np.log(rest))
    zeros = np.zeros(len(probability), np.float32)
    return TokenStatistics(
        logprob=np.log(probability),
        top1_logprob=np.log(probability),
        top2_logprob=np.log(rest),
        top1_id=np.zeros(len(probability), np.int32),
        logsumexp=zeros,
        entropy=entropy,
        mean_logit=zeros,
        vocabulary_size=vocabulary_size,
    )


def branch(
    prompt_id: str,
    pieces: tuple[str, ...],
    *,
    index: int = 0,
    answer: Answer | None = None,
    finish_reason: FinishReason = "eos",
    probability: np.ndarray | None = None,
    **view: Any,
) -> BranchView:
    """A trace made of ``pieces``, with the view's fields in ``view``."""
    if probability is None:
        probability = np.full(len(pieces), 0.9)
    trace = Trace(
        prompt_id=prompt_id,
        index=index,
        strategy="cot_decoding",
        prompt_token_ids=np.zeros(1, np.int32),
        token_ids=np.arange(len(pieces), dtype=np.int32),
        text="".join(pieces),
        finish_reason=finish_reason,
        statistics=statistics(probability),
        answer=answer,
        failure=None if answer else "no number in the trace",
    )
    return BranchView(trace=trace, pieces=pieces, **view)


def _solution(rng: np.random.Generator, start: int, add: int, take: int, *, worked: bool, right: bool) -> list[str]:
    total = start + add - take + (0 if right else int(rng.integers(1, 9)))
    digits = list(str(total))
    if not worked:
        return ["The", " answer", " is", " ", *digits, "."]
    opening = [["First", ","], ["Let", " us", " see", ":"], ["Step", " 1", "."]][int(rng.integers(3))]
    step = ["  ", *str(start), " +", " ", *str(add), " =", " ", *str(start + add), ".", "\n"]
    then = ["Then", " ", *str(start + add), " -", " ", *str(take), " =", " ", *digits, ".", "\n"]
    return [*opening, *step, *then, "The", " answer", " is", " ", *digits, "."]


def _branches(
    rng: np.random.Generator, prompt_id: str, greedy_right: bool, *, trained: bool, count: int
) -> tuple[BranchView, ...]:
    start, add, take = (int(value) for value in rng.integers(11, 90, size=3))
    views = []
    for index in range(count):
        worked = trained or index in (2, 3, 6)
        right = greedy_right if index == 0 else bool(rng.random() < (0.93 if worked else 0.3))
        pieces = tuple(_solution(rng, start, add + take, take, worked=worked, right=right))
        sureness = rng.beta(14 if right and worked else 3, 1.2, size=len(pieces))
        sureness[0] = 0.9 / (index + 1)
        cut = index == count - 1 and not trained
        pieces, sureness = (pieces[:6], sureness[:6]) if cut else (pieces, sureness)
        width = len(pieces) - 1 - max(i for i, p in enumerate(pieces) if p == " ") if not cut else 0
        answer = None
        if not cut:
            answer = Answer("".join(pieces[-width:-1]), len(pieces) - width, len(pieces) - 1)
        views.append(
            branch(
                prompt_id,
                pieces,
                index=index,
                answer=answer,
                finish_reason="length" if cut else "eos",
                probability=sureness,
                confidence=float(np.clip(sureness[3:].mean(), 0, 1)) if answer else None,
                correct=right if answer else False,
            )
        )
    return tuple(views)


def _outcomes(rng: np.random.Generator, accuracy: dict[Mode, float], *, sharp: float) -> list[Outcome]:
    rows = []
    for mode, share in accuracy.items():
        for number in range(QUESTIONS):
            right = bool(rng.random() < share)
            confidence = float(rng.beta(6, 1.2) if right else rng.beta(3 / sharp, 2.2))
            tokens = int(rng.integers(30, 42) if sharp > 1.5 or mode != "greedy" else rng.integers(5, 9))
            answer = None if rng.random() < 0.02 else "7"
            rows.append(
                Outcome(
                    prompt_id=f"test-{number:03d}",
                    mode=mode,
                    trace_index=0,
                    answer=answer,
                    confidence=confidence if answer else 0.0,
                    correct=right and answer is not None,
                    correct_flexible=right,
                    graded=True,
                    tokens=tokens,
                    truncated=answer is None,
                    failure=None if answer else "no number in the trace",
                )
            )
    return rows


def _events() -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(7)
    events: list[dict[str, Any]] = [
        {"event": "sampling", "phase": "before", "seconds": 14.2},
        {"event": "sampling", "phase": "round-1", "seconds": 21.7},
    ]
    for step in range(1, 81):
        done = 1 - np.exp(-step / 25)
        noise = rng.normal(0, 0.02)
        events.append(
            {
                "event": "training",
                "round": 1,
                "step": step,
                "loss": 1.4 - 0.8 * done + noise,
                "rewards/accuracies": float(np.clip(0.5 + 0.45 * done + noise, 0, 1)),
                "nll": 0.9 - 0.5 * done + noise,
                "rewards/margins": 1.9 * done + noise,
                "logps/chosen": -18 + 9 * done + 10 * noise,
                "logps/rejected": -7 - 14 * done + 10 * noise,
            }
        )
    events += [
        {"event": "probe", "round": 1, "step": step, "agreement": agreement, "mean_tokens": tokens}
        for step, agreement, tokens in ((0, 0.41, 7.0), (20, 0.62, 22.5), (40, 0.86, 34.0), (60, 0.9, 35.0))
    ]
    return (*events, {"event": "run", "seconds": 141.8})


def _questions(outcomes: dict[str, tuple[bool | None, bool | None]]) -> tuple[QuestionView, ...]:
    views = []
    for prompt_id in choose_questions(outcomes, 12):
        rng = np.random.default_rng([ord(letter) for letter in prompt_id])
        name, thing = NAMES[int(rng.integers(len(NAMES)))], THINGS[int(rng.integers(len(THINGS)))]
        before, after = outcomes[prompt_id]
        views.append(
            QuestionView(
                prompt_id=prompt_id,
                question=f"{name} has some {thing}, buys a box of {int(rng.integers(11, 90))} more and gives away"
                f" {int(rng.integers(3, 40))}. How many {thing} does {name} have now?",
                gold=str(int(rng.integers(20, 120))),
                sets=(
                    BranchSet("before", _branches(rng, prompt_id, bool(before), trained=False, count=10)),
                    BranchSet("after", _branches(rng, prompt_id, bool(after), trained=True, count=10)),
                ),
            )
        )
    rng = np.random.default_rng(11)
    views_by_confidence = sorted(
        _branches(rng, "train-017", False, trained=False, count=6), key=lambda view: -(view.confidence or 0)
    )
    ranked = [
        dataclasses.replace(view, chosen=max(0, 4 - place) if place < 2 else 0, rejected=place, correct=None)
        for place, view in enumerate(views_by_confidence)
        if view.confidence is not None
    ]
    ranked.sort(key=lambda view: view.trace.index)
    training = QuestionView(
        prompt_id="train-017",
        question="A shop sells pens. Which is the best buy?",
        choices=("10 pens for £2", "25 pens for £4", "12 pens for £3"),
        sets=(BranchSet("round 1", tuple(ranked)),),
        group="Training prompts, ranked",
    )
    return (*views, training)


def example_inputs() -> ReportInputs:
    """A whole run: three decoding modes, before and after, one round of training, thirteen questions."""
    rng = np.random.default_rng(3)
    before = _outcomes(rng, {"greedy": 0.52, "cot_decoding": 0.86, "majority": 0.71}, sharp=1.0)
    after = _outcomes(rng, {"greedy": 0.87, "cot_decoding": 0.88, "majority": 0.88}, sharp=2.0)
    greedy = [{row.prompt_id: row.correct for row in rows if row.mode == "greedy"} for rows in (before, after)]
    outcomes: dict[str, tuple[bool | None, bool | None]] = {key: (greedy[0][key], greedy[1][key]) for key in greedy[0]}
    recipe = Recipe.model_validate(
        {
            "recipe": "rlsf-trace",
            "model": {"path": "example/tiny-reasoner"},
            "prompts": {"path": "questions.jsonl"},
            "evaluation_data": {"path": "test.jsonl"},
            "signal": "answer_disparity",
        }
    )
    return ReportInputs(
        name="tiny-reasoner, first run",
        recipe=recipe,
        environment={
            "python": "3.11.9",
            "processor": "An ordinary processor",
            "cores": 2,
            "memory_gib": 7.6,
            "accelerators": [],
            "packages": {"rlsf": "0.1.0", "torch": "2.13.0", "transformers": "5.17.0", "trl": "1.16.0"},
            "git_commit": None,
        },
        summary=summarise(before, after, CONFIG, "answer_disparity", seed=0),
        rounds=(
            RankingCounts(
                prompts=250, traces=2500, without_answer=61, truncated=14, pairs=1752, prompts_with_pairs=231
            ),
        ),
        checkpoints=(CheckpointChoice(80, 60, "agreement 0.900, the best of 4 probes", learning_rate=3e-5),),
        events=_events(),
        questions=_questions(outcomes),
        outcomes=outcomes,
    )


def without_training(inputs: ReportInputs) -> ReportInputs:
    """The evaluation of a model alone."""
    assert inputs.summary is not None
    return dataclasses.replace(
        inputs,
        summary={**inputs.summary, "after": None, "difference": None},
        rounds=(),
        checkpoints=(),
        events=(),
        questions=tuple(dataclasses.replace(one, sets=one.sets[:1]) for one in inputs.questions[:3]),
        outcomes={key: (before, None) for key, (before, _) in inputs.outcomes.items()},
    )
