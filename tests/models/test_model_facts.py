from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import byte_level_tokenizer, tiny_llama
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

from rlsf.errors import InputError, ModelError
from rlsf.models import (
    ModelConfig,
    check_vocabulary,
    context_length,
    eos_token_ids,
    model_fingerprint,
    resolve_device,
)
from rlsf.models.device import resolve_dtype


def test_every_source_of_end_of_sequence_counts_once() -> None:
    model = tiny_llama(eos_token_id=[1, 7])
    model.generation_config.eos_token_id = [5, 1]
    tokenizer = byte_level_tokenizer(eos_token="<s>")
    assert eos_token_ids(model, tokenizer) == (5, 1, 7, 0)


def test_ids_outside_the_embeddings_end_nothing() -> None:
    model = tiny_llama(eos_token_id=[1, 100_000])
    assert eos_token_ids(model, byte_level_tokenizer()) == (1,)


def test_no_end_of_sequence_is_an_error() -> None:
    with pytest.raises(ModelError, match="names an end-of-sequence token"):
        eos_token_ids(tiny_llama(eos_token_id=None), byte_level_tokenizer())


def test_context_length() -> None:
    assert context_length(tiny_llama()) == 128
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_positions=48, n_embd=8, n_layer=1, n_head=2))
    assert context_length(gpt2) == 48
    unbounded = BloomForCausalLM(BloomConfig(vocab_size=10, hidden_size=8, n_layer=1, n_head=2))
    assert context_length(unbounded) is None, "ALiBi sets no bound"


def test_a_tokenizer_larger_than_the_model() -> None:
    tokenizer = byte_level_tokenizer()
    check_vocabulary(tiny_llama(), tokenizer)
    with pytest.raises(ModelError, match=f"ids up to {len(tokenizer) - 1}, the model embeddings for 260"):
        check_vocabulary(tiny_llama(vocab_size=260), tokenizer)


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "cuda:x", ""])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(InputError, match="use auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="no CUDA device is available"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="there are 2 CUDA devices"):
        resolve_device("cuda:2")


def test_automatic_precision() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert resolve_dtype("auto", cpu, for_training=False) is torch.float32
    assert resolve_dtype("auto", gpu, for_training=False) is None
    assert resolve_dtype("auto", gpu, for_training=True) is torch.float32
    assert resolve_dtype("bfloat16", gpu, for_training=True) is torch.bfloat16


def test_fingerprint_follows_the_content_and_not_the_place(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(model_folder, copy)
    original = model_fingerprint(ModelConfig(path=str(model_folder)))
    assert model_fingerprint(ModelConfig(path=str(copy))) == original
    (copy / "README.md").write_text("a remark changes nothing")
    assert model_fingerprint(ModelConfig(path=str(copy))) == original


def test_fingerprint_sees_one_flipped_bit_of_equal_size(model_folder: Path) -> None:
    before = model_fingerprint(ModelConfig(path=str(model_folder)))
    weights = model_folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    stat = weights.stat()
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert model_fingerprint(ModelConfig(path=str(model_folder))) != before


def test_fingerprint_of_an_adapter_includes_its_base(model_folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{model_folder}"}}')
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    before = model_fingerprint(ModelConfig(path=str(adapter)))
    tiny_llama(seed=1).save_pretrained(model_folder)
    assert model_fingerprint(ModelConfig(path=str(adapter))) != before


def test_fingerprint_of_a_hub_id_is_its_commit(no_hub: Path, model_folder: Path) -> None:
    repository = no_hub / "models--someone--tiny"
    shutil.copytree(model_folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    assert model_fingerprint(ModelConfig(path="someone/tiny")) == "someone/tiny@0123abc"


@pytest.mark.parametrize("room", ["rlsf.models", "rlsf.prompts"])
def test_importing_the_room_loads_no_model_library(room: str) -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'peft', 'pyarrow', 'jinja2'}"
    code = f"import {room}, sys; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
