"""Answers by asking the model and aligning its continuation to the trace."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.answers import align, elicitation_ids, elicitation_text
from rlsf.answers.config import AnswerConfig
from rlsf.answers.token_text import TokenText

ELICITED = AnswerConfig(format="elicited")
DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def digits(word_tokenizer):
    """A tokenizer in which the digit d is the token d + 3."""
    return word_tokenizer(DIGITS)


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def aligned(tokenizer, trace: str, continuation: str, **settings):
    return align(ids_of(tokenizer, trace), ids_of(tokenizer, continuation), tokenizer, **settings)


def test_last_or_earliest_of_equal_runs(digits) -> None:
    # Trace [7,1,5,9,1,5,8], answer [1,5]: the run stands at 1 and at 4.
    last = aligned(digits, "7 1 5 9 1 5 8", "1 5").answer
    earliest = aligned(digits, "7 1 5 9 1 5 8", "1 5", occurrence="earliest").answer
    assert last is not None
    assert earliest is not None
    assert (last.start, last.end) == (4, 6)
    assert (earliest.start, earliest.end) == (1, 3)


def test_no_overlap_has_a_reason(digits) -> None:
    finding = aligned(digits, "7 7 9", "1 5")
    assert finding.answer is None
    assert finding.failure == "the elicited answer '1' does not stand in the trace"


def test_a_continuation_without_an_answer_has_a_reason(tokenizer_of) -> None:
    finding = aligned(tokenizer_of("byte_level_bpe"), "The answer is 42.", " not clear.\n")
    assert finding.failure == "the elicited continuation 'not clear.' names no answer"


@given(trace=st.lists(st.sampled_from(DIGITS), min_size=1), continuation=st.lists(st.sampled_from(DIGITS), min_size=1))
def test_earliest_is_the_longest_match_of_difflib(digits, trace, continuation) -> None:
    finding = aligned(digits, " ".join(trace), " ".join(continuation), occurrence="earliest")
    match = difflib.SequenceMatcher(None, trace, continuation, autojunk=False).find_longest_match()
    assert (finding.answer is None) == (match.size == 0)
    if finding.answer is not None:
        assert (finding.answer.start, finding.answer.end) == (match.a, match.a + match.size)


@given(trace=st.lists(st.sampled_from(DIGITS), min_size=1), continuation=st.lists(st.sampled_from(DIGITS), min_size=1))
def test_last_is_the_longest_run_with_the_answer(digits, trace, continuation) -> None:
    """Against an exhaustive search; the answer is the first digit of the continuation."""
    runs = [
        (length, start)
        for start in range(len(trace))
        for length in range(1, len(trace) - start + 1)
        if trace[start : start + length] == continuation[:length]
    ]
    finding = aligned(digits, " ".join(trace), " ".join(continuation))
    assert (finding.answer is None) == (not runs)
    if finding.answer is not None:
        length, start = max(runs)
        assert (finding.answer.text, finding.answer.start, finding.answer.end) == (
            continuation[0],
            start,
            start + length,
        )


def test_a_shared_full_stop_is_no_answer(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    finding = aligned(tokenizer, "The answer is 42.", " 900.")
    assert finding.failure == "the elicited answer '900' does not stand in the trace"
    published = aligned(tokenizer, "The answer is 42.", " 900.", occurrence="earliest").answer
    assert published is not None
    assert (published.start, published.end) == (4, 5)


def test_a_digit_of_another_number_is_no_answer(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe_digits")
    assert aligned(tokenizer, "is 12 apples", " 18").answer is None
    answer = aligned(tokenizer, "is 18 and 12 apples", " 18").answer
    assert answer is not None
    assert tokenizer.decode(ids_of(tokenizer, "is 18 and 12 apples")[answer.start : answer.end]).strip() == "18"


def test_a_number_written_otherwise_is_covered_whole(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe_digits")
    trace = ids_of(tokenizer, "pays $1,234 in all.")
    answer = align(trace, ids_of(tokenizer, " 1234."), tokenizer).answer
    assert answer is not None
    assert answer.text == "1234"
    assert tokenizer.decode(trace[answer.start : answer.end]) == "1,234"


def test_an_answer_in_other_tokens_is_found_by_its_text(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    trace = ids_of(tokenizer, "pays $42, 12 pears, then $42 more.")
    continuation = ids_of(tokenizer, " 42")
    assert not set(trace) & set(continuation)
    answer = align(trace, continuation, tokenizer).answer
    assert answer is not None
    assert tokenizer.decode(trace[answer.start : answer.end]) == "42"
    assert "42" not in tokenizer.decode(trace[answer.end :])
    assert align(trace, continuation, tokenizer, "earliest").answer is None


def test_line_breaks_and_special_tokens_do_not_break_a_run(digits, tokenizer_of) -> None:
    eos = digits.eos_token_id
    one, five = ids_of(digits, "1 5")
    answer = align([one, eos, five, eos], [one, five, eos], digits).answer
    assert answer is not None
    assert (answer.start, answer.end) == (0, 3)
    tokenizer = tokenizer_of("byte_level_bpe")
    trace = [*ids_of(tokenizer, "is"), *ids_of(tokenizer, "\n"), *ids_of(tokenizer, " 42"), *ids_of(tokenizer, ".")]
    answer = align(trace, [*ids_of(tokenizer, "is"), *ids_of(tokenizer, " 42")], tokenizer).answer
    assert answer is not None
    assert (answer.start, answer.end) == (0, len(trace) - 1)


CHOICES = ("apples", "pears", "tickets")


@pytest.mark.parametrize(
    ("continuation", "letter", "written"),
    [
        (" (B) pears", "B", "(B)"),
        (" B.", "B", "B"),
        (" (b)", "B", "B"),
        (" pears", "B", "pears"),
        (" (C) tickets", "C", "tickets"),
        (" clearly (B).", "B", "(B)"),
        (" D", None, None),
        (" a bird", None, None),
    ],
)
def test_choices(tokenizer_of, continuation, letter, written) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    trace = ids_of(tokenizer, "She gets 5 tickets. Option (B) is right: pears.")
    answer = align(trace, ids_of(tokenizer, continuation), tokenizer, choices=CHOICES).answer
    if written is None:
        assert answer is None
        return
    assert answer is not None
    assert answer.text == letter
    assert written.strip("()") in tokenizer.decode(trace[answer.start : answer.end])


def test_an_article_is_no_option(tokenizer_of) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    trace = ids_of(tokenizer, "Take (A) or (B). A pear is fine.")
    answer = align(trace, ids_of(tokenizer, " A."), tokenizer, choices=CHOICES).answer
    assert answer is not None
    assert "(A" in tokenizer.decode(trace[: answer.end])
    assert "pear" not in tokenizer.decode(trace[: answer.end])
    assert align(ids_of(tokenizer, "A bird."), ids_of(tokenizer, "A."), tokenizer, choices=CHOICES).answer is None


def test_prompts_by_default_and_by_choice() -> None:
    assert "number" in elicitation_text(ELICITED)
    assert "(A) apples, (B) pears, (C) tickets" in elicitation_text(ELICITED, CHOICES)
    own = AnswerConfig(format="elicited", prompt="\nSo?")
    assert elicitation_text(own) == elicitation_text(own, CHOICES) == "\nSo?"


def test_the_prompt_follows_the_trace_and_stays_out_of_it(tokenizer) -> None:
    prompt, trace = [5, 6], ids_of(tokenizer, "The answer is 42.")
    ended = [*trace, tokenizer.eos_token_id, tokenizer.pad_token_id]
    before = list(ended)
    asked = elicitation_ids(tokenizer, prompt, ended, ELICITED)
    assert list(asked[: 2 + len(trace)]) == prompt + trace
    assert list(asked[2 + len(trace) :]) == ids_of(tokenizer, elicitation_text(ELICITED))
    # Aligning reads the trace: its tokens and its text are what they were, free of mark-up and prompt.
    align(ended, ids_of(tokenizer, " 42"), tokenizer)
    assert ended == before
    text = TokenText.from_ids(tokenizer, ended).text
    assert "[" not in text
    assert elicitation_text(ELICITED).strip() not in text


def test_a_decimal_answer_leaves_no_fragment(tokenizer_of) -> None:
    # The published clean-up cuts at full stops, so that "3.5" left "... is 3." behind in the training text.
    tokenizer = tokenizer_of("byte_level_bpe")
    trace = ids_of(tokenizer, "12 apples, so 3.5")
    answer = align(trace, ids_of(tokenizer, " 3.5."), tokenizer).answer
    assert answer is not None
    assert answer.text == "3.5"
    assert tokenizer.decode(trace[answer.start : answer.end]).strip() == "3.5"
    assert TokenText.from_ids(tokenizer, trace).text == "12 apples, so 3.5"


def test_an_empty_trace_is_asked_too(digits) -> None:
    asked = elicitation_ids(digits, [3], [digits.eos_token_id], AnswerConfig(format="elicited", prompt="1"))
    assert asked == (3, 4)
    assert align([digits.eos_token_id], ids_of(digits, "1"), digits).answer is None
