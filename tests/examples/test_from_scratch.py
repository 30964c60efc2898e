"""The tutorial script agrees with the library, step by step, and does what it says."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rlsf.answers import TokenText, find_answer
from rlsf.answers.config import AnswerConfig
from rlsf.confidence import get_signal
from rlsf.demo import MODEL_DIR
from rlsf.evaluation import ece
from rlsf.preferences.config import RankingConfig
from rlsf.preferences.ranking import rank
from rlsf.prompts import Prompt, render
from rlsf.prompts.config import RenderConfig
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.traces import Trace
from rlsf.training.config import TrainingConfig
from rlsf.training.options import trainer_arguments
from rlsf.training.train import build_trainer, usable_pairs

QUESTIONS, BRANCHES, BUDGET, THRESHOLD = 10, 6, 40, 0.9


@pytest.fixture(scope="module")
def script(example: Callable[[str], ModuleType]) -> Any:
    return example("rlsf_from_scratch")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """In float64, so that both ways of computing choose the same tokens and differ by the rounding of what is kept."""
    return LlamaForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def questions(script: Any) -> list[Any]:
    return script.questions("self_training", QUESTIONS)


@pytest.fixture(scope="module")
def ours(script: Any, model: Any, tokenizer: Any, questions: list[Any]) -> list[list[Any]]:
    """The script's scored traces; four questions a batch, so that prompts are padded and the last batch is short."""
    grouped = script.branches(model, tokenizer, [one.text for one in questions], BRANCHES, BUDGET, batch=4)
    script.score(model, tokenizer, list(itertools.chain(*grouped)), batch=16)
    return grouped


@pytest.fixture(scope="module")
def theirs(model: Any, tokenizer: Any, questions: list[Any]) -> list[list[Trace]]:
    """The library's traces with their answers."""
    requests = [
        SamplingRequest(one.id, render(Prompt(one.id, one.question), tokenizer, RenderConfig()).token_ids)
        for one in questions
    ]
    config = SamplingConfig(branches=BRANCHES, max_new_tokens=BUDGET)

    def answered(trace: Trace) -> Trace:
        found = find_answer(TokenText.from_ids(tokenizer, trace.token_ids), AnswerConfig())
        return trace.with_answer(found.answer, found.failure)

    return [[answered(trace) for trace in row] for row in TransformersEngine(model, tokenizer).sample(requests, config)]


def confidence(trace: Trace) -> float:
    return get_signal("answer_disparity").confidence(trace) or 0.0


def both(ours: list[list[Any]], theirs: list[list[Trace]]) -> list[tuple[Any, Trace]]:
    return list(zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True))


def test_branches(ours: list[list[Any]], theirs: list[list[Trace]]) -> None:
    assert [len(row) for row in ours] == [BRANCHES] * QUESTIONS
    for mine, other in both(ours, theirs):
        assert mine.prompt_ids == list(other.prompt_token_ids)
        assert mine.ids == list(other.token_ids)
        assert mine.finished == (not other.truncated)
        assert mine.text == other.text
    assert len({tuple(trace.ids) for row in ours for trace in row}) > 2 * QUESTIONS


def test_a_small_budget_cuts_as_the_library_does(
    script: Any, model: Any, tokenizer: Any, questions: list[Any], theirs: list[list[Trace]]
) -> None:
    for row, whole in zip(script.branches(model, tokenizer, [questions[0].text], BRANCHES, 8), theirs, strict=False):
        for mine, other in zip(row, whole, strict=True):
            assert mine.ids == list(other.token_ids[:8])
            assert mine.finished == (len(other.token_ids) <= 8 and not other.truncated)


def test_answers_and_their_spans(ours: list[list[Any]], theirs: list[list[Trace]]) -> None:
    found = [one.answer for one in itertools.chain(*theirs)]
    answers = [(None, (0, 0)) if one is None else (one.text, (one.start, one.end)) for one in found]
    assert [(mine.answer, mine.span) for mine in itertools.chain(*ours)] == answers
    assert max(end - start for _, (start, end) in answers) > 1, "no answer of several tokens among them"


def test_confidences(ours: list[list[Any]], theirs: list[list[Trace]]) -> None:
    found = [(mine.confidence, confidence(other)) for mine, other in both(ours, theirs)]
    np.testing.assert_allclose(*zip(*found, strict=True), atol=1e-6, rtol=0)
    assert np.ptp([mine for mine, _ in found]) > 0.3


@given(st.lists(st.lists(st.floats(-8, 8), min_size=5, max_size=5), min_size=1, max_size=6), st.data())
def test_disparity_of_any_logits(script: Any, rows: list[list[float]], data: st.DataObject) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    ids = [data.draw(st.integers(0, 4)) for _ in rows]
    probabilities = logits.softmax(-1).numpy()
    expected = [max(0.0, p[i] - np.delete(p, i).max()) for p, i in zip(probabilities, ids, strict=True)]
    np.testing.assert_allclose(script.disparity(logits, ids).numpy(), expected, atol=1e-12)


def preferences(theirs: Sequence[Sequence[Trace]]) -> Any:
    texts = {row[0].prompt_id: "" for row in theirs}
    confidences = [[confidence(trace) for trace in row] for row in theirs]
    return rank(theirs, confidences, RankingConfig(threshold=THRESHOLD), texts)[0]


def our_pairs(script: Any, ours: list[list[Any]]) -> list[Any]:
    return [pair for traces in ours for pair in script.preference_pairs(traces, THRESHOLD)]


def test_pairs(script: Any, ours: list[list[Any]], theirs: list[list[Trace]]) -> None:
    table = preferences(theirs)
    columns = (table[name].to_pylist() for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    found = [(chosen.prompt_ids, chosen.ids, rejected.ids) for chosen, rejected in our_pairs(script, ours)]
    assert sorted(found) == sorted(zip(*columns, strict=True))
    assert 10 < len(found) < QUESTIONS * BRANCHES * (BRANCHES - 1) / 2


def test_pairs_of_known_confidences(script: Any) -> None:
    def trace(value: float, finished: bool = True, answer: str | None = "1") -> Any:
        return script.Trace([1], [2], finished, answer=answer, confidence=value)

    traces = [trace(value) for value in (0.97, 0.92, 0.92, 0.5, 0.0)]
    found = [(a.confidence, b.confidence) for a, b in script.preference_pairs(traces, 0.9)]
    assert len(found) == 8
    assert (0.92, 0.92) not in found
    assert not script.preference_pairs([trace(0.9, finished=False), trace(0.95, answer=None), trace(0.1)], 0.9)


def test_loss_and_gradients(
    script: Any, model: Any, tokenizer: Any, ours: list[list[Any]], theirs: list[list[Trace]], tmp_path: Any
) -> None:
    """Of the same pairs, with a policy that has left its reference, by the library's own trainer."""
    table, pairs = preferences(theirs), our_pairs(script, ours)
    by_ids = {(tuple(a.prompt_ids), tuple(a.ids), tuple(b.ids)): (a, b) for a, b in pairs}
    config = TrainingConfig(beta=0.2, nll_weight=1.0, batch_size=6, max_steps=1, precompute_reference=False)
    policy = copy.deepcopy(model).float()
    arguments = trainer_arguments(config, policy, tmp_path, seed=0)
    prepared = usable_pairs(table, config, arguments, policy)
    trainer = build_trainer(policy, tokenizer, prepared, config, arguments)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.02)
    for either in (policy, trainer.ref_model):
        either.double()

    rows = [prepared.dataset[place] for place in range(0, len(prepared), max(1, len(prepared) // 6))][:6]
    expected = trainer.compute_loss(policy, trainer.data_collator(rows))
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}
    policy.zero_grad()
    same = [by_ids[tuple(row["prompt_ids"]), tuple(row["chosen_ids"]), tuple(row["rejected_ids"])] for row in rows]
    loss = script.dpo_loss(policy, copy.deepcopy(model), same, beta=0.2, nll_weight=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-5, msg=name)
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-3


def test_a_step_lowers_the_loss_and_leaves_the_reference(script: Any, model: Any, ours: list[list[Any]]) -> None:
    pairs = our_pairs(script, ours)[:8]
    policy, start = copy.deepcopy(model), copy.deepcopy(model)
    losses = script.train(policy, pairs * 4, steps=4, batch=8, rate=1e-4)
    with torch.no_grad():
        assert script.dpo_loss(policy, start, pairs, 0.2, 1.0) < script.dpo_loss(start, start, pairs, 0.2, 1.0)
    assert len(losses) == 4


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_error_is_the_library_s(script: Any, outcomes: list[tuple[float, bool]]) -> None:
    """Away from the edges of bins, which belong to the bin on the right here and to the one on the left there."""
    inside = [(value, right) for value, right in outcomes if abs(10 * value - round(10 * value)) > 1e-6]
    if inside:
        confidences, correct = zip(*inside, strict=True)
        assert script.calibration_error(confidences, correct) == pytest.approx(ece(confidences, correct), abs=1e-12)


@pytest.mark.slow
def test_the_script_teaches_the_model(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    results = script.main(["--questions", "60", "--test", "60", "--steps", "50"])
    assert results["after"]["accuracy"] > results["before"]["accuracy"] + 0.2
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[-4:-1]] == ["greedy", "before", "after"]
