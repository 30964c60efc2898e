from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import tiny_llama

from rlsf.errors import InputError, ModelError, ResourceError
from rlsf.models import ModelConfig, check_finite, configured_context_length, load_model, load_model_config

IDS = torch.tensor([[0, 40, 41, 42]])


def config(path: Path, **fields: object) -> ModelConfig:
    return ModelConfig(path=str(path), device="cpu", **fields)


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors, or remove those given as None."""
    weights = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        weights.pop(name, None)
        if tensor is not None:
            weights[name] = tensor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture
def adapter_folder(model_folder: Path, tmp_path: Path) -> Path:
    """A LoRA adapter whose two matrices are both non-zero, so that it changes the logits."""
    torch.manual_seed(1)
    policy = get_peft_model(load_model(config(model_folder)), LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    policy.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_weights_survive_the_round_trip(model_folder: Path) -> None:
    model = load_model(config(model_folder))
    saved = tiny_llama().state_dict()
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training


def test_auto_precision_is_float32_on_a_cpu_and_explicit_precision_wins(tmp_path: Path) -> None:
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    assert load_model(config(tmp_path / "half")).dtype == torch.float32
    assert load_model(config(tmp_path / "half", dtype="bfloat16")).dtype == torch.bfloat16


def test_sharded_weights(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    loaded = load_model(config(tmp_path / "shards"))
    assert torch.equal(loaded(IDS).logits, tiny_llama()(IDS).logits)
    shard = sorted((tmp_path / "shards").glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(InputError, match=f"no {shard.name} in it"):
        load_model(config(tmp_path / "shards"))


def test_an_adapter_is_merged_for_inference(adapter_folder: Path, model_folder: Path) -> None:
    merged = load_model(config(adapter_folder))
    base = load_model(config(model_folder))
    reference = PeftModel.from_pretrained(load_model(config(model_folder)), str(adapter_folder))
    assert not isinstance(merged, PeftModel)
    torch.testing.assert_close(merged(IDS).logits, reference(IDS).logits, rtol=1e-5, atol=1e-5)
    assert (merged(IDS).logits - base(IDS).logits).abs().max() > 1e-3


def test_an_adapter_stays_trainable_for_training(adapter_folder: Path) -> None:
    policy = load_model(config(adapter_folder), for_training=True)
    assert isinstance(policy, PeftModel)
    trainable = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)


def test_an_adapter_finds_a_base_beside_it(adapter_folder: Path, model_folder: Path) -> None:
    shutil.move(model_folder, adapter_folder / "base")
    edit_json(adapter_folder / "adapter_config.json", base_model_name_or_path="base")
    assert load_model(config(adapter_folder)).config.hidden_size == 32


def test_an_adapter_without_its_base(adapter_folder: Path, model_folder: Path) -> None:
    shutil.rmtree(model_folder)
    with pytest.raises(InputError, match=f"base model of the adapter {adapter_folder}: no such model folder"):
        load_model(config(adapter_folder))
    edit_json(adapter_folder / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(InputError, match="base_model_name_or_path is missing"):
        load_model(config(adapter_folder))


def test_an_adapter_of_another_model(adapter_folder: Path, tmp_path: Path) -> None:
    tiny_llama(hidden_size=16).save_pretrained(tmp_path / "narrow")
    edit_json(adapter_folder / "adapter_config.json", base_model_name_or_path=str(tmp_path / "narrow"))
    with pytest.raises(ModelError, match=r"does not fit its base model: .*size mismatch"):
        load_model(config(adapter_folder))


@pytest.mark.parametrize(("layers", "odd"), [(1, 14), (3, 14)])
def test_an_adapter_of_a_deeper_or_shallower_model(adapter_folder: Path, tmp_path: Path, layers: int, odd: int) -> None:
    # Seven linear layers with two matrices each have no partner.
    tiny_llama(num_hidden_layers=layers).save_pretrained(tmp_path / "other")
    edit_json(
        adapter_folder / "adapter_config.json",
        base_model_name_or_path=str(tmp_path / "other"),
        target_modules=[f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
    )
    with pytest.raises(ModelError, match=f"does not fit its base model: {odd} of its weights"):
        load_model(config(adapter_folder))


def test_a_learned_prompt_is_no_lora_adapter(model_folder: Path, tmp_path: Path) -> None:
    prompt_tuning = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(load_model(config(model_folder)), prompt_tuning).save_pretrained(tmp_path / "learned")
    with pytest.raises(InputError, match="is no LoRA adapter"):
        load_model(config(tmp_path / "learned"))


def test_a_pickled_adapter_is_refused(adapter_folder: Path) -> None:
    (adapter_folder / "adapter_model.safetensors").unlink()
    torch.save({}, adapter_folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"only pickle weights \(adapter_model.bin\)"):
        load_model(config(adapter_folder))


def test_pickled_weights_are_refused_with_the_remedy(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    torch.save({}, model_folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"only pickle weights \(pytorch_model.bin\).*convert them to safetensors"):
        load_model(config(model_folder))


def test_a_folder_without_weights_says_what_is_there(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no weights: no model.safetensors in it; there are: .*tokenizer.json"):
        load_model(config(model_folder))


def test_a_folder_without_configuration(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config.json in it; there are: .*model.safetensors"):
        load_model(config(model_folder))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_malformed_configuration_has_file_and_line(model_folder: Path, name: str) -> None:
    (model_folder / name).write_text('{\n"vocab_size": 300,\n oops\n}')
    with pytest.raises(InputError, match=rf"{name}:3: not valid JSON"):
        load_model(config(model_folder))


def test_incomplete_weights_are_never_filled_with_random_numbers(model_folder: Path) -> None:
    edit_weights(model_folder, model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(ModelError, match=r"weights are missing, 1 in all, model.layers.1.mlp.up_proj.weight"):
        load_model(config(model_folder))


def test_weights_of_another_shape(model_folder: Path) -> None:
    edit_weights(model_folder, model__norm__weight=torch.ones(31))
    with pytest.raises(ModelError, match=r"model.norm.weight has shape \(31,\) in the weights and \(32,\)"):
        load_model(config(model_folder))


def test_truncated_weights(model_folder: Path) -> None:
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged weights"):
        load_model(config(model_folder))


def test_a_configuration_is_read_without_the_weights(model_folder: Path, adapter_folder: Path) -> None:
    (model_folder / "model.safetensors").write_bytes(b"not read")
    for folder in (model_folder, adapter_folder):
        assert configured_context_length(load_model_config(config(folder))) == 128
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        load_model_config(config(model_folder))
    (model_folder / "model.safetensors").touch()
    edit_json(model_folder / "config.json", model_type="tomorrow")
    with pytest.raises(InputError, match="does not know the model type 'tomorrow'"):
        load_model_config(config(model_folder))


def test_a_git_lfs_pointer_is_recognised(model_folder: Path) -> None:
    (model_folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1")
    with pytest.raises(InputError, match="git lfs pull"):
        load_model(config(model_folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(model_folder: Path, value: float) -> None:
    edit_weights(model_folder, model__norm__weight=torch.tensor([1.0] * 31 + [value]))
    with pytest.raises(ModelError, match=r"model.norm.weight are not finite"):
        load_model(config(model_folder))
    assert load_model(config(model_folder, check_weights=False)).config.hidden_size == 32


def test_finite_weights_whose_sum_overflows_pass() -> None:
    layer = torch.nn.Linear(4, 1, bias=False, dtype=torch.float16)
    torch.nn.init.constant_(layer.weight, 60000.0)  # 4 x 60000 > 65504, the largest float16
    assert not torch.isfinite(layer.weight.sum())
    check_finite(layer, "large")


def test_an_unknown_architecture(model_folder: Path) -> None:
    edit_json(model_folder / "config.json", model_type="tomorrow")
    with pytest.raises(InputError, match="does not know the model type 'tomorrow'"):
        load_model(config(model_folder))
    edit_json(model_folder / "config.json", model_type=None)
    with pytest.raises(InputError, match="no model_type"):
        load_model(config(model_folder))


def test_remote_code_needs_consent(model_folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "it ran"
    (model_folder / "code.py").write_text(f"open({str(proof)!r}, 'w')")
    edit_json(
        model_folder / "config.json",
        model_type="tomorrow",
        auto_map={"AutoConfig": "code.TomorrowConfig", "AutoModelForCausalLM": "code.Tomorrow"},
    )
    with pytest.raises(InputError, match=r"set model.trust_remote_code=true"):
        load_model(config(model_folder))
    assert not proof.exists()


def test_a_model_that_is_not_causal(model_folder: Path) -> None:
    edit_json(model_folder / "config.json", model_type="t5", architectures=["T5ForConditionalGeneration"])
    with pytest.raises(InputError, match="is a 't5' model, not a causal language model"):
        load_model(config(model_folder))


def test_a_missing_folder_names_its_neighbours(model_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no such model folder: .*tinny \(did you mean 'tiny'"):
        load_model(config(model_folder.parent / "tinny"))


def test_a_file_is_no_model(model_folder: Path) -> None:
    with pytest.raises(InputError, match="is a file: give the folder"):
        load_model(config(model_folder / "config.json"))


def test_no_model_at_all() -> None:
    with pytest.raises(InputError, match="no model: give --model"):
        load_model(ModelConfig())


@pytest.mark.usefixtures("no_hub")
def test_an_unreachable_hub_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^nobody/nothing is not a local folder, and the hub could not be reached$"):
        load_model(ModelConfig(path="nobody/nothing"))


def test_a_hub_id_is_served_from_the_cache(no_hub: Path, model_folder: Path) -> None:
    repository = no_hub / "models--someone--tiny"
    shutil.copytree(model_folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    model = load_model(ModelConfig(path="someone/tiny", device="cpu"))
    assert torch.equal(model(IDS).logits, tiny_llama()(IDS).logits)


def refused(error: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    """The exception that the hub's client raises on an answer with this status."""
    request = httpx.Request("GET", "https://huggingface.co/api/models/someone/tiny")
    return error(f"{status} from the hub\n\nmore lines", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused(RepositoryNotFoundError, 404), "someone/tiny is neither a local folder nor a model on the hub"),
        (refused(GatedRepoError, 403), "someone/tiny is gated: accept its terms on the hub, then log in"),
        (refused(RevisionNotFoundError, 404), "someone/tiny has no revision 'v9' on the hub"),
        (refused(HfHubHTTPError, 500), "the hub refuses someone/tiny: 500 from the hub more lines"),
        (httpx.ProxyError("no proxy"), "someone/tiny is not a local folder, and the hub could not be reached"),
    ],
)
def test_refusals_of_the_hub(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=message) as caught:
        load_model(ModelConfig(path="someone/tiny", revision="v9"))
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_the_device(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", too_large)
    with pytest.raises(ResourceError, match=r"does not fit on cpu: use another device, model.dtype=bfloat16"):
        load_model(config(model_folder))
