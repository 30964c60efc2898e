from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import byte_level_tokenizer, tiny_llama


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A complete model folder, tokenizer included."""
    folder = tmp_path / "tiny"
    tiny_llama().save_pretrained(folder)
    byte_level_tokenizer(bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Offline, with an empty hub cache; its path."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache
