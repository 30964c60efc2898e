"""Training end to end on a tiny model: what is learnt, what is saved, what is refused, and exact resume."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_policy import tiny_model, tiny_pairs, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlsf.errors import InputError, ModelError, ResourceError
from rlsf.training import TrainingResult, train_preferences
from rlsf.training.config import LoraSection, SelectionConfig, TrainingConfig

FAST: dict[str, Any] = {"max_steps": 6, "batch_size": 8, "save_every": 2, "learning_rate": 1e-2}
#: For results that agree only up to rounding: Adam would turn the rounding of a gradient near zero into a whole step.
PLAIN_STEPS: dict[str, Any] = {"max_steps": 3, "learning_rate": 0.5, "trainer": {"optim": "sgd"}}


def train(folder: Path, **changes: Any) -> TrainingResult:
    settings = {**FAST, **{k: changes.pop(k) for k in list(changes) if k in TrainingConfig.model_fields}}
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "tokenizer": tiny_tokenizer(),
        "preferences": tiny_pairs(),
        "config": TrainingConfig(**settings),
        "folder": folder / "checkpoints",
        "policy_folder": folder / "policy",
        "seed": 7,
        **changes,
    }
    return train_preferences(**arguments)


def weights(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / "policy" / name)


def assert_equal_weights(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def assert_trained_alike(first: Path, second: Path) -> None:
    """The same weights up to rounding, and every one of them moved by far more than that."""
    start = tiny_model().state_dict()
    for name, tensor in weights(first).items():
        torch.testing.assert_close(tensor, weights(second)[name], atol=1e-5, rtol=0)
        assert (tensor - start[name]).abs().max() > 1e-3, name


def scripted(*agreements: float, every: int = 2):
    """A probe that looks at the model, and answers what the test wants at each of its steps."""

    def probe(model: Any, step: int) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        generated = model.generate(torch.tensor([[2, 3]]), max_new_tokens=2, do_sample=True, pad_token_id=0)
        assert generated.shape[1] >= 3
        return {"agreement": agreements[step // every]}

    return probe


def test_the_chosen_becomes_likelier_than_the_rejected(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    result = train(tmp_path, max_steps=12, record=events.append)
    assert (result.steps, result.best_step, result.pairs) == (12, 12, 24)
    assert [event["step"] for event in events] == list(range(1, 13))
    assert events[0]["preference_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert events[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert result.metrics["rewards/margins"] > 0.5
    assert result.metrics["rewards/accuracies"] == 1.0
    assert result.metrics["logps/chosen_drift"] > 0
    assert result.reason == "no selection: the last step is kept"


def test_the_nll_term_keeps_the_chosen_trace_likely(tmp_path: Path) -> None:
    plain, guarded = (
        train(tmp_path / str(weight), nll_weight=weight, max_steps=12).metrics["logps/chosen_drift"]
        for weight in (0.0, 1.0)
    )
    assert guarded > plain + 1


def test_the_saved_policy_loads_and_is_the_trained_one(tmp_path: Path) -> None:
    model = tiny_model()
    train(tmp_path, model=model)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert_equal_weights(policy.state_dict(), model.state_dict())
    assert AutoTokenizer.from_pretrained(tmp_path / "policy").eos_token == "<eos>"
    assert {path.suffix for path in (tmp_path / "policy").iterdir()} == {".json", ".safetensors"}


def test_special_tokens_stay_as_they_were(tmp_path: Path) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.generation_config.eos_token_id = [1, 5]
    train(tmp_path, model=model, tokenizer=tokenizer)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert policy.generation_config.eos_token_id == [1, 5]
    assert policy.generation_config.pad_token_id is None
    assert policy.config.pad_token_id is None
    assert tokenizer.pad_token is None
    assert AutoTokenizer.from_pretrained(tmp_path / "policy").pad_token is None


def test_same_seed_same_weights_other_seed_other_order(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        train(tmp_path / name, seed=seed)
    assert_equal_weights(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not torch.equal(weights(tmp_path / "a")["lm_head.weight"], weights(tmp_path / "c")["lm_head.weight"])


def test_a_probe_that_draws_random_numbers_changes_nothing(tmp_path: Path) -> None:
    train(tmp_path / "a", lora=LoraSection(dropout=0.2))
    train(tmp_path / "b", lora=LoraSection(dropout=0.2), probe=scripted(0.1, 0.2, 0.3, 0.4), selection={"every": 2})
    name = "adapter_model.safetensors"
    assert_equal_weights(weights(tmp_path / "a", name), weights(tmp_path / "b", name))


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    train(tmp_path / "whole", **PLAIN_STEPS)
    train(tmp_path / "parts", **PLAIN_STEPS, device_batch_size=2)
    assert_trained_alike(tmp_path / "whole", tmp_path / "parts")


def test_precomputed_and_live_references_agree(tmp_path: Path) -> None:
    for name, precompute in (("stored", True), ("live", False)):
        train(tmp_path / name, precompute_reference=precompute, **PLAIN_STEPS)
    assert (tmp_path / "stored" / "checkpoints" / "reference.parquet").exists()
    assert not (tmp_path / "live" / "checkpoints" / "reference.parquet").exists()
    assert_trained_alike(tmp_path / "stored", tmp_path / "live")


def test_margin_and_weight_change_the_result(tmp_path: Path) -> None:
    for name, settings in (("plain", {}), ("margin", {"use_margin": True}), ("weight", {"use_weight": True})):
        train(tmp_path / name, max_steps=2, **settings)
    plain = weights(tmp_path / "plain")["lm_head.weight"]
    for name in ("margin", "weight"):
        assert not torch.equal(plain, weights(tmp_path / name)["lm_head.weight"])


def test_bfloat16_weights_train_in_float32_and_come_back(tmp_path: Path) -> None:
    train(tmp_path, model=tiny_model(dtype=torch.bfloat16), max_steps=2)
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.bfloat16}
    checkpoint = load_file(tmp_path / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert {tensor.dtype for tensor in checkpoint.values()} == {torch.float32}


# Adapters


def test_lora_saves_an_adapter_and_leaves_the_base(tmp_path: Path) -> None:
    train(tmp_path, lora=LoraSection())
    start = tiny_model()
    tuned = PeftModel.from_pretrained(tiny_model(), tmp_path / "policy")
    ids = torch.tensor([[2, 3, 4]])
    assert not torch.allclose(tuned(ids).logits, start(ids).logits)
    with tuned.disable_adapter():
        assert torch.equal(tuned(ids).logits, start(ids).logits)
    assert not any("lm_head" in name for name in weights(tmp_path, "adapter_model.safetensors"))


def test_an_adapter_trains_on_in_the_next_round(tmp_path: Path) -> None:
    """The reference of the second round is the policy of the first; what is saved is one adapter over the base."""
    train(tmp_path / "one", lora=LoraSection())
    events: list[dict[str, Any]] = []
    started = PeftModel.from_pretrained(tiny_model(), tmp_path / "one" / "policy", is_trainable=True)
    train(tmp_path / "two", lora=LoraSection(), model=started, record=events.append)
    assert events[0]["preference_loss"] == pytest.approx(0.693147, abs=1e-5)
    first, second = (weights(tmp_path / name, "adapter_model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    assert any(not torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_lora_on_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lm_head"):
        train(tmp_path, lora=LoraSection(target_modules=("lm_head",)))


def test_lora_on_modules_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training: .*qkv"):
        train(tmp_path, lora=LoraSection(target_modules=("qkv",)))


# Selection


@pytest.mark.parametrize("lora", [None, LoraSection()])
def test_the_best_probed_step_is_saved(tmp_path: Path, lora: LoraSection | None) -> None:
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    result = train(tmp_path / "six", lora=lora, selection=SelectionConfig(every=2), probe=scripted(0.1, 0.3, 0.5, 0.2))
    assert (result.steps, result.best_step) == (6, 4)
    assert [probe["step"] for probe in result.probes] == [0, 2, 4, 6]
    checkpoint = load_file(tmp_path / "six" / "checkpoints" / "checkpoint-4" / name)
    assert_equal_weights(weights(tmp_path / "six", name), checkpoint)


def test_the_start_is_saved_where_no_step_is_better(tmp_path: Path) -> None:
    result = train(tmp_path, selection=SelectionConfig(every=2), probe=scripted(0.9, 0.3, 0.9, 0.2))
    assert result.best_step == 0
    assert "the start, which is kept" in result.reason
    start = tiny_model().state_dict()
    assert_equal_weights(weights(tmp_path), {name: start[name] for name in weights(tmp_path)})


def test_patience_ends_training(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    result = train(
        tmp_path,
        max_steps=20,
        selection=SelectionConfig(every=2, patience=2),
        probe=scripted(0.1, 0.5, 0.3, 0.2),
        record=events.append,
    )
    assert (result.steps, result.best_step) == (6, 2)
    assert [event["agreement"] for event in events if event["event"] == "probe"] == [0.1, 0.5, 0.3, 0.2]


def test_selection_can_be_switched_off(tmp_path: Path) -> None:
    result = train(tmp_path, selection=SelectionConfig(enabled=False), probe=scripted())
    assert (result.best_step, result.probes) == (6, ())


# Resume


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def record(event: dict[str, Any]) -> None:
        if event["step"] == step:
            raise Interrupted

    return record


@pytest.mark.parametrize("step", [1, 3, 5, 6])
def test_resume_is_exact(tmp_path: Path, step: int) -> None:
    """24 pairs, 8 a step: steps 1 and 5 are inside an epoch, 3 and 6 end one."""
    settings: dict[str, Any] = {"selection": SelectionConfig(every=2), "probe": scripted(0.1, 0.3, 0.2, 0.4)}
    whole: list[dict[str, Any]] = []
    train(tmp_path / "whole", record=whole.append, **settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", record=interrupt_at(step), **settings)
    again: list[dict[str, Any]] = []
    result = train(tmp_path / "cut", record=again.append, resume=True, **settings)
    assert_equal_weights(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert (result.steps, result.best_step) == (6, 6)
    assert again == [event for event in whole if event in again]


def test_resume_with_adapters_is_exact(tmp_path: Path) -> None:
    lora = LoraSection(dropout=0.3)
    train(tmp_path / "whole", lora=lora)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", lora=lora, record=interrupt_at(5))
    train(tmp_path / "cut", lora=lora, resume=True)
    name = "adapter_model.safetensors"
    assert_equal_weights(weights(tmp_path / "whole", name), weights(tmp_path / "cut", name))


def test_resume_with_tied_embeddings_is_exact(tmp_path: Path) -> None:
    train(tmp_path / "whole", model=tiny_model(tied=True))
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", model=tiny_model(tied=True), record=interrupt_at(5))
    train(tmp_path / "cut", model=tiny_model(tied=True), resume=True)
    assert "lm_head.weight" not in weights(tmp_path / "cut")
    assert_equal_weights(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_resume_with_another_architecture_is_refused(tmp_path: Path) -> None:
    train(tmp_path, model=tiny_model(tied=True))
    with pytest.raises(ModelError, match=r"does not belong to this model \(lm_head.weight"):
        train(tmp_path, model=tiny_model(), resume=True)


def test_resume_of_a_finished_run_only_saves_the_policy(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"selection": SelectionConfig(every=2), "probe": scripted(0.1, 0.3, 0.2, 0.2)}
    first = train(tmp_path, **settings)
    before = weights(tmp_path)
    (tmp_path / "policy" / "model.safetensors").unlink()
    events: list[dict[str, Any]] = []
    again = train(tmp_path, resume=True, record=events.append, **settings)
    assert events == []
    assert again == first
    assert_equal_weights(before, weights(tmp_path))


def test_resume_does_not_compute_the_reference_again(tmp_path: Path) -> None:
    train(tmp_path)
    reference = tmp_path / "checkpoints" / "reference.parquet"
    written = reference.stat().st_mtime_ns
    train(tmp_path, resume=True)
    assert reference.stat().st_mtime_ns == written


def test_resume_on_other_pairs_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(InputError, match="belongs to other preference pairs"):
        train(tmp_path, resume=True, preferences=tiny_pairs(seed=1))


def test_checkpoints_are_not_overwritten_silently(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(InputError, match="already holds checkpoint-6: continue with --resume"):
        train(tmp_path)


# Options and failures


def test_trainer_options_win(tmp_path: Path) -> None:
    result = train(tmp_path, trainer={"max_steps": 2, "learning_rate": 0.0})
    assert (result.steps, result.learning_rate) == (2, 0.0)
    start = tiny_model().state_dict()
    assert_equal_weights(weights(tmp_path), {name: start[name] for name in weights(tmp_path)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_scheduler_type": "cosin"}, r"training.trainer: .*cosin"),
        ({"eval_strategy": "steps"}, r"training: .*eval"),
        ({"f_divergence_type": "revers_kl"}, r"training.*: .*revers_kl"),
        ({"loss_type": ["aot"], "use_weighting": True}, r"training: WPO-style weighting is not implemented for 'aot'"),
    ],
)
def test_trainer_options_that_trl_refuses(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(tmp_path, trainer=options)


def test_a_loss_that_is_not_a_number(tmp_path: Path) -> None:
    def poison(event: dict[str, Any]) -> None:
        if event["step"] == 3:
            with torch.no_grad():
                model.lm_head.weight[0, 0] = float("nan")

    model = tiny_model()
    with pytest.raises(ModelError, match=r"loss is not a number at training step 4: lower training.learning_rate"):
        train(tmp_path, model=model, record=poison)
    assert (tmp_path / "checkpoints" / "checkpoint-2" / "trainer_state.json").exists()


def test_a_gradient_that_is_not_a_number(tmp_path: Path) -> None:
    model = tiny_model()
    model.lm_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match="gradient is not a number at training step 1"):
        train(tmp_path, model=model)
    assert not torch.isnan(model.lm_head.weight).any()


def test_no_room_for_a_checkpoint(tmp_path: Path) -> None:
    """A file-size limit from step 3 on stands in for a full disk; the run goes on once there is room again."""
    train(tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(event: dict[str, Any]) -> None:
        if event["step"] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(ResourceError, match=r"no room to write .* continue with --resume; .* is intact"):
            train(tmp_path / "cut", record=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / "cut" / "checkpoints").glob("*check*")) == ["checkpoint-2"]
    train(tmp_path / "cut", resume=True)
    assert_equal_weights(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_progress_is_told_every_step(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    train(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 6) for step in range(7)]


@pytest.mark.parametrize(
    ("pairs", "settings", "steps"),
    [
        (24, {"batch_size": 8}, 3),
        (25, {"batch_size": 8}, 4),
        (25, {"batch_size": 8, "epochs": 1.5}, 6),
        (24, {"max_steps": 5}, 5),
    ],
)
def test_optimiser_steps(tmp_path: Path, pairs: int, settings: dict[str, Any], steps: int) -> None:
    config = TrainingConfig(**settings)
    assert config.optimiser_steps(pairs) == steps
    result = train(tmp_path, preferences=tiny_pairs(pairs), **{"max_steps": None, **settings})
    assert result.steps == steps
