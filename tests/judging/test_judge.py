"""The judge: what a plain forward pass says of each question, what is read for it, what it does not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_judges import CASE, judge_model, letters_tokenizer, probability, words_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import InputError
from rlsf.judging import Case, Judge, JudgeConfig, Judgement, statements
from rlsf.judging.wording import Questions
from rlsf.judging.words import spellings
from rlsf.sampling.randomness import trace_uniforms

SEED = 3


def drawn(case: Case, count: int) -> list[int]:
    uniforms = trace_uniforms(SEED, case.prompt_id, 0, len(case.reasonings))
    return sorted(range(len(case.reasonings)), key=lambda number: uniforms[number])[:count]


def plain(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: JudgeConfig, case: Case
) -> list[Judgement]:
    """Question by question, word by word, without anything shared."""
    questions = Questions(config, case)
    attempts = drawn(case, config.context + 1) if config.context else []

    def two_way(text: str) -> float:
        ids = tokenizer(text)["input_ids"]
        true, false = (
            sum(probability(model, ids, spelling) for spelling in spellings(tokenizer, word))
            for word in ("True", "False")
        )
        return true / (true + false)

    found = []
    for number, (reasoning, answer) in enumerate(zip(case.reasonings, case.answers, strict=True)):
        if config.reasoning == "monolithic":
            values = [two_way(questions.about_reasoning(number, attempts))]
        else:
            parts = statements(reasoning)
            values = [two_way(questions.about_statement("".join(parts[:t]), parts[t])) for t in range(len(parts))]
        of_answer = None if answer is None else two_way(questions.about_answer(number, answer))
        found.append((sum(values) / len(values), of_answer))
    return found


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", JudgeConfig()),
        ("llama", JudgeConfig(context=2, template="terse")),
        ("llama", JudgeConfig(context=0)),
        ("llama", JudgeConfig(reasoning="statement_wise")),
        ("gpt2", JudgeConfig()),
        ("mamba", JudgeConfig(context=2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plain_forward_pass_a_question(name: str, config: JudgeConfig, dtype: torch.dtype) -> None:
    model, tokenizer = judge_model(name, dtype=dtype), words_tokenizer()
    [found] = Judge(model, tokenizer, config, seed=SEED).judge([CASE])
    for judgement, (reasoning, answer) in zip(found, plain(model, tokenizer, config, CASE), strict=True):
        assert judgement.confidence("reasoning") == pytest.approx(reasoning, abs=2e-5)
        assert judgement.confidence("answer") == (None if answer is None else pytest.approx(answer, abs=2e-5))
        assert judgement.confidence("composite") == (
            None if answer is None else pytest.approx(answer * reasoning, abs=2e-5)
        )


def test_words_without_tokens_have_the_product_of_their_letters() -> None:
    model, tokenizer, config = judge_model(context=2000), letters_tokenizer(), JudgeConfig(context=1, template="terse")
    case = replace(CASE, reasonings=CASE.reasonings[:2], answers=CASE.answers[:2])
    [found] = Judge(model, tokenizer, config, seed=SEED).judge([case])
    for judgement, (reasoning, answer) in zip(found, plain(model, tokenizer, config, case), strict=True):
        assert judgement.confidence("reasoning") == pytest.approx(reasoning, rel=2e-4)
        assert judgement.confidence("answer") == pytest.approx(answer, rel=2e-4)


def test_the_attempts_of_a_question_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = judge_model(), words_tokenizer()
    judge = Judge(model, tokenizer, JudgeConfig(confidence="reasoning"), seed=SEED)
    read: list[tuple[int, ...]] = []
    forward = type(model).forward

    def noting(self: PreTrainedModel, input_ids: torch.Tensor, **options: object) -> object:
        read.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(model, "forward", noting.__get__(model))
    list(judge.judge([CASE]))
    questions = Questions(judge.config, CASE)
    lengths = [len(tokenizer(questions.about_reasoning(number, drawn(CASE, 5)))["input_ids"]) for number in range(5)]
    # One pass over what is shared, and one over five selected reasonings, padded to the longest.
    (one, beginning), (five, rest) = read
    assert (one, five) == (1, 5)
    assert beginning + rest == max(lengths)
    listed = sum(len(reasoning.split()) for reasoning in CASE.reasonings)
    assert beginning > listed
    assert rest < len(tokenizer(CASE.reasonings[3])["input_ids"]) + 25


def test_neither_order_nor_batch_nor_neighbours_matter() -> None:
    model, tokenizer = judge_model(), words_tokenizer()
    cases = [replace(CASE, prompt_id=f"q{number}", question=f"t{number}") for number in range(4)]
    expected = list(Judge(model, tokenizer, seed=SEED).judge(cases))
    assert expected[0] != expected[1]
    for batch_tokens in (1, 200, 100_000):
        judge = Judge(model, tokenizer, seed=SEED, batch_tokens=batch_tokens)
        for found, case in ((list(judge.judge(reversed(cases)))[::-1], cases), (list(judge.judge(cases)), cases)):
            assert len(found) == len(case)
            for one, other in zip(found, expected, strict=True):
                for mine, theirs in zip(one, other, strict=True):
                    assert mine.confidence("reasoning") == pytest.approx(theirs.confidence("reasoning"), abs=1e-5)
                    assert mine.confidence("answer") == pytest.approx(theirs.confidence("answer"), abs=1e-5)


def test_the_seed_alone_decides_what_stands_beside() -> None:
    model, tokenizer = judge_model(), words_tokenizer()
    one, other, again = (
        list(Judge(model, tokenizer, JudgeConfig(context=1), seed=seed).judge([CASE])) for seed in (1, 2, 1)
    )
    assert one == again
    assert [judgement.reasoning for judgement in one[0]] != [judgement.reasoning for judgement in other[0]]
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert mine.confidence("answer") == pytest.approx(theirs.confidence("answer"), abs=1e-5)


def test_only_what_is_asked_for_is_judged() -> None:
    model, tokenizer = judge_model(), words_tokenizer()
    [reasonings] = Judge(model, tokenizer, JudgeConfig(confidence="reasoning")).judge([CASE])
    [answers] = Judge(model, tokenizer, JudgeConfig(confidence="answer")).judge([CASE])
    assert all(judgement.answer is None and len(judgement.reasoning) == 1 for judgement in reasonings)
    assert all(not judgement.reasoning and judgement.attempts == 0 for judgement in answers)
    assert [judgement.answer is None for judgement in answers] == [answer is None for answer in CASE.answers]


def test_a_short_context_has_fewer_attempts_and_then_no_judgement() -> None:
    config = JudgeConfig(confidence="reasoning", template="terse")
    counts = {}
    for context in (512, 29, 18, 7):
        [found] = Judge(judge_model(context=context), words_tokenizer(), config).judge([CASE])
        counts[context] = [judgement.attempts for judgement in found]
        asked = [bool(judgement.reasoning) for judgement in found]
        assert all(asked) if context > 7 else not any(asked)
    assert counts[512] == [5] * 5
    assert 0 < counts[29][0] < 5
    assert counts[18] == counts[7] == [0] * 5


def test_nothing_is_judged_of_an_empty_reasoning_and_of_no_case() -> None:
    model, tokenizer = judge_model(), words_tokenizer()
    case = replace(CASE, reasonings=(" ", *CASE.reasonings[1:]), answers=(None, *CASE.answers[1:]))
    [found] = Judge(model, tokenizer).judge([case])
    assert found[0] == Judgement()
    assert found[1].attempts == 4
    assert list(Judge(model, tokenizer).judge([])) == []


def test_words_that_the_model_cannot_say() -> None:
    with pytest.raises(InputError, match=r"judge\.true_word"):
        Judge(judge_model(), words_tokenizer(), JudgeConfig(true_word="Verum"))
