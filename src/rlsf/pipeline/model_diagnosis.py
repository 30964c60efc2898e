"""What a model is to rlsf: how it is scored, its last layer, context, end tokens and chat template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.errors import InputError
from rlsf.models import (
    ModelConfig,
    check_vocabulary,
    context_length,
    eos_token_ids,
    has_chat_template,
    load_model,
    load_tokenizer,
)
from rlsf.pipeline.finding import Complaint, Fact, Finding
from rlsf.prompts.rendering import encode_plain, render_messages
from rlsf.sampling.forward import CausalModel
from rlsf.scoring.self_check import Verdict, verdict_on

#: What a chat template is shown to see how it ends a turn.
_ASKED, _ANSWERED = "How are you?", "Fine."


def model_findings(config: ModelConfig) -> Iterator[Finding]:
    """Load a model and try it on a few tokens. Raises ``InputError`` and ``ModelError`` where it cannot be used."""
    tokenizer = load_tokenizer(config)
    model = load_model(config)
    check_vocabulary(model, tokenizer)
    count = sum(parameter.numel() for parameter in model.parameters())
    dtype = str(model.dtype).removeprefix("torch.")
    yield Fact("model", f"{config.path}: {count / 1e6:,.1f} million parameters, {dtype} on {model.device}")
    verdict = verdict_on(CausalModel(model))
    yield from scoring_findings(verdict)
    yield Fact("last layer", _last_layer(model, verdict))
    yield Fact("vocabulary", f"{len(tokenizer):,} tokens in the tokenizer, {verdict.vocabulary_size:,} logits")
    context = context_length(model)
    yield Fact("context", "no bound" if context is None else f"{context:,} tokens")
    eos_ids = eos_token_ids(model, tokenizer)
    yield Fact("ends with", ", ".join(f"{token} {tokenizer.convert_ids_to_tokens(token)!r}" for token in eos_ids))
    yield from _chat_template(tokenizer, eos_ids)


def scoring_findings(verdict: Verdict) -> Iterator[Finding]:
    """How the model is scored."""
    if verdict.way == "fused":
        shared = "read once for all its completions" if verdict.shares_prompts else "read again for every completion"
        yield Fact("scoring", f"without logits in memory: {verdict.reason}")
        yield Fact("", f"a prompt is {shared}")
    else:
        yield Fact("scoring", f"by logits: {verdict.reason}")
        yield Complaint(
            f"this model is scored by its logits, slower and with more memory ({verdict.reason}): lower --batch-tokens"
            " if memory runs out"
        )


def _last_layer(model: PreTrainedModel, verdict: Verdict) -> str:
    layer: Any = model.get_output_embeddings()
    weight, found = getattr(layer, "weight", None), verdict.post_processing
    if weight is None:
        return type(layer).__name__
    inputs: Any = model.get_input_embeddings()
    tied = inputs is not None and getattr(inputs, "weight", None) is weight
    parts = [" x ".join(f"{size:,}" for size in weight.shape), "tied to the input embedding" if tied else "untied"]
    if found is not None:
        parts += [f"scale {found.scale:g}", "no soft cap" if found.softcap is None else f"soft cap {found.softcap:g}"]
    return ", ".join(parts)


def _chat_template(tokenizer: PreTrainedTokenizerBase, eos_ids: tuple[int, ...]) -> Iterator[Finding]:
    if not has_chat_template(tokenizer):
        yield Fact("chat template", "none: questions are put as `Q: ...` and `A:`")
        return
    yield Fact("chat template", "yes")
    asked, answered = {"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}
    try:
        text = render_messages([asked, answered, asked], tokenizer, {})
    except InputError as error:
        yield Complaint(f"{error}: see its tokenizer_config.json or chat_template.jinja")
        return
    end = text.partition(_ANSWERED)[2].partition(_ASKED)[0]
    if not set(encode_plain(end, tokenizer)) & set(eos_ids):
        yield Complaint(
            f"the chat template ends an answer with {end.strip()[:40]!r}, in which there is none of the tokens that end"
            " a trace: traces would run on; add its token to eos_token_id in generation_config.json"
        )
