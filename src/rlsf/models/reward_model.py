"""Reward models: a policy's body under a head that gives one number for a whole sequence."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rlsf.errors import InputError
from rlsf.models.config import ModelConfig
from rlsf.models.device import resolve_device, resolve_dtype
from rlsf.models.folder import find_model
from rlsf.models.loading import check_finite, load_full

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def with_reward_head(model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
    """A sequence classification model with one output, over the body of a causal language model, which it shares.

    The reward of a sequence is w . h, with h the body's last hidden state at the last token; w is drawn as transformers
    draws it, from ``seed``. Raises ``InputError`` for an architecture without such a form.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    try:
        # Nothing is allocated for the body, which is the given one.
        with torch.device("meta"):
            reward: Any = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise InputError(
            f"transformers has no reward model of type {config.model_type!r} (AutoModelForSequenceClassification):"
            " choose a policy of another architecture"
        ) from error
    body: Any = model.base_model
    if type(reward.base_model) is not type(body):
        raise InputError(
            f"the body of a reward model of type {config.model_type!r} is {type(reward.base_model).__name__}, that of"
            f" the policy {type(body).__name__}: choose a policy of another architecture"
        )
    setattr(reward, reward.base_model_prefix, body)
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**63)
        for module in reward.modules():
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                module.to_empty(device=model.device, recurse=False).to(model.dtype)
                reward._init_weights(module)
    return reward.eval()


def load_reward_model(config: ModelConfig) -> PreTrainedModel:
    """The reward model of ``config``, in evaluation mode, on its device.

    Raises as ``load_model`` does, and ``InputError`` for a model with more than one output.
    """
    import torch

    device = resolve_device(config.device)
    folder = find_model(config)
    outputs = _outputs(folder.json("config.json"))
    if outputs != 1:
        raise InputError(
            f"{folder.name} is no reward model: it has {outputs} outputs, and a reward is one number (num_labels=1)"
        )
    dtype = resolve_dtype(config.dtype, device, for_training=False)
    model = load_full(folder, config, dtype, "AutoModelForSequenceClassification")
    torch.nn.Module.to(model, device)
    if config.check_weights:
        check_finite(model, folder.name)
    return model.eval()


def _outputs(config: dict[str, Any]) -> int:
    """The number of outputs that a configuration file says; transformers' default is 2."""
    names = config.get("id2label")
    return len(names) if names else int(config.get("num_labels", 2))


@contextmanager
def padded_with(model: PreTrainedModel, token: int) -> Iterator[None]:
    """Let the model's forward pass take ``token`` for padding.

    A sequence classification model reads its output at the last token that is not padding, told by its id alone.
    """
    text = model.config.get_text_config()
    kept = text.pad_token_id
    text.pad_token_id = token
    try:
        yield
    finally:
        text.pad_token_id = kept


def unambiguous_padding(last_tokens: torch.Tensor) -> int:
    """The least token id that none of some sequences ends in: padding by it can be told from what they hold."""
    taken = set(last_tokens.tolist())
    return next(token for token in range(len(taken) + 1) if token not in taken)
