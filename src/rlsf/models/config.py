"""Which model, in which precision, on which device."""

from __future__ import annotations

from typing import Literal

from rlsf.config import Section
from rlsf.models.server_config import ServerConfig


class ModelConfig(Section):
    """The policy to start from: any causal language model that transformers loads."""

    path: str | None = None
    """A local folder or hub id; a folder with a LoRA adapter (PEFT) stands for its base model with the adapter."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: float32 on CPU and for training, else the precision the weights were saved in."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    trust_remote_code: bool = False
    """Run model code from the model's own repository; off unless you asked for it."""
    check_weights: bool = True
    """Refuse weights that hold NaN or infinity; looks at every weight once."""
    server: ServerConfig | None = None
    """A server to sample from; ``path`` then names its tokenizer and configuration, and what is trained. None: the
    model is loaded here."""

    @property
    def here(self) -> ModelConfig:
        """The same model in this process."""
        return self if self.server is None else self.model_copy(update={"server": None})
