from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import byte_level_tokenizer, tiny_llama

from rlsf.errors import InputError
from rlsf.models import ModelConfig, has_chat_template, load_tokenizer


def load(folder: Path):
    return load_tokenizer(ModelConfig(path=str(folder)))


def test_pads_left_with_the_end_of_sequence_token(model_folder: Path) -> None:
    tokenizer = load(model_folder)
    assert (tokenizer.padding_side, tokenizer.pad_token_id, tokenizer.eos_token_id) == ("left", 1, 1)
    assert len(tokenizer) == len(byte_level_tokenizer()), "no token was added, so no embedding must be"
    batch = tokenizer(["how many", "how many apples are there?"], padding=True)
    assert batch["attention_mask"][0][0] == 0
    assert batch["attention_mask"][0][-1] == 1


def test_an_own_pad_token_is_kept(tmp_path: Path) -> None:
    byte_level_tokenizer(pad_token="<s>", eos_token="</s>").save_pretrained(tmp_path)
    assert load(tmp_path).pad_token_id == 0


def test_chat_template_or_none(model_folder: Path) -> None:
    assert not has_chat_template(load(model_folder))
    tokenizer = byte_level_tokenizer(eos_token="</s>")
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(model_folder)
    assert has_chat_template(load(model_folder))


def test_end_of_sequence_from_the_models_configuration(model_folder: Path) -> None:
    byte_level_tokenizer().save_pretrained(model_folder)
    tokenizer = load(model_folder)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == ("</s>", 1, 1)


def test_no_end_of_sequence_anywhere(tmp_path: Path) -> None:
    tiny_llama(eos_token_id=None).save_pretrained(tmp_path)
    byte_level_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no end-of-sequence token.*set eos_token in .*tokenizer_config.json"):
        load(tmp_path)


def test_a_folder_without_tokenizer_says_what_is_there(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"has no tokenizer .*there are: config.json, .*model.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{\n\n]", r"tokenizer.json:3: not valid JSON"),
        ("[]", r"tokenizer.json: expected a JSON object, found list"),
        ('{"added_tokens": [], "model": {"type": "BPE"}}', "cannot load the tokenizer of .*: Missing vocab/merges"),
    ],
)
def test_a_broken_tokenizer_file(model_folder: Path, content: str, message: str) -> None:
    (model_folder / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load(model_folder)


def test_a_lost_vocabulary(model_folder: Path) -> None:
    (model_folder / "tokenizer.json").unlink()
    (model_folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(InputError, match="has no vocabulary"):
        load(model_folder)


def test_remote_tokenizer_code_needs_consent(model_folder: Path) -> None:
    (model_folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["code.Own", null]}}')
    with pytest.raises(InputError, match=r"set model.trust_remote_code=true"):
        load(model_folder)


def test_an_adapter_uses_the_tokenizer_of_its_base(model_folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model_folder)}))
    (adapter / "adapter_model.safetensors").touch()
    assert load(adapter).eos_token_id == 1
    byte_level_tokenizer(eos_token="<s>").save_pretrained(adapter)
    assert load(adapter).eos_token_id == 0, "its own tokenizer, where it has one"
