import random
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from rlsf.demo import MODEL_DIR
from rlsf.demo.batches import COMPLETIONS, PROMPT_WEIGHT, BatchStreams, batches, collate, drill_row, question_row
from rlsf.demo.problems import LONG
from rlsf.demo.solutions import DIRECT_OPENINGS, WORKED_OPENINGS, complete
from rlsf.demo.tasks import generate
from rlsf.demo.vocabulary import END_ID, LARGEST_VOCABULARY, PAD_ID


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"]


def test_vocabulary_is_small_and_has_an_end_and_a_pad(tokenizer):
    assert len(tokenizer) <= LARGEST_VOCABULARY
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, END_ID)
    assert tokenizer.bos_token is None
    assert tokenizer.chat_template is None
    assert ids(tokenizer, "<|end|>") == [tokenizer.eos_token_id]


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_survives(tokenizer, text):
    if "<|" not in text:
        assert tokenizer.decode(ids(tokenizer, text)) == text


def test_digits_are_single_tokens(tokenizer):
    pieces = tokenizer.convert_ids_to_tokens(ids(tokenizer, " 407 + 15 = 422."))
    assert pieces == ["Ġ4", "0", "7", "Ġ+", "Ġ1", "5", "Ġ=", "Ġ4", "2", "2", "."]


def test_prompt_and_completion_are_tokenized_apart_as_together(tokenizer):
    rng = random.Random(0)
    for problem in generate("validation", 300):
        for style in COMPLETIONS:
            completion = complete(problem, style, rng)
            apart = ids(tokenizer, problem.text) + ids(tokenizer, completion)
            assert apart == ids(tokenizer, problem.text + completion)


def test_openings_differ_in_their_first_token(tokenizer):
    openings = [opening.format(name="Sam") for opening in DIRECT_OPENINGS | WORKED_OPENINGS]
    assert len({ids(tokenizer, f" {opening}")[0] for opening in openings}) == len(openings)


def test_completions_of_a_row_are_as_if_alone(tokenizer):
    """The logits of each packed completion equal those of prompt + completion by itself, by a plain causal model."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=True,
        )
    ).eval()
    rng = random.Random(1)
    problems = generate("validation", 2)
    prompts = [ids(tokenizer, problem.text) for problem in problems]
    completions = [
        [ids(tokenizer, complete(problem, style, rng) + tokenizer.eos_token) for style in COMPLETIONS]
        for problem in problems
    ]
    rows = [question_row(*pair) for pair in zip(prompts, completions, strict=True)]
    batch = collate([*rows, drill_row(ids(tokenizer, "12 + 30 = 42."))])
    with torch.no_grad():
        packed = model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        ).logits
        for row, (prompt, own) in enumerate(zip(prompts, completions, strict=True)):
            learned = batch.weights[row] == 1.0
            assert batch.labels[row][learned].tolist() == [token for completion in own for token in completion]
            alone = [
                model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
                for completion in own
            ]
            torch.testing.assert_close(packed[row][learned], torch.cat(alone), atol=1e-5, rtol=1e-4)
            asked = torch.isclose(batch.weights[row], torch.tensor(PROMPT_WEIGHT))
            assert batch.labels[row][asked].tolist() == prompt[1:]


def test_batches_are_reproducible_and_never_repeat_a_question(tokenizer):
    first, again, other = (batches(tokenizer, 4, seed) for seed in (0, 0, 1))
    one, two, three = next(first), next(again), next(other)
    assert torch.equal(one.input_ids, two.input_ids)
    assert not torch.equal(one.input_ids[:, :30], three.input_ids[:, :30])
    assert one.input_ids.shape[0] == 4 + 1  # and a drill
    assert not torch.equal(next(first).input_ids[:, :30], one.input_ids[:, :30])


def test_processes_that_make_batches_make_streams_of_their_own(tokenizer):
    """As many streams as processes, in turn: the same whatever the processes are, and none the stream of one."""

    def made(processes):
        streams = BatchStreams(tokenizer, 2, 5, LONG)
        return [batch.input_ids for batch in islice(DataLoader(streams, batch_size=None, num_workers=processes), 4)]

    alone, two = made(0), made(2)
    assert all(map(torch.equal, alone, (batch.input_ids for batch in batches(tokenizer, 2, 5, LONG))))
    assert all(map(torch.equal, two, made(2)))
    streams = [batches(tokenizer, 2, f"5:{number}", LONG) for number in (0, 1)]
    expected = [next(streams[number]).input_ids for number in (0, 1, 0, 1)]
    assert all(map(torch.equal, two, expected))
