"""What lies in a model folder, judged before anything is loaded, so that every complaint is one clear line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsf.errors import InputError, near_names, shortened
from rlsf.files import writing
from rlsf.models.config import ModelConfig

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json"),
    *("sentencepiece.bpe.model", "tekken.json", "tiktoken.model"),
)
#: A calibration of the model's confidence, kept beside the weights; it is about the model and no part of it.
CALIBRATION = "calibration.json"
_LFS_POINTER = b"version https://git-lfs"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_WEIGHTS = "*.safetensors"
#: What of a hub repository is fetched: never pickles, nor the same weights in another format.
_WANTED = ["*.json", _WEIGHTS, "*.model", "*.txt", "*.jinja", "*.tiktoken"]
_UNWANTED = ["consolidated*", "original/*", "onnx/*", "*/*.safetensors"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A local folder with a model, and the name its user gave it."""

    name: str
    path: Path

    @property
    def is_adapter(self) -> bool:
        """Whether this is a LoRA adapter (PEFT) over a base model elsewhere."""
        return (self.path / ADAPTER_CONFIG).is_file()

    def listing(self, limit: int = 8) -> str:
        """The names of what is there, for messages."""
        names = sorted(entry.name for entry in self.path.iterdir())
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        return ", ".join(names[:limit]) + more if names else "nothing"

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder, empty where the file is absent; raises ``InputError`` where malformed."""
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
        return content

    def require_config(self) -> None:
        """Raise unless a model's configuration is there."""
        if not (self.path / "config.json").is_file():
            raise InputError(f"{self.name} is not a model folder: no config.json in it; there are: {self.listing()}")
        self.json("config.json")
        self.json("generation_config.json")  # transformers would pass over a malformed one, and its EOS ids with it

    def require_model(self) -> None:
        """Raise unless a configuration and complete safetensors weights are there."""
        self.require_config()
        index = self.json(WEIGHTS_INDEX).get("weight_map", {})
        for weights in sorted(set(index.values())) or [WEIGHTS]:
            self._require_weights(weights)

    def require_adapter(self) -> str:
        """The base model that the adapter names; raises unless its safetensors weights are there."""
        base = self.json(ADAPTER_CONFIG).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise InputError(f"{self.path / ADAPTER_CONFIG}: base_model_name_or_path is missing: name the base model")
        self._require_weights(ADAPTER_WEIGHTS)
        return base

    @property
    def has_tokenizer(self) -> bool:
        """Whether some tokenizer is there."""
        return any((self.path / name).is_file() for name in TOKENIZER_FILES)

    def require_tokenizer(self) -> None:
        """Raise unless some tokenizer is there."""
        if not self.has_tokenizer:
            raise InputError(
                f"{self.name} has no tokenizer ({', '.join(TOKENIZER_FILES[:2])}...): copy the tokenizer files of the"
                f" model it came from; there are: {self.listing()}"
            )

    def _require_weights(self, name: str) -> None:
        path = self.path / name
        if path.is_file():
            with path.open("rb") as stream:
                if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    raise InputError(f"{path} is a git-lfs pointer, not weights: fetch them with `git lfs pull`")
            return
        pickles = sorted(entry.name for entry in self.path.iterdir() if entry.suffix in _PICKLES)
        if pickles:
            raise InputError(
                f"{self.name} has only pickle weights ({', '.join(pickles[:3])}), which can run code when loaded:"
                " convert them to safetensors (save_pretrained does) or use a safetensors revision"
            )
        raise InputError(f"{self.name} has no weights: no {name} in it; there are: {self.listing()}")


def find_model(config: ModelConfig) -> ModelFolder:
    """The local folder of the model; a hub id is downloaded (safetensors, configuration, tokenizer) or found in cache.

    Of a model that a server holds, weights are not downloaded.

    Raises ``InputError`` where the path is neither a folder nor a hub model, or the hub cannot be reached.
    """
    if not config.path:
        raise InputError("no model: give --model a local folder or a hub id (owner/name)")
    path = Path(config.path).expanduser()
    if path.is_dir():
        return ModelFolder(config.path, path)
    if path.is_file():
        raise InputError(f"{config.path} is a file: give the folder that holds config.json and the weights")
    if not _HUB_ID.fullmatch(config.path) or config.path.startswith("."):
        raise InputError(f"no such model folder: {config.path}{_near(path)}")
    return ModelFolder(config.path, _snapshot(config))


def find_base(adapter: ModelFolder, config: ModelConfig) -> ModelFolder:
    """The folder of the model an adapter belongs to; a relative path is tried beside the adapter, too."""
    base = adapter.require_adapter()
    beside = adapter.path / base
    path = str(beside) if not Path(base).is_dir() and beside.is_dir() else base
    try:
        return find_model(config.model_copy(update={"path": path, "revision": None}))
    except InputError as error:
        raise InputError(f"the base model of the adapter {adapter.name}: {error}") from error


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's message on one line, its type where that is needed to understand it."""
    text = str(error).strip()
    if isinstance(error, KeyError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return shortened(text, limit)


def _near(path: Path) -> str:
    return near_names(path.name, _folders(path.parent)) if path.parent.is_dir() else ""


def _folders(parent: Path) -> Iterable[str]:
    return [entry.name for entry in parent.iterdir() if entry.is_dir()]


def _snapshot(config: ModelConfig) -> Path:
    import httpx
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub import errors as hub

    name = str(config.path)
    wanted = [*_WANTED, "*.py"] if config.trust_remote_code else _WANTED
    if config.server is not None:
        wanted = [pattern for pattern in wanted if pattern != _WEIGHTS]
    try:
        with writing(Path(constants.HF_HUB_CACHE)):
            return Path(
                snapshot_download(name, revision=config.revision, allow_patterns=wanted, ignore_patterns=_UNWANTED)
            )
    except hub.GatedRepoError as error:
        raise InputError(f"{name} is gated: accept its terms on the hub, then log in with `hf auth login`") from error
    except hub.RevisionNotFoundError as error:
        raise InputError(f"{name} has no revision {config.revision!r} on the hub") from error
    except (hub.RepositoryNotFoundError, hub.HFValidationError) as error:
        raise InputError(
            f"no such model: {name} is neither a local folder nor a model on the hub{_near(Path(name))}"
        ) from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, httpx.TransportError) as error:
        raise InputError(
            f"{name} is not a local folder{_near(Path(name))}, and the hub could not be reached"
        ) from error
    except hub.HfHubHTTPError as error:
        raise InputError(f"the hub refuses {name}: {one_line(error)}") from error
