"""The judge: what a plain forward pass says of each question, what is read for it, what it does not depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from small_judges import CASE, WORDS, judge_model, letters_tokenizer, probability, words_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import InputError
from rlsf.judging import Case, Judge, JudgeConfig, Judgement, statements
from rlsf.judging.judgement import Said
from rlsf.judging.wording import Questions
from rlsf.judging.words import spellings
from rlsf.prompts.config import RenderConfig
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

    def said(text: str) -> Said:
        return plainly_said(model, tokenizer, tokenizer(text)["input_ids"])

    found = []
    for number, (reasoning, answer) in enumerate(zip(case.reasonings, case.answers, strict=True)):
        if config.reasoning == "monolithic":
            beside = attempts if config.own_attempt else [one for one in attempts if one != number][: config.context]
            values = [said(questions.about_reasoning(number, beside))]
        else:
            parts = statements(reasoning, config.statements)
            values = [said(questions.about_statement("".join(parts[:t]), parts[t])) for t in range(len(parts))]
        of_answer = None if answer is None else said(questions.about_answer(number, answer))
        found.append(Judgement(tuple(values), of_answer))
    return found


def plainly_said(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Said:
    """Both words after ``ids``, spelling by spelling."""
    return Said(
        *(
            sum(probability(model, ids, spelling) for spelling in spellings(tokenizer, word))
            for word in ("True", "False")
        )
    )


def assert_same(found: Sequence[Judgement], expected: Sequence[Judgement], rel: float) -> None:
    """Word by word: of a word that is far more probable than the other, the two-way probability says nothing."""
    for mine, theirs in zip(found, expected, strict=True):
        for one, other in zip((*mine.reasoning, mine.answer), (*theirs.reasoning, theirs.answer), strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert (one.true, one.false) == pytest.approx((other.true, other.false), rel=rel, abs=0)
                assert one.confidence() == pytest.approx(other.confidence(), rel=rel)
        parts = [mine.confidence("reasoning"), mine.confidence("answer")]
        assert mine.confidence("composite") == (None if None in parts else pytest.approx(math.prod(parts)))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", JudgeConfig()),
        ("llama", JudgeConfig(context=2, template="terse")),
        ("llama", JudgeConfig(context=0)),
        ("llama", JudgeConfig(context=2, own_attempt=False)),
        ("llama", JudgeConfig(own_attempt=False)),
        ("llama", JudgeConfig(reasoning="statement_wise")),
        ("llama", JudgeConfig(reasoning="statement_wise", statements="lines")),
        ("gpt2", JudgeConfig()),
        ("mamba", JudgeConfig(context=2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plain_forward_pass_a_question(name: str, config: JudgeConfig, dtype: torch.dtype) -> None:
    model, tokenizer = judge_model(name, dtype=dtype), words_tokenizer()
    [found] = Judge(model, tokenizer, config, seed=SEED).judge([CASE])
    # Probabilities are of float32 in either case; what comes before them is not.
    assert_same(found, plain(model, tokenizer, config, CASE), rel=1e-3 if dtype == torch.float32 else 1e-4)


def test_without_its_own_attempt_a_reasoning_stands_beside_the_others_alone() -> None:
    model, tokenizer = judge_model(), words_tokenizer()
    for context, shown in ((4, 4), (9, 4), (2, 2), (0, 0)):
        config = JudgeConfig(confidence="reasoning", context=context, own_attempt=False)
        [found] = Judge(model, tokenizer, config, seed=SEED).judge([CASE])
        assert [judgement.attempts for judgement in found] == [shown] * 5


CHAT = (
    "{% for one in messages %}<{{ one.role }}> {{ one.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %} {{ mood }}"
)


def test_a_chat_model_is_asked_under_its_template_and_without_what_is_for_solving() -> None:
    model = judge_model()
    tokenizer = words_tokenizer([*WORDS, "<user>", "<assistant>", "<system>", "t_calm", "t_sure"])
    tokenizer.chat_template = CHAT
    config = JudgeConfig(confidence="answer")
    question = Questions(config, CASE).about_answer(0, "t53")
    for_solving = {"system": "t1 t2", "few_shot": "t3 t4", "template": "t5 {question}"}

    def asked(**render: object) -> float | None:
        settings = RenderConfig.model_validate({**for_solving, **render})
        [found] = Judge(model, tokenizer, config, render=settings).judge([CASE])
        return found[0].confidence("answer")

    def plainly(text: str) -> float | None:
        return plainly_said(model, tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]).confidence()

    calm = plainly(f"<user> {question} <assistant> t_calm")
    assert asked(chat_arguments={"mood": "t_calm"}) == pytest.approx(calm, abs=1e-5)
    sure = plainly(f"<user> {question} <assistant> t_sure")
    assert asked(chat="always", chat_arguments={"mood": "t_sure"}) == pytest.approx(sure, abs=1e-5)
    assert asked(chat="never") == pytest.approx(plainly(question), abs=1e-5)
    assert len({f"{value:.4f}" for value in (calm, sure, plainly(question))}) == 3


def test_words_without_tokens_have_the_product_of_their_letters() -> None:
    model, tokenizer, config = judge_model(context=2000), letters_tokenizer(), JudgeConfig(context=1, template="terse")
    case = replace(CASE, reasonings=CASE.reasonings[:2], answers=CASE.answers[:2])
    [found] = Judge(model, tokenizer, config, seed=SEED).judge([case])
    assert_same(found, plain(model, tokenizer, config, case), rel=1e-3)


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


@pytest.mark.parametrize(("build", "longest"), [(words_tokenizer, 1), (letters_tokenizer, len(" False"))])
def test_a_question_fits_where_the_longest_word_still_fits_after_it(
    build: Callable[[], PreTrainedTokenizerBase], longest: int
) -> None:
    tokenizer, config = build(), JudgeConfig(confidence="answer", template="terse")
    case = replace(CASE, reasonings=CASE.reasonings[:1], answers=CASE.answers[:1])
    length = len(tokenizer(Questions(config, case).about_answer(0, "t53"))["input_ids"])
    for context, fits in ((length + longest - 1, False), (length + longest, True)):
        [[found]] = Judge(judge_model(context=context), tokenizer, config).judge([case])
        assert (found.answer is not None) == fits


def test_what_does_not_fit_takes_nothing_else_with_it() -> None:
    tokenizer = words_tokenizer()
    case = replace(CASE, answers=("t53", " ".join(["t62"] * 60), None, "t83", "t91"))
    long, short = " ".join(["t4"] * 60), "t50. t51. t52."
    questions = Questions(JudgeConfig(template="terse"), case)
    context = len(tokenizer(questions.about_reasoning(1, []))["input_ids"]) + 20
    [found] = Judge(judge_model(context=context), tokenizer, JudgeConfig(context=0, template="terse")).judge([case])
    assert [bool(judgement.reasoning) for judgement in found] == [True] * 5
    assert [judgement.answer is not None for judgement in found] == [True, False, False, True, True]
    # Of a reasoning with one statement that cannot be asked about, none is; its neighbours are.
    case = replace(CASE, reasonings=(f"t50. {long}. t51.", short), answers=("t53", "t62"))
    config = JudgeConfig(confidence="reasoning", reasoning="statement_wise", template="terse")
    [found] = Judge(judge_model(context=context), tokenizer, config).judge([case])
    assert [len(judgement.reasoning) for judgement in found] == [0, 3]


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
