"""Tiny models with tokenizers that can judge, and a plain way to ask them one question."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from architectures import VOCABULARY, tiny_model
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlsf.judging import Case

WORDS = ["True", "False", "true", "\u0120True", "\u0120false", "Verdict:", "You", "check", "Q:", "A:"]
CASE = Case(
    prompt_id="q1",
    question="t30 t31 {braces} t32",
    choices=("t40", "t41"),
    reasonings=("t50 t51. t52 t53", "t60 t61\nt62", "t70", "t80 t81 t82 t83", "t90 t91"),
    answers=("t53", "t62", None, "t83", "t91"),
)


def words_tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    """One word a token."""
    vocabulary = {f"t{number}": number for number in range(VOCABULARY - len(words) - 1)}
    for word in [*words, "<unk>"]:
        vocabulary[word] = len(vocabulary)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="t2")


def letters_tokenizer() -> PreTrainedTokenizerFast:
    """One character a token: no word of a verdict is a token."""
    letters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.WordLevel({**vocabulary, "<unk>": len(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<unk>")


def probability(model: PreTrainedModel, ids: Sequence[int], continuation: Sequence[int]) -> float:
    """prod_k p(continuation_k | ids, continuation_<k), each by a forward pass of its own, in float64."""
    product, ids = 1.0, list(ids)
    for token in continuation:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        product *= float(logits.softmax(-1)[token])
        ids.append(token)
    return product


def judge_model(name: str = "llama", context: int = 512, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = tiny_model(name).to(dtype)
    if hasattr(model.config, "max_position_embeddings"):
        model.config.max_position_embeddings = context
    return model
