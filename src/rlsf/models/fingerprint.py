"""A digest that changes when, and only when, the model does."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from rlsf.files import file_digest
from rlsf.models.config import ModelConfig
from rlsf.models.folder import CALIBRATION, ModelFolder, find_base, find_model

_SUFFIXES = {".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken", ".py"}


def model_fingerprint(config: ModelConfig) -> str:
    """SHA-256 over names, sizes and contents of a folder's configuration, tokenizer and weights, adapter and base.

    For a hub id: ``owner/name@commit``, which pins the same. File digests are kept for the life of the process, by
    path, size and modification time.
    """
    folder = find_model(config)
    if not Path(str(config.path)).expanduser().is_dir():
        return f"{config.path}@{folder.path.name}"
    parts = [_folder_digest(folder)]
    if folder.is_adapter:
        base = find_base(folder, config)
        parts.append(model_fingerprint(config.model_copy(update={"path": str(base.name), "revision": None})))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _folder_digest(folder: ModelFolder) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.path.iterdir()):
        if path.is_file() and path.suffix in _SUFFIXES and path.name != CALIBRATION:
            stat = path.stat()
            content = _file_digest(str(path.resolve()), stat.st_size, stat.st_mtime_ns)
            digest.update(f"{path.name}\0{stat.st_size}\0{content}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, modified_ns: int) -> str:
    return file_digest(Path(path))
