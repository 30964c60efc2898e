"""What a server says of the model that it serves, and how requests to it are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlsf.errors import InputError, near_names
from rlsf.models.server_config import ServerConfig
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.connection import ServerConnection

#: How servers sign their lists of models.
_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """``name`` on the server, ``kind`` of server, and most tokens of prompt and completion, None where unsaid."""

    name: str
    kind: str
    context_length: int | None = None

    @property
    def keeps_stop_tokens(self) -> bool:
        """Whether the tokens of a stop string come back with the others.

        llama.cpp takes back as many tokens as the string itself is encoded to, which need not be those that made it.
        """
        return self.kind != "llama.cpp"

    def fields(self, config: SamplingConfig, *, greedy: bool, seed: int) -> dict[str, Any]:
        """The fields of a request that say how to sample.

        All of them are sent, and penalties are turned off: servers take what is left out from a generation_config.json
        beside the weights or from their own defaults.
        """
        if greedy:
            return {"temperature": 0.0, "top_p": 1.0, **self._own_fields(top_k=0, min_p=0.0)}
        return {
            "temperature": config.temperature,
            "top_p": config.top_p,
            "seed": seed,
            **self._own_fields(config.top_k, config.min_p),
        }

    def _own_fields(self, top_k: int, min_p: float) -> dict[str, Any]:
        match self.kind:
            case "vllm":
                return {
                    "top_k": top_k,
                    "min_p": min_p,
                    "repetition_penalty": 1.0,
                    "return_tokens_as_token_ids": True,
                    "return_token_ids": True,
                }
            case "sglang":
                return {"top_k": top_k or -1, "min_p": min_p, "repetition_penalty": 1.0, "return_token_ids": True}
            case "llama.cpp":
                return {
                    "top_k": top_k,
                    "min_p": min_p,
                    "repeat_penalty": 1.0,
                    "presence_penalty": 0.0,
                    "frequency_penalty": 0.0,
                }
        return {name: value for name, value in (("top_k", top_k), ("min_p", min_p)) if value}


async def look_at_server(connection: ServerConnection, config: ServerConfig) -> ServedModel:
    """The model to ask for, by the server's list of models; it is not asked where the configuration says it all.

    Raises ``InputError`` for a name that the server does not list, or none where it lists several.
    """
    if config.model is not None and config.kind != "auto":
        return ServedModel(config.model, config.kind)
    content = await connection.request("models")
    listed = content.get("data")
    entries = {
        entry["id"]: entry
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)
    }
    if not entries:
        raise InputError(
            f"{config.url}/models lists no model: set model.server.model and model.server.kind, or mend the address"
        )
    names = ", ".join(sorted(entries))
    if config.model is None and len(entries) > 1:
        raise InputError(f"{config.url} serves several models: choose one with model.server.model; there are: {names}")
    name = config.model or next(iter(entries))
    if name not in entries:
        raise InputError(
            f"model.server.model={name!r}{near_names(name, entries)}: {config.url} serves no such model; there are:"
            f" {names}"
        )
    entry = entries[name]
    kind = _OWNERS.get(str(entry.get("owned_by")), "other") if config.kind == "auto" else config.kind
    length = entry.get("max_model_len", _of_meta(entry, "n_ctx"))
    return ServedModel(name, kind, length if isinstance(length, int) and length > 0 else None)


def _of_meta(entry: Mapping[str, Any], name: str) -> Any:
    """What llama.cpp says of a model; ``n_ctx`` is of one request."""
    meta = entry.get("meta")
    return meta.get(name) if isinstance(meta, Mapping) else None
