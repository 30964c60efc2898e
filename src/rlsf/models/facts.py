"""What sampling must know of a model: where traces end, how long they may grow, which ids exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rlsf.errors import ModelError
from rlsf.models.config import ModelConfig
from rlsf.models.folder import find_model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: Families that do not map their own name to ``max_position_embeddings``.
_LENGTH_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


def eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id that ends a trace: of the generation configuration, the model's (text) configuration, the tokenizer.

    Chat models have several (end of turn, end of text). Raises ``ModelError`` where there is none.
    """
    sources = (
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
        tokenizer.eos_token_id,
    )
    return _ids_below(_embedding_rows(model), sources)


def configured_eos_token_ids(
    config: ModelConfig, model_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The same of a model that is not loaded, by the files of its folder."""
    text = model_config.get_text_config(decoder=True)
    sources = (
        find_model(config).json("generation_config.json").get("eos_token_id"),
        getattr(model_config, "eos_token_id", None),
        getattr(text, "eos_token_id", None),
        tokenizer.eos_token_id,
    )
    return _ids_below(text.vocab_size, sources)


def _ids_below(rows: int, sources: Iterable[Any]) -> tuple[int, ...]:
    ids = dict.fromkeys(token for source in sources for token in _as_ids(source) if 0 <= token < rows)
    if not ids:
        raise ModelError("neither model nor tokenizer names an end-of-sequence token: set eos_token_id in config.json")
    return tuple(ids)


def _embedding_rows(model: PreTrainedModel) -> int:
    weight: Any = model.get_input_embeddings().weight
    return weight.shape[0]


def _as_ids(value: Any) -> Iterable[int]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def context_length(model: PreTrainedModel) -> int | None:
    """Most positions of prompt and completion together, None where the architecture sets no bound."""
    return configured_context_length(model.config)


def configured_context_length(config: PreTrainedConfig) -> int | None:
    """The same of a model that is not loaded."""
    text = config.get_text_config()
    lengths = (getattr(text, name, None) for name in _LENGTH_NAMES)
    return next((length for length in lengths if isinstance(length, int) and length > 0), None)


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``ModelError`` where the tokenizer can produce ids that the model has no embedding for."""
    rows = _embedding_rows(model)
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise ModelError(
            f"the tokenizer has ids up to {largest}, the model embeddings for {rows}: they do not belong together"
        )
