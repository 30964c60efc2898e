"""Vital signs of completions against closed forms."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics
from rlsf.traces import Trace
from rlsf.training.vital_signs import repetition, vital_signs

VOCABULARY = 4
#: KL(U || p) and entropy of the softmax of [ln 8, 0, 0, 0], in nats.
SELF_CERTAINTY, ENTROPY = 0.491741, 0.885574


def completion(prompt_id: str, token_ids: Sequence[int], entropy: Sequence[float] | None = None, cut: bool = False):
    """A trace whose distributions are softmax [ln 8, 0, 0, 0], except for other entropies where given."""
    length = len(token_ids)
    columns: dict[str, Any] = {name: np.zeros(length, np.float32) for name in STATISTIC_NAMES}
    columns["top1_id"] = np.zeros(length, np.int32)
    columns["logsumexp"] = np.full(length, math.log(11), np.float32)
    columns["mean_logit"] = np.full(length, math.log(8) / VOCABULARY, np.float32)
    columns["entropy"] = np.array([ENTROPY] * length if entropy is None else entropy, np.float32)
    return Trace(
        prompt_id=prompt_id,
        index=0,
        strategy="sampling",
        prompt_token_ids=np.zeros(1, np.int32),
        token_ids=np.array(token_ids, np.int32),
        text="",
        finish_reason="length" if cut else "eos",
        statistics=TokenStatistics(**columns, vocabulary_size=VOCABULARY),
    )


def groups(*answers: Sequence[str | None]) -> tuple[list[Trace], list[str | None]]:
    """Prompts with these answers."""
    traces = [completion(f"p{prompt}", [1]) for prompt, given in enumerate(answers) for _ in given]
    return traces, [answer for given in answers for answer in given]


def test_means_are_over_tokens() -> None:
    """A long completion counts by its tokens: (3 x 1 + 1 x 0.2) / 4, and not (1 + 0.2) / 2."""
    signs = vital_signs([completion("p", [1, 2, 3], [1.0] * 3), completion("p", [1], [0.2])], [None, None])
    assert signs["entropy"] == pytest.approx(0.8)
    assert signs["mean_tokens"] == 2


def test_self_certainty_and_entropy_by_hand() -> None:
    p = np.array([8, 1, 1, 1]) / 11
    assert -(p * np.log(p)).sum() == pytest.approx(ENTROPY, abs=1e-6)
    signs = vital_signs([completion("p", [1, 2]), completion("q", [3])], ["1", "2"])
    assert signs["self_certainty"] == pytest.approx(SELF_CERTAINTY, abs=1e-6)
    assert signs["entropy"] == pytest.approx(ENTROPY, abs=1e-6)


def test_shares_of_completions() -> None:
    traces = [completion("p", [1], cut=cut) for cut in (True, False, False, False)]
    signs = vital_signs(traces, ["7", None, None, "7"])
    assert signs["truncated"] == 0.25
    assert signs["without_answer"] == 0.5


@pytest.mark.parametrize(
    ("token_ids", "expected"),
    [
        ([], 0),
        ([1, 1, 1], 0),
        ([1, 1, 1, 1], 0),
        ([1, 1, 1, 1, 1], 1 / 2),
        ([1, 2, 3, 4, 5, 6, 7, 8], 0),
        # 1234 2341 3412 4123 1234: one of five came before
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5),
        # The same tokens in another order are no repetition.
        ([1, 2, 3, 4, 4, 3, 2, 1], 0),
    ],
)
def test_repetition_by_hand(token_ids: list[int], expected: float) -> None:
    assert repetition(token_ids) == pytest.approx(expected)


@given(st.integers(1, 9), st.integers(20, 300))
def test_repetition_of_a_periodic_completion(period: int, length: int) -> None:
    token_ids = [place % period for place in range(length)]
    assert repetition(token_ids) == pytest.approx(1 - period / (length - 3))


@given(st.lists(st.integers(0, 2), max_size=40))
def test_repetition_counts_what_came_before(token_ids: list[int]) -> None:
    runs = [tuple(token_ids[start : start + 4]) for start in range(len(token_ids) - 3)]
    before = [run in runs[:place] for place, run in enumerate(runs)]
    assert repetition(token_ids) == pytest.approx(sum(before) / len(runs) if runs else 0)


def test_repetition_does_not_look_across_completions() -> None:
    signs = vital_signs([completion("p", [1, 2, 3, 4]), completion("p", [1, 2, 3, 4])], [None, None])
    assert signs["repetition"] == 0


def test_group_agreement_by_hand() -> None:
    """2 of 4 with equivalent spellings, 1 of 2 (None agrees with none), 0 of 1."""
    signs = vital_signs(*groups(["1/2", "0.5", "3", None], ["7", None], [None]))
    assert signs["group_agreement"] == pytest.approx((2 / 4 + 1 / 2 + 0) / 3)


def test_commonest_answer_counts_each_prompt_once() -> None:
    """The prompts' answers are 7, 7, 9, none; that 9 was given most often in all does not matter."""
    signs = vital_signs(*groups(["7", "7.0", "8"], ["$7$"], ["9"] * 6, [None]))
    assert signs["commonest_answer"] == 2 / 4


def test_nobody_answers() -> None:
    signs = vital_signs(*groups([None, None], [None]))
    assert (signs["commonest_answer"], signs["group_agreement"], signs["without_answer"]) == (0, 0, 1)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_one_answer_to_everything(sizes: list[int]) -> None:
    signs = vital_signs(*groups(*(["12"] * size for size in sizes)))
    assert signs["commonest_answer"] == signs["group_agreement"] == 1


@given(st.integers(1, 12))
def test_different_answers_to_different_prompts(prompts: int) -> None:
    signs = vital_signs(*groups(*([str(prompt)] * 3 for prompt in range(prompts))))
    assert signs["commonest_answer"] == pytest.approx(1 / prompts)
    assert signs["group_agreement"] == 1


@st.composite
def batches(draw: st.DrawFn) -> list[list[tuple[Trace, str | None]]]:
    """Prompts, each with its completions and answers."""
    batch = []
    for prompt in range(draw(st.integers(1, 5))):
        completions = draw(
            st.lists(
                st.tuples(
                    st.lists(st.integers(0, 2), min_size=1, max_size=12),
                    st.floats(0, 1),
                    st.booleans(),
                    st.sampled_from([None, "1", "2", "3"]),
                ),
                min_size=1,
                max_size=4,
            )
        )
        batch.append(
            [(completion(f"p{prompt}", ids, [h] * len(ids), cut), answer) for ids, h, cut, answer in completions]
        )
    return batch


@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(
    batch: list[list[tuple[Trace, str | None]]], randomness: random.Random
) -> None:
    shuffled = randomness.sample(batch, len(batch))
    first, second = (
        vital_signs(*zip(*(row for prompt in prompts for row in prompt), strict=True)) for prompts in (batch, shuffled)
    )
    assert first == pytest.approx(second)
    assert all(0 <= first[name] <= 1 for name in first if name not in ("entropy", "self_certainty", "mean_tokens"))


@given(batches())
def test_repeating_the_batch_under_other_ids_changes_nothing(batch: list[list[tuple[Trace, str | None]]]) -> None:
    """All signs are means or shares, so that they do not depend on how many prompts are looked at."""
    rows = [row for prompt in batch for row in prompt]
    traces, answers = [trace for trace, _ in rows], [answer for _, answer in rows]
    again = [completion(f"again-{t.prompt_id}", t.token_ids, t.statistics.entropy, t.truncated) for t in traces]
    assert vital_signs(traces + again, answers * 2) == pytest.approx(vital_signs(traces, answers))


def test_mistakes() -> None:
    with pytest.raises(InputError, match="1 completions but 2 answers"):
        vital_signs([completion("p", [1])], ["1", "2"])
    with pytest.raises(InputError, match="0 completions without a token"):
        vital_signs([], [])
    with pytest.raises(InputError, match="1 completions without a token"):
        vital_signs([completion("p", [])], [None])


@pytest.mark.parametrize("module", ["vital_signs", "guard", "guard_config"])
def test_import_is_light(module: str) -> None:
    code = (
        f"import rlsf.training.{module}, sys; print({{'torch', 'transformers', 'trl', 'datasets'}} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
