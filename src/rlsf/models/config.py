"""Which model, in which precision, on which device."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.models.server_config import ServerConfig
from rlsf.models.vllm_config import VllmConfig


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

    engine: Literal["transformers", "vllm"] = "transformers"
    """What samples from the model. ``vllm``: much faster on GPUs; records the two likeliest tokens alone, and where the
    signal needs whole distributions a forward pass here measures them."""
    vllm: VllmConfig = Field(default_factory=VllmConfig)
    """How vLLM holds the model."""

    @model_validator(mode="after")
    def _one_sampler(self) -> ModelConfig:
        if self.server is not None and self.engine == "vllm":
            raise ValueError("engine=vllm holds the model itself: leave server out, or engine")
        return self

    @property
    def batches_itself(self) -> bool:
        """Whether what samples is one process of its own that has many requests under way at once."""
        return self.server is not None or self.engine == "vllm"

    @property
    def here(self) -> ModelConfig:
        """The same model in this process."""
        return self if self.server is None else self.model_copy(update={"server": None})

    @property
    def by_transformers(self) -> ModelConfig:
        """The same model in this process, loaded by transformers."""
        return self.here if self.engine == "transformers" else self.here.model_copy(update={"engine": "transformers"})
