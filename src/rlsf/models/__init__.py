"""Models and tokenizers, loaded so that every complaint is one clear line. Imports no torch until something loads."""

from rlsf.models.config import ModelConfig
from rlsf.models.device import resolve_device
from rlsf.models.facts import check_vocabulary, configured_context_length, context_length, eos_token_ids
from rlsf.models.fingerprint import model_fingerprint
from rlsf.models.loading import check_finite, load_model, load_model_config
from rlsf.models.tokenizer import has_chat_template, load_tokenizer

__all__ = [
    "ModelConfig",
    "check_finite",
    "check_vocabulary",
    "configured_context_length",
    "context_length",
    "eos_token_ids",
    "has_chat_template",
    "load_model",
    "load_model_config",
    "load_tokenizer",
    "model_fingerprint",
    "resolve_device",
]
