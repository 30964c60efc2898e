from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rlsf.errors import InputError
from rlsf.prompts import Prompt, RenderedPrompt, Turn, render
from rlsf.prompts.config import RenderConfig

BOS, EOS = 0, 1
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{{ suffix }}"
)
PLAIN = Prompt("1", "How many?")
CHOICE = Prompt("2", "Which?", ("red", "green"))


def tokenizer_with(post_processor: str | None = "<s> $A", chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts ``post_processor`` around what it encodes by itself."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["Q: How many?\nA:"], trainer)
    if post_processor:
        special = [("<s>", BOS), ("</s>", EOS)]
        backend.post_processor = processors.TemplateProcessing(single=post_processor, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = chat_template
    return tokenizer


def decoded(rendered: RenderedPrompt, tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.decode(rendered.token_ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("prompt", "config", "text"),
    [
        (PLAIN, RenderConfig(), "Q: How many?\nA:"),
        (CHOICE, RenderConfig(), "Q: Which?\n(A) red\n(B) green\nA:"),
        (PLAIN, RenderConfig(system="Be brief."), "Be brief.\n\nQ: How many?\nA:"),
        (PLAIN, RenderConfig(few_shot="Q: One?\nA: 1\n"), "Q: One?\nA: 1\n\nQ: How many?\nA:"),
        (PLAIN, RenderConfig(system="S", few_shot="F"), "S\n\nF\n\nQ: How many?\nA:"),
        (
            CHOICE,
            RenderConfig(template="{question} Options:\n{choices}\n=>"),
            "Which? Options:\n(A) red\n(B) green\n=>",
        ),
        (CHOICE, RenderConfig(template="{question}"), "Which?"),
        (PLAIN, RenderConfig(template=r"{question} Use \boxed{} and {x}."), r"How many? Use \boxed{} and {x}."),
        (Prompt("3", r"\frac{1}{2} {choices}?"), RenderConfig(), "Q: \\frac{1}{2} {choices}?\nA:"),
        (Prompt("3", "{choices}", ("a", "b")), RenderConfig(template="{question}"), "{choices}"),
    ],
)
def test_base_models(prompt: Prompt, config: RenderConfig, text: str) -> None:
    tokenizer = tokenizer_with()
    rendered = render(prompt, tokenizer, config)
    assert rendered.text == text
    assert decoded(rendered, tokenizer) == "<s>" + text


@pytest.mark.parametrize(
    ("prompt", "config", "text"),
    [
        (PLAIN, RenderConfig(), "<s><|user|>How many?</s><|assistant|>"),
        (PLAIN, RenderConfig(chat="always"), "<s><|user|>How many?</s><|assistant|>"),
        (CHOICE, RenderConfig(), "<s><|user|>Which?\n(A) red\n(B) green</s><|assistant|>"),
        (PLAIN, RenderConfig(system="S"), "<s><|system|>S</s><|user|>How many?</s><|assistant|>"),
        (PLAIN, RenderConfig(few_shot="F"), "<s><|user|>F\n\nHow many?</s><|assistant|>"),
        (PLAIN, RenderConfig(template="<{question}>"), "<s><|user|><How many?></s><|assistant|>"),
        (PLAIN, RenderConfig(chat_arguments={"suffix": "ok"}), "<s><|user|>How many?</s><|assistant|>ok"),
    ],
)
def test_chat_models(prompt: Prompt, config: RenderConfig, text: str) -> None:
    tokenizer = tokenizer_with(chat_template=CHAT)
    rendered = render(prompt, tokenizer, config)
    assert rendered.text == text
    assert decoded(rendered, tokenizer) == text


def test_chat_never_overrides_the_template() -> None:
    rendered = render(PLAIN, tokenizer_with(chat_template=CHAT), RenderConfig(chat="never"))
    assert rendered.text == "Q: How many?\nA:"


@pytest.mark.parametrize("post_processor", [None, "$A", "<s> $A", "$A </s>", "<s> $A </s>"])
@pytest.mark.parametrize("chat_template", [None, CHAT])
@given(question=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip))
def test_the_opening_token_stands_once_and_nothing_closes_the_prompt(
    post_processor: str | None, chat_template: str | None, question: str
) -> None:
    tokenizer = tokenizer_with(post_processor, chat_template)
    ids = render(Prompt("1", question), tokenizer, RenderConfig()).token_ids
    opens = bool(chat_template) or "<s>" in (post_processor or "")
    extra = tokenizer(question, add_special_tokens=False)["input_ids"].count(BOS)
    assert ids.count(BOS) == int(opens) + extra
    assert (ids[0] == BOS) == (opens or False)
    assert ids[-1] != EOS


def test_a_template_that_writes_the_opening_token_itself() -> None:
    tokenizer = tokenizer_with()
    assert render(PLAIN, tokenizer, RenderConfig(template="<s>{question}")).token_ids.count(BOS) == 1


def test_word_pieces_with_a_prefix_space() -> None:
    backend = Tokenizer(models.Unigram([("<s>", 0.0), ("</s>", 0.0), ("▁", -1.0), ("Q", -1.0), (":", -1.0)], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    rendered = render(Prompt("1", "Q:"), tokenizer, RenderConfig(template="{question}"))
    assert rendered.token_ids == (0, 2, 3, 4)


def test_always_without_a_chat_template() -> None:
    with pytest.raises(
        InputError, match=r"render.chat=always, but the tokenizer has no chat template: set render.chat"
    ):
        render(PLAIN, tokenizer_with(), RenderConfig(chat="always"))


def test_a_chat_template_without_system_role() -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}ok"
    tokenizer = tokenizer_with(chat_template=refusing)
    assert render(PLAIN, tokenizer, RenderConfig()).text == "ok"
    with pytest.raises(InputError, match=r"prompt '1': .*refuses it \(no system role\): put render.system into"):
        render(PLAIN, tokenizer, RenderConfig(system="S"))


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_an_empty_question(question: str) -> None:
    with pytest.raises(InputError, match="prompt '9': the question is empty"):
        render(Prompt("9", question), tokenizer_with(), RenderConfig())


def test_a_prompt_of_no_tokens() -> None:
    nothing = tokenizer_with(None, chat_template="{{ '' }}")
    with pytest.raises(InputError, match="prompt '1': the tokenizer turns '' into no tokens"):
        render(PLAIN, nothing, RenderConfig())


def test_a_template_without_the_question_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"has no \{question\}: say where the question goes"):
        RenderConfig(template="Answer: {choices}")


def test_rendering_is_deterministic() -> None:
    tokenizer = tokenizer_with(chat_template=CHAT)
    assert render(CHOICE, tokenizer, RenderConfig()) == render(CHOICE, tokenizer, RenderConfig())


# Dialogues

DIALOGUE = Prompt("1", "How many?", turns=(Turn(" 3 of them.\n", "Sure? How many?"), Turn("4", "Again.")))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (RenderConfig(), "Q: How many?\nA: 3 of them.\n\nQ: Sure? How many?\nA: 4\n\nQ: Again.\nA:"),
        (
            RenderConfig(system="S", few_shot="F", template="{question}\n=> "),
            "S\n\nF\n\nHow many?\n=> 3 of them.\n\nSure? How many?\n=> 4\n\nAgain.\n=> ",
        ),
    ],
)
def test_turns_of_a_dialogue_without_a_chat_template(config: RenderConfig, text: str) -> None:
    assert render(DIALOGUE, tokenizer_with(None), config).text == text


def test_turns_of_a_dialogue_are_messages_under_a_chat_template() -> None:
    tokenizer = tokenizer_with(chat_template=CHAT)
    rendered = render(DIALOGUE, tokenizer, RenderConfig(system="S"))
    assert rendered.text == (
        "<s><|system|>S</s><|user|>How many?</s><|assistant|>3 of them.</s><|user|>Sure? How many?</s>"
        "<|assistant|>4</s><|user|>Again.</s><|assistant|>"
    )
    assert decoded(rendered, tokenizer) == rendered.text


def test_gold_is_taken_from_a_dialogue_and_nothing_else() -> None:
    asked = Prompt("1", "How many?", ("a", "b"), "a", DIALOGUE.turns)
    assert asked.without_gold() == Prompt("1", "How many?", ("a", "b"), None, DIALOGUE.turns)
