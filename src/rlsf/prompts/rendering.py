"""From a question to the exact token ids a model continues."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlsf.errors import InputError
from rlsf.prompts.config import RenderConfig
from rlsf.prompts.prompt import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACEHOLDER = re.compile(r"\{(question|choices)\}")


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as a model sees it.

    ``token_ids`` encode ``text`` with the tokenizer's special tokens exactly once: a chat template writes them into
    the text itself, otherwise the tokenizer adds them and ``text`` is without.
    """

    text: str
    token_ids: tuple[int, ...]


def render(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, config: RenderConfig) -> RenderedPrompt:
    """The text and token ids of ``prompt`` under the tokenizer's chat template, or as ``Q: ...\\nA:`` without one.

    Turns of a dialogue follow as messages of the two sides, or as ``Q: ...\\nA: ...`` with a blank line between them.

    Raises ``InputError`` for an empty question, for ``chat="always"`` without a chat template, and for a chat
    template that refuses the messages (some know no system role).
    """
    if not prompt.question.strip():
        raise InputError(f"prompt {prompt.id!r}: the question is empty")
    chat = config.chat != "never" and bool(tokenizer.chat_template)
    if config.chat == "always" and not chat:
        raise InputError(
            "render.chat=always, but the tokenizer has no chat template: set render.chat=auto or never, or choose an"
            " instruction-tuned model"
        )
    body = "\n\n".join(filter(None, ((config.few_shot or "").strip("\n"), _body(prompt, config, chat))))
    if chat:
        text = _chat_text(prompt, body, tokenizer, config)
        ids = encode_plain(text, tokenizer)
    else:
        text = _plain_dialogue(f"{config.system}\n\n{body}" if config.system else body, prompt, config)
        ids = encode_once(text, tokenizer)
    if not ids:
        raise InputError(f"prompt {prompt.id!r}: the tokenizer turns {text[:40]!r} into no tokens")
    return RenderedPrompt(text, tuple(ids))


def choices_text(choices: tuple[str, ...]) -> str:
    """One option a line: ``(A) first``."""
    return "\n".join(f"({letter}) {text}" for letter, text in zip(string.ascii_uppercase, choices, strict=False))


def _body(prompt: Prompt, config: RenderConfig, chat: bool) -> str:
    options = choices_text(prompt.choices)
    if config.template is not None:
        values = {"question": prompt.question, "choices": options}
        # One pass and no str.format: questions and templates may hold braces of their own (LaTeX, JSON).
        return _PLACEHOLDER.sub(lambda match: values[match[1]], config.template)
    asked = f"{prompt.question}\n{options}" if options else prompt.question
    return asked if chat else f"Q: {asked}\nA:"


def _plain_dialogue(text: str, prompt: Prompt, config: RenderConfig) -> str:
    for turn in prompt.turns:
        space = "" if text[-1:].isspace() else " "
        text = f"{text}{space}{turn.answer.strip()}\n\n{_body(Prompt(prompt.id, turn.reply), config, chat=False)}"
    return text


def _chat_text(prompt: Prompt, body: str, tokenizer: PreTrainedTokenizerBase, config: RenderConfig) -> str:
    messages = [{"role": "system", "content": config.system}] if config.system else []
    messages.append({"role": "user", "content": body})
    for turn in prompt.turns:
        messages.append({"role": "assistant", "content": turn.answer.strip()})
        messages.append({"role": "user", "content": turn.reply})
    try:
        return render_messages(messages, tokenizer, config.chat_arguments)
    except InputError as error:
        remedy = ": put render.system into render.template instead" if config.system else ""
        raise InputError(f"prompt {prompt.id!r}: {error}{remedy}") from error


def render_messages(
    messages: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]
) -> str:
    """A conversation under the tokenizer's chat template, up to where the model goes on, special tokens included.

    That is the beginning of its next turn, or the end of its own last message where the conversation ends with one.
    ``arguments`` are variables of the template. Raises ``InputError`` where the template refuses the conversation.
    """
    from jinja2 import TemplateError

    begun = messages[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun, **arguments
        )
    except (TemplateError, ValueError) as error:
        raise InputError(f"the tokenizer's chat template refuses it ({error})") from error
    return str(text)


def encode_plain(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of ``text`` alone: what goes on from something, or holds its special tokens already."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def encode_once(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids with the special tokens that open a text, once, and without those that would close it."""
    plain = encode_plain(text, tokenizer)
    if tokenizer.bos_token_id is not None and plain[:1] == [tokenizer.bos_token_id]:
        return plain
    full = list(tokenizer(text, verbose=False)["input_ids"])
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[: start + len(plain)]
    return full
