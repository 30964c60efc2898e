"""`rlsf best-of-n --traces` on files as other engines write them, and what is odd about such files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mistakes import Fails, Succeeds, write

from rlsf.cli.app import execute
from rlsf.files import read_json

Chooses = Callable[..., str]
PROMPTS = [
    "Q: Tom has 3 apples and buys 4 more. How many now?\nA:",
    "Q: Lily has 9 stamps and loses 2. How many now?\nA:",
]
TEXTS = [["It is 7.", "I say 9", "So 7"], ["The answer is 7.", "11!", "no idea"]]
#: Of two tokens each: their mean is -.2, -.3, -.4.
LOGPROBS = [[-0.1, -0.3], [-0.1, -0.5], [-0.1, -0.7]]
EXPECTED = [math.exp(mean) for mean in (-0.2, -0.3, -0.4)]


@pytest.fixture
def chooses(succeeds: Succeeds) -> Chooses:
    """A function that runs `rlsf best-of-n`, expects it to succeed, and returns what it printed."""
    return partial(succeeds, "best-of-n")


def rows(folder: Path, selector: str) -> list[dict[str, Any]]:
    lines = (folder / "selection" / "answers.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["selector"] == selector]


def vllm() -> list[dict[str, Any]]:
    """Offline outputs of vLLM, whose log-probabilities are those of the likeliest tokens by id at each place."""
    return [
        {
            "request_id": str(number),
            "prompt": prompt,
            "outputs": [
                {
                    "index": index,
                    "text": text,
                    "token_ids": [5, 9],
                    "cumulative_logprob": sum(LOGPROBS[index]),
                    "logprobs": [
                        {"8": {"logprob": -9.0, "rank": 2}, str(id): {"logprob": value, "rank": 1}}
                        for id, value in zip([5, 9], LOGPROBS[index], strict=True)
                    ],
                    "finish_reason": "stop",
                }
                for index, text in enumerate(texts)
            ],
        }
        for number, (prompt, texts) in enumerate(zip(PROMPTS, TEXTS, strict=True))
    ]


def chats() -> list[dict[str, Any]]:
    """OpenAI's chat completions with n = 3 and log-probabilities, beside the messages that were sent."""
    return [
        {
            "id": f"chatcmpl-{number}",
            "messages": [{"role": "user", "content": prompt}],
            "choices": [
                {
                    "index": index,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                    "logprobs": {"content": [{"token": "a", "logprob": value} for value in LOGPROBS[index]]},
                }
                for index, text in enumerate(texts)
            ],
        }
        for number, (prompt, texts) in enumerate(zip(PROMPTS, TEXTS, strict=True))
    ]


def batches() -> list[dict[str, Any]]:
    """What OpenAI's batches return: no prompt."""
    return [
        {"id": "batch_req", "custom_id": chat["id"], "response": {"status_code": 200, "body": chat}} for chat in chats()
    ]


def completed() -> list[dict[str, Any]]:
    """OpenAI's completions of a text, as vLLM's server returns them too."""
    return [
        {
            "id": f"cmpl-{number}",
            "prompt": prompt,
            "choices": [
                {"text": text, "finish_reason": "stop", "logprobs": {"tokens": ["a", "b"], "token_logprobs": tokens}}
                for text, tokens in zip(texts, LOGPROBS, strict=True)
            ],
        }
        for number, (prompt, texts) in enumerate(zip(PROMPTS, TEXTS, strict=True))
    ]


def harness(*filters: str) -> list[dict[str, Any]]:
    """lm-eval's logged samples with three repeats, a record for each filter."""
    return [
        {
            "doc_id": number,
            "doc": {"question": prompt},
            "target": "7",
            "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["Q:"]}}},
            "resps": [texts],
            "filtered_resps": ["7"],
            "filter": kind,
            "exact_match": 1.0,
        }
        for number, (prompt, texts) in enumerate(zip(PROMPTS, TEXTS, strict=True))
        for kind in filters
    ]


def plain() -> list[dict[str, Any]]:
    return [
        {"question": prompt, "responses": texts, "tokens": LOGPROBS, "answer": 7}
        for prompt, texts in zip(PROMPTS, TEXTS, strict=True)
    ]


def lines() -> list[dict[str, Any]]:
    """A record a sample."""
    return [
        {"prompt": prompt, "completion": text, "tokens": tokens}
        for prompt, texts in zip(PROMPTS, TEXTS, strict=True)
        for text, tokens in zip(texts, LOGPROBS, strict=True)
    ]


BATCHES = (
    *("--columns.id", "custom_id", "--columns.prompt", "custom_id"),
    *("--columns.completion", "response.body.choices"),
    *("--columns.logprobs", "response.body.choices.logprobs.content"),
)
HARNESS = (
    "--columns.prompt",
    "arguments.gen_args_0.arg_0",
    "--columns.completion",
    "resps[0]",
    "--columns.id",
    "doc_id",
)


@pytest.mark.parametrize(
    ("records", "columns"),
    [
        (vllm(), ("--columns.logprobs", "outputs.logprobs")),
        (chats(), ("--columns.logprobs", "choices.logprobs.content")),
        (chats(), ("--columns.logprobs", "choices.logprobs.content.logprob")),
        (completed(), ("--columns.logprobs", "choices.logprobs.token_logprobs")),
        (batches(), BATCHES),
        (plain(), ("--columns.prompt", "question", "--columns.logprobs", "tokens")),
        (lines(), ("--columns.logprobs", "tokens")),
    ],
    ids=["vllm", "chat", "numbers of a chat", "completion", "batch", "plain", "a line a sample"],
)
def test_log_probabilities_of_tokens(
    records: list[dict[str, Any]], columns: tuple[str, ...], tmp_path: Path, chooses: Chooses
) -> None:
    """They are confidences in [0, 1] without a model, so that every selector can use them."""
    chooses("--traces", write(tmp_path / "mine.jsonl", *records), *columns)
    folder = tmp_path / "mine.best-of-n"
    assert [row["confidence"] for row in rows(folder, "argmax")] == pytest.approx([EXPECTED[0]] * 2)
    first, second = rows(folder, "weighted")
    assert (first["answer"], second["answer"]) == ("7", "7")
    assert first["share"] == pytest.approx((EXPECTED[0] + EXPECTED[2]) / sum(EXPECTED))
    assert second["share"] == pytest.approx(EXPECTED[0] / (EXPECTED[0] + EXPECTED[1]))


@pytest.mark.parametrize(
    ("records", "columns"),
    [
        (vllm(), ()),
        (chats(), ()),
        (harness("strict-match"), HARNESS),
        (plain(), ("--columns.prompt", "question")),
        (lines(), ()),
    ],
    ids=["vllm", "chat", "lm-eval", "plain", "a line a sample"],
)
def test_the_majority_needs_no_model(
    records: list[dict[str, Any]], columns: tuple[str, ...], tmp_path: Path, chooses: Chooses
) -> None:
    shown = chooses("--traces", write(tmp_path / "mine.jsonl", *records), *columns, "--selectors", "majority")
    assert [(row["answer"], row["votes"], row["traces"]) for row in rows(tmp_path / "mine.best-of-n", "majority")] == [
        *(("7", 2, 3), ("7", 1, 3))
    ]
    assert "no confidence" not in shown


def test_the_page_says_the_same_columns() -> None:
    page = (Path(__file__).parents[2] / "docs" / "best-of-n.md").read_text(encoding="utf-8")
    for options in (HARNESS, BATCHES[:-2], BATCHES[-2:], ("--columns.logprobs", "outputs.logprobs")):
        pairs = zip(options[::2], options[1::2], strict=True)
        for name, value in pairs:
            assert f"{name} {value}" in page.replace("'", ""), (name, value)


def test_single_samples_with_few_tokens(tmp_path: Path, chooses: Chooses) -> None:
    """One token, none, and a probability above 1 by rounding."""
    said = [{"prompt": "Q?", "completion": "7", "tokens": tokens} for tokens in ([-0.5], [], None, [1e-5])]
    chooses("--traces", write(tmp_path / "mine.jsonl", *said), "--columns.logprobs", "tokens")
    [row] = rows(tmp_path / "mine.best-of-n", "weighted")
    assert (row["confidence"], row["votes"]) == (1.0, 4)
    [row] = rows(tmp_path / "mine.best-of-n", "majority")
    assert row["index"] == 3


def test_what_the_table_leaves_out_is_said(tmp_path: Path, chooses: Chooses) -> None:
    said: list[dict[str, Any]] = [
        {"id": "a", "prompt": "Q?", "completion": ["1", "2", "1"], "c": [0.1, None, 0.3], "gold": 1},
        {"id": "b", "prompt": "R?", "completion": ["1", "2"], "c": [0.1, 0.2], "gold": 2},
        {"id": "c", "prompt": "S?", "completion": ["1", "2", "3"], "c": [0.1, 0.2, 0.3]},
    ]
    shown = chooses("--traces", write(tmp_path / "mine.jsonl", *said), "--columns.confidence", "c")
    assert "1 traces with an answer have no confidence: they come last in rank" in shown
    assert "gold answers for 2 of these questions alone: accuracy is over them" in shown
    assert "N goes up to 2, the traces of question 'b'; others have up to 3" in shown
    curves = read_json(tmp_path / "mine.best-of-n" / "selection" / "curves.json")
    assert (curves["questions"], curves["sizes"]) == (2, [1, 2])
    assert curves["accuracy"]["majority"][0]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert ["correct" in row for row in rows(tmp_path / "mine.best-of-n", "argmax")] == [True, True, False]


def test_doubts_about_which_samples_belong_together(
    tmp_path: Path, chooses: Chooses, capsys: pytest.CaptureFixture[str]
) -> None:
    def warned(*records: dict[str, Any]) -> str:
        file = write(tmp_path / "mine.jsonl", *records)
        assert execute(["best-of-n", "--traces", str(file), "--selectors", "majority", "--output", f"{file}.out"]) == 0
        (tmp_path / "mine.jsonl.out").rename(tmp_path / f"out-{len(list(tmp_path.iterdir()))}")
        return " ".join(capsys.readouterr().err.split())

    mixed = [{"id": "a", "prompt": prompt, "completion": "7"} for prompt in ("Q?", "R?", "Q?")]
    assert "mine.jsonl:2: another prompt with the id 'a': taken as a sample of the same question" in warned(*mixed)
    rounds = [{"prompt": prompt, "completion": "7"} for prompt in ("Q?", "R?", "Q?")]
    assert "mine.jsonl:3: the prompt of question 1 again, after others and without an id: taken as another" in (
        warned(*rounds)
    )
    assert "warning" not in warned(*({**record, "id": record["prompt"]} for record in rounds))
    assert "warning" not in warned(rounds[0], rounds[0], rounds[1])


def test_counted_questions_are_those_of_the_data(tmp_path: Path, chooses: Chooses, fails: Fails) -> None:
    """Records without ids are joined with gold answers by their order, which is looked at."""
    data = write(
        tmp_path / "data.jsonl",
        {"question": "Tom has 3 apples and buys 4 more.  How many now?", "answer": "7"},
        {"question": "Lily has 9 stamps and loses 2. How many now?", "answer": "7"},
    )
    command = ("--selectors", "majority", "--data", data, "--traces")
    chooses(*command, write(tmp_path / "same.jsonl", *lines()))
    other = write(tmp_path / "other.jsonl", *reversed(lines()))
    line = fails("best-of-n", *command, other)
    assert "data.jsonl: question 1 is 'Tom has 3 apples and buys 4 more. How many now?', and prompt 1 of the" in line
    assert line.endswith("give both the same order, or both ids")
    chats_reversed = write(tmp_path / "chats.jsonl", *({**chat, "id": 2 - n} for n, chat in enumerate(chats())))
    chooses(*command, chats_reversed)  # ids are taken at their word


def test_mistakes_in_one_line(tmp_path: Path, fails: Fails) -> None:
    def refused(*records: dict[str, Any], options: tuple[str, ...]) -> str:
        file = write(tmp_path / "mine.jsonl", *records)
        return fails("best-of-n", "--traces", file, *options, "--output", tmp_path / "out")

    tokens = ("--columns.logprobs", "tokens")
    one = {"prompt": "Q?", "completion": "7"}
    assert "keep the records of one" in refused(*harness("strict-match", "flexible"), options=HARNESS)
    assert "question '0' again, for the filter 'flexible' after 'strict-match'" in (
        refused(*harness("strict-match", "flexible"), options=(*HARNESS, "--selectors", "majority"))
    )
    assert "mine.jsonl:1: 'tokens' must hold the log-probability of each token of a completion" in (
        refused({**one, "tokens": [0.5]}, options=tokens)
    )
    assert "found None" in refused({**one, "tokens": [None, -1]}, options=tokens)
    assert "2 in 'tokens' for 1 completions" in refused({**one, "tokens": [[-1], [-2]]}, options=tokens)
    assert "log-probabilities of tokens are --columns.logprobs" in (
        refused({**one, "tokens": [[-1, -2]]}, options=("--columns.confidence", "tokens"))
    )
    both = (*tokens, "--columns.confidence", "tokens")
    assert "both say how sure each completion is" in refused({**one, "tokens": [-1]}, options=both)
    assert "--signal mean_logprob means nothing where the column 'tokens' says how sure" in (
        refused({**one, "tokens": [-1]}, options=(*tokens, "--signal", "mean_logprob"))
    )
    assert "none of the 1 traces with an answer has a confidence, which weighted, borda, argmax need" in (
        refused({**one, "tokens": None}, options=tokens)
    )
    assert "or --selectors majority alone" in refused(one, options=())
