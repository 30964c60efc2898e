"""The bundled small model and its procedurally generated questions."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rlsf.demo.data import write_data

#: The bundled model and tokenizer, loadable with ``from_pretrained``.
MODEL_DIR = Path(str(resources.files("rlsf.demo") / "sums-1m"))

__all__ = ["MODEL_DIR", "write_data"]
