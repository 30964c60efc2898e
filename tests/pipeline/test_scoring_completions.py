"""Records of other engines: every customary shape is read, and every malformed one named with its place."""

from __future__ import annotations

from typing import Any

import pytest

from rlsf.errors import InputError
from rlsf.pipeline.completions import Completions, read_completions
from rlsf.pipeline.scoring_config import CompletionColumns
from rlsf.prompts.fields import Row

USER = {"role": "user", "content": "Q?"}
REPLY = {"role": "assistant", "content": "A."}
IN_PARTS = {"role": "assistant", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "."}]}
NOT_TEXT = {"role": "assistant", "content": 7}
#: A completion "A." of which nothing more is known, and one that was cut.
WHOLE, CUT = ("A.", None, False), ("A.", None, True)


def read(record: dict[str, Any], **columns: str) -> Completions:
    return read_completions(Row("d.jsonl:7", record), CompletionColumns(**columns))


def samples(record: dict[str, Any], **columns: str) -> list[tuple[str | None, list[int] | None, bool]]:
    found = read(record, **columns).samples
    return [
        (sample.text, None if sample.token_ids is None else sample.token_ids.tolist(), sample.truncated)
        for sample in found
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "Q?", "completion": "A."}, [WHOLE]),
        ({"prompt": "Q?", "completion": ["A.", "", None]}, [WHOLE, ("", None, False), ("", None, False)]),
        ({"prompt": "Q?", "completion": None}, [("", None, False)]),
        ({"prompt": "Q?", "completion": []}, [("", None, False)]),
        ({"prompt": [USER], "completion": [REPLY]}, [WHOLE]),
        ({"prompt": [USER], "completion": REPLY}, [WHOLE]),
        ({"prompt": [USER], "completions": [[REPLY], [REPLY]]}, [WHOLE] * 2),
        ({"messages": [USER, REPLY]}, [WHOLE]),
        ({"messages": [USER], "response": "A."}, [WHOLE]),
        ({"prompt": "Q?", "responses": ["A.", "A."], "finish_reason": ["stop", "length"]}, [WHOLE, CUT]),
        ({"prompt": "Q?", "completion": ["A.", "A."], "finish_reason": "length"}, [CUT, CUT]),
        ({"prompt": "Q?", "completion": "A.", "token_ids": [4, 5]}, [("A.", [4, 5], False)]),
        ({"prompt": "Q?", "token_ids": [[4], []]}, [(None, [4], False), (None, [], False)]),
        ({"prompt_ids": [1, 2], "completion_ids": [4]}, [(None, [4], False)]),
        ({"prompt": "Q?", "completion": ["A", "B"], "token_ids": [[4], [5]]}, [("A", [4], False), ("B", [5], False)]),
        (
            {
                "request_id": "r",
                "prompt": "Q?",
                "prompt_token_ids": [1],
                "outputs": [
                    {"index": 0, "text": "A.", "token_ids": [4, 5], "finish_reason": "stop"},
                    {"index": 1, "text": "B", "token_ids": [6], "finish_reason": "length"},
                ],
            },
            [("A.", [4, 5], False), ("B", [6], True)],
        ),
        (
            {"messages": [USER], "choices": [{"message": REPLY, "finish_reason": "length"}, {"message": REPLY}]},
            [CUT, WHOLE],
        ),
        ({"prompt": "Q?", "choices": [{"text": "A.", "finish_reason": "stop"}]}, [WHOLE]),
        (
            {"prompt": [USER], "completion": IN_PARTS},
            [WHOLE],
        ),
        ({"prompt": "Q?", "completion": "A.", "finish_reason": {"type": "length", "length": 8}}, [CUT]),
    ],
)
def test_customary_shapes(record: dict[str, Any], expected: list[tuple[str | None, list[int] | None, bool]]) -> None:
    assert samples(record) == expected


def test_prompts_ids_and_options() -> None:
    record = read(
        {"prompt_id": 7, "prompt": "Q?", "prompt_token_ids": [1, 2], "completion": "B", "choices": ["x", "y"]}
    )
    assert (record.place, record.prompt_id, record.prompt, record.choices) == ("d.jsonl:7", "7", "Q?", ("x", "y"))
    assert record.prompt_token_ids is not None
    assert record.prompt_token_ids.tolist() == [1, 2]
    assert read({"messages": [USER, REPLY, USER, REPLY]}).prompt == [USER, REPLY, USER]
    assert read({"prompt": "Q?", "completion": "B"}).choices == ()


def test_columns_of_other_names() -> None:
    record = {"request": {"text": "Q?"}, "generated": [{"ids": [3]}], "why": "length", "key": "a"}
    columns = {"prompt": "request.text", "token_ids": "generated.ids", "finish_reason": "why", "id": "key"}
    assert samples(record, **columns) == [(None, [3], True)]
    assert read(record, **columns).prompt_id == "a"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"promt": "Q?", "completion": "A."}, r"no column prompt, .* \(did you mean 'promt'.*--columns.prompt"),
        ({"prompt": "Q?", "generated_text": "A."}, r"name the completion's with --columns\.completion"),
        ({"prompt": "Q?", "choices": ["x", "y"]}, r"no column completion"),
        ({"prompt": None, "completion": "A."}, r"neither a prompt nor its token ids"),
        ({"prompt": 7, "completion": "A."}, r"'prompt' must be text or a list of messages"),
        ({"prompt": [{"role": "user"}], "completion": "A."}, r"'prompt' must be text or a list of messages"),
        ({"prompt": "Q?", "completion": 7}, r"a completion in 'completion' must be text, .* found int"),
        ({"prompt": "Q?", "completion": [REPLY, USER, REPLY]}, r"a completion of 3 messages"),
        ({"prompt": "Q?", "completion": NOT_TEXT}, r"of a message in 'completion' is not text"),
        ({"prompt": "Q?", "outputs": [{"logprob": -1.0}]}, r"a completion in 'outputs' must be text"),
        ({"prompt": "Q?", "token_ids": "4 5"}, r"the token ids in 'token_ids' must be a list"),
        ({"prompt": "Q?", "token_ids": [4, 5.0]}, r"must be a list of integers"),
        ({"prompt": "Q?", "token_ids": [2**40]}, r"must be a list of integers"),
        ({"prompt_ids": [True], "token_ids": [4]}, r"the token ids in 'prompt_ids' must be a list of integers"),
        ({"prompt": "Q?", "completion": ["A.", "B."], "token_ids": [[4]]}, r"1 in 'token_ids' for 2 completions"),
        ({"prompt": "Q?", "completion": "A.", "finish_reason": ["a", "b"]}, r"2 in 'finish_reason' for 1 completion"),
        ({"prompt": "Q?", "completion": "half \ud83d"}, r"'completion' holds half a surrogate pair at character 5"),
        ({"prompt": "Q?", "completion": "A.", "id": 1.5}, r"the id in 'id' must be text or an integer"),
        ({"prompt": "Q?", "completion": "A.", "options": ["one"]}, r"1 choices: give from 2 to 26"),
    ],
)
def test_malformed_records(record: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^d\.jsonl:7: .*{message}"):
        read(record)


def test_a_named_column_must_be_there() -> None:
    with pytest.raises(InputError, match=r"d\.jsonl:7: no column 'promtp' \(did you mean 'prompt'\?\); available"):
        read({"prompt": "Q?", "completion": "A."}, prompt="promtp")
