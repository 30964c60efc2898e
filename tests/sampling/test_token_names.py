"""Token ids from what servers call tokens: right, or not told at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_tokenizer
from rlsf.sampling.served_completion import read_completion
from rlsf.sampling.token_names import TokenNames, numbered, prompt_text

KINDS = ("bpe", "unigram", "wordpiece")


def names_and_text(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> tuple[list[str], str]:
    return [str(tokenizer.decode([i])) for i in ids], str(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.fixture(scope="module")
def known(tokenizers_of_all_kinds: dict[str, PreTrainedTokenizerFast]) -> dict[str, TokenNames]:
    return {kind: TokenNames(tokenizer) for kind, tokenizer in tokenizers_of_all_kinds.items()}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_ids_are_right_or_not_told(known: dict[str, TokenNames], kind: str, data: st.DataObject) -> None:
    tokenizer = known[kind].tokenizer
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=8))
    names, text = names_and_text(tokenizer, ids)
    assert known[kind].sequence(names, text) in (ids, None)


def test_written_text_is_found_again(known: dict[str, TokenNames]) -> None:
    for text in ("The answer is 42.", "naïve café, 数 5!", " There are 12 apples"):
        ids = known["bpe"].tokenizer.encode(text, add_special_tokens=False)
        ids = [*ids, 2]
        assert known["bpe"].sequence(*names_and_text(known["bpe"].tokenizer, ids)) == ids


def test_a_name_is_the_token_s_own_or_nobody_s() -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(MODEL_DIR)))
    names = TokenNames(tokenizer)
    found = [names.one(str(tokenizer.decode([token]))) for token in range(len(tokenizer))]
    assert all(one in (token, None) for token, one in enumerate(found))
    assert sum(one is not None for one in found) > 0.7 * len(found)


def test_parts_of_a_character_alone_are_not_told(known: dict[str, TokenNames]) -> None:
    part = known["bpe"].tokenizer.encode("数", add_special_tokens=False)[0]
    names, text = names_and_text(known["bpe"].tokenizer, [part])
    assert names == ["\N{REPLACEMENT CHARACTER}"]
    assert known["bpe"].sequence(names, text) is None
    assert known["bpe"].one(names[0]) is None


@pytest.mark.parametrize(
    ("name", "token"), [("token_id:12", 12), ("token_id:", None), ("12", None), (" token_id:1", None)]
)
def test_numbered_names(name: str, token: int | None) -> None:
    assert numbered(name) == token


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_prompt_sent_as_text_encodes_to_its_ids(known: dict[str, TokenNames], kind: str, data: st.DataObject) -> None:
    tokenizer = known[kind].tokenizer
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=8))
    text = prompt_text(tokenizer, ids)
    assert text is None or tokenizer.encode(text) == ids


@pytest.mark.parametrize(
    "choice",
    [
        {"logprobs": None},
        {"text": "no field"},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None}},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"a": -1.0, "b": -2.0}]}},
        {"logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0, "b": -2.0}]}},
        {"logprobs": {"content": [{"token": "a", "logprob": -1.0}]}},
        {"logprobs": {"content": ["a"]}},
    ],
)
def test_malformed_answers_are_one_line(choice: dict) -> None:
    with pytest.raises(InputError, match="log-probabilities"):
        read_completion({"choices": [choice]}, "http://server/v1")


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": None}, {"choices": ["text"]}])
def test_answers_without_a_completion_are_one_line(answer: dict) -> None:
    with pytest.raises(InputError, match="without a completion"):
        read_completion(answer, "http://server/v1")
