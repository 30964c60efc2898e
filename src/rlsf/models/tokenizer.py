"""The tokenizer of a model, ready for left-padded batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlsf.errors import InputError
from rlsf.models.config import ModelConfig
from rlsf.models.folder import ModelFolder, find_base, find_model, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of ``config.path``, padding on the left; an adapter without one uses its base model's.

    A missing pad token becomes the end-of-sequence token, so that no embedding is added. Raises ``InputError`` where
    there is no tokenizer, or none of tokenizer and model names an end-of-sequence token.
    """
    folder = find_model(config)
    if folder.is_adapter and not folder.has_tokenizer:
        folder = find_base(folder, config)
    folder.require_tokenizer()
    tokenizer = _load(folder, config)
    # With its vocabulary file gone, transformers builds a tokenizer of special tokens alone.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(f"the tokenizer of {folder.name} has no vocabulary; there are: {folder.listing()}")
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = _eos_token_of_model(folder, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def has_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer can render a conversation."""
    return bool(tokenizer.chat_template)


def _load(folder: ModelFolder, config: ModelConfig) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(folder.path), padding_side="left", trust_remote_code=config.trust_remote_code
        )
    except (ValueError, OSError, LookupError, ImportError, TypeError) as error:
        raise _unloadable(folder, error) from error
    except Exception as error:
        # The Rust tokenizers raise bare Exception for a malformed tokenizer.json.
        if type(error) is not Exception:
            raise
        raise _unloadable(folder, error) from error


def _unloadable(folder: ModelFolder, error: Exception) -> InputError:
    for name in ("tokenizer_config.json", "tokenizer.json", "config.json"):
        folder.json(name)  # names file and line where one of them is malformed
    if "trust_remote_code" in str(error):
        return InputError(
            f"the tokenizer of {folder.name} is code of its own repository: read it, then set"
            " model.trust_remote_code=true"
        )
    return InputError(f"cannot load the tokenizer of {folder.name}: {one_line(error)}")


def _eos_token_of_model(folder: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> str:
    for name in ("generation_config.json", "config.json"):
        ids = folder.json(name).get("eos_token_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(first, int) and 0 <= first < len(tokenizer):
            return str(tokenizer.convert_ids_to_tokens(first))
    raise InputError(
        f"the tokenizer of {folder.name} has no end-of-sequence token, so no trace would ever end: set eos_token in"
        f" {folder.path / 'tokenizer_config.json'}"
    )
