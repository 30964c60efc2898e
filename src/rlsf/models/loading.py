"""The policy: a causal language model from a local folder or the hub."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from rlsf.errors import InputError, ModelError, ResourceError
from rlsf.models.config import ModelConfig
from rlsf.models.device import resolve_device, resolve_dtype
from rlsf.models.folder import ADAPTER_WEIGHTS, ModelFolder, find_base, find_model, one_line

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel


@overload
def load_model(config: ModelConfig, *, for_training: Literal[False] = False) -> PreTrainedModel: ...
@overload
def load_model(config: ModelConfig, *, for_training: bool) -> PreTrainedModel | PeftModel: ...
def load_model(config: ModelConfig, *, for_training: bool = False) -> PreTrainedModel | PeftModel:
    """The model of ``config``, in evaluation mode, on its device.

    A LoRA adapter folder is loaded over its base model: merged into the weights for inference, kept apart and
    trainable ``for_training``. Weights are read from safetensors alone. Raises ``InputError`` for a folder that is no
    causal language model, ``ModelError`` for weights that are incomplete or not finite, ``ResourceError`` where they
    do not fit.
    """
    import torch

    config = config.here
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device, for_training=for_training)
    folder = find_model(config)
    try:
        if folder.is_adapter:
            model = _load_adapter(folder, config, dtype, for_training=for_training)
        else:
            model = load_full(folder, config, dtype)
        torch.nn.Module.to(model, device)
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"{folder.name} does not fit on {device}: use another device, model.dtype=bfloat16 or a smaller model"
        ) from error
    if config.check_weights:
        check_finite(model, folder.name)
    return model.eval()


def load_model_config(config: ModelConfig) -> PreTrainedConfig:
    """What the model says of itself, an adapter's base for the adapter; weights are not read, and must be there unless
    a server holds them.

    Raises ``InputError`` for a folder without a model, or one that this transformers release does not know.
    """
    from transformers import AutoConfig

    folder = find_model(config)
    if folder.is_adapter:
        folder = find_base(folder, config)
    if config.server is None:
        folder.require_model()
    else:
        folder.require_config()
    try:
        return AutoConfig.from_pretrained(str(folder.path), trust_remote_code=config.trust_remote_code)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise _unloadable(folder, error) from error


def check_finite(model: torch.nn.Module, name: str) -> None:
    """Raise ``ModelError`` naming the first parameter that holds NaN or infinity."""
    import torch

    for parameter_name, parameter in model.named_parameters():
        # A sum is finite unless an element is not (or the sum overflows, which the full look then settles).
        if not torch.isfinite(parameter.detach().sum()) and not torch.isfinite(parameter.detach()).all():
            raise ModelError(f"{name}: the weights in {parameter_name} are not finite (NaN or infinity)")


def load_full(
    folder: ModelFolder, config: ModelConfig, dtype: torch.dtype | None, kind: str = "AutoModelForCausalLM"
) -> PreTrainedModel:
    """A whole model of one of transformers' kinds, on CPU; raises as ``load_model`` does."""
    import transformers
    from safetensors import SafetensorError

    folder.require_model()
    try:
        with _quietly():
            loaded: Any = getattr(transformers, kind).from_pretrained(
                str(folder.path),
                dtype=dtype or "auto",
                use_safetensors=True,
                trust_remote_code=config.trust_remote_code,
                ignore_mismatched_sizes=True,  # refused below, with their names
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise _damaged(folder, error) from error
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise _unloadable(folder, error) from error
    model, info = loaded
    _require_all_weights(folder, info)
    return model


def _require_all_weights(folder: ModelFolder, info: dict[str, Any]) -> None:
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder.name}: weights are missing, {len(missing)} in all, {missing[0]} for one: they would be random"
            " numbers"
        )
    if mismatched := sorted(info["mismatched_keys"]):
        name, saved, expected = mismatched[0]
        raise ModelError(
            f"{folder.name}: {name} has shape {tuple(saved)} in the weights and {tuple(expected)} in config.json: they"
            " do not belong together"
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' bar and its table of odd weights off the terminal: what matters becomes an error of ours."""
    from transformers.utils import logging as transformers_logging

    def is_no_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_no_report)
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.removeFilter(is_no_report)
        if shown:
            transformers_logging.enable_progress_bar()


def _damaged(folder: ModelFolder, error: Exception) -> ModelError:
    return ModelError(f"{folder.name}: damaged weights ({one_line(error)}): fetch or save them again")


def _unloadable(folder: ModelFolder, error: Exception) -> InputError:
    message = str(error)
    kind = folder.json("config.json").get("model_type")
    if "trust_remote_code" in message:
        return InputError(
            f"{folder.name} (model type {kind!r}) is code of its own repository: read it, then set"
            " model.trust_remote_code=true"
        )
    if kind is None:
        return InputError(
            f"{folder.path / 'config.json'}: no model_type: this is no configuration of a transformers model"
        )
    if "does not recognize" in message or "Unrecognized model" in message:
        return InputError(f"{folder.name}: this transformers release does not know the model type {kind!r}: update it")
    if "Unrecognized configuration class" in message:
        return InputError(f"{folder.name} is a {kind!r} model, not a causal language model")
    return InputError(f"cannot load the model {folder.name}: {one_line(error)}")


def _load_adapter(
    folder: ModelFolder, config: ModelConfig, dtype: torch.dtype | None, *, for_training: bool
) -> PreTrainedModel | PeftModel:
    from peft import PeftModel
    from safetensors import SafetensorError

    base = load_full(find_base(folder, config), config, dtype)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*missing adapter keys")  # an error below
            model = PeftModel.from_pretrained(base, str(folder.path), is_trainable=for_training)
        _require_whole_adapter(folder, model)
    except SafetensorError as error:
        raise _damaged(folder, error) from error
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"the adapter {folder.name} does not fit its base model: {one_line(error)}") from error
    if for_training:
        return model
    if model.active_peft_config.is_prompt_learning:
        raise InputError(f"the adapter {folder.name} is no LoRA adapter: its prompt cannot be merged into the weights")
    return model.merge_and_unload()


def _require_whole_adapter(folder: ModelFolder, model: PeftModel) -> None:
    """Refuse low-rank weights without a place in the model, and places without weights: PEFT passes over the first."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder.path / ADAPTER_WEIGHTS, "pt") as weights:
        saved = {name for name in weights.keys() if ".lora_" in name}  # noqa: SIM118  (not a mapping)
    placed = {name for name in get_peft_model_state_dict(model, save_embedding_layers=False) if ".lora_" in name}
    if odd := sorted(saved ^ placed):
        raise ValueError(f"{len(odd)} of its weights and the model's layers do not match, {odd[0]} for one")
