"""Pairs with a prompt for each side: response-conditioned reward models and preferences (arXiv 2502.00814)."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_policy import CONTEXT, VOCABULARY, tiny_model, tiny_pairs, tiny_tokenizer
from torch.nn.functional import logsigmoid

from rlsf.errors import InputError
from rlsf.training import keep_reference, train_preferences
from rlsf.training.collator import PairCollator
from rlsf.training.config import SelectionConfig, TrainingConfig
from rlsf.training.objective import Objective, PairLogprobs
from rlsf.training.pairs import REJECTED_PROMPT, Pairs, prepare_pairs
from rlsf.training.preference_trainer import REFERENCE
from rlsf.training.reward_model import build_reward_trainer, reward_arguments
from rlsf.training.reward_model_config import RewardModelConfig


def conditioned(rows: int = 6, weights: tuple[float, float] = (1.0, 1.0)) -> pa.Table:
    """Ordinary pairs, then each with its two comparisons; a limit is two tokens before the prompt."""
    found = []
    for number, pair in enumerate(tiny_pairs(rows).to_pylist()):
        plain, limited = pair["prompt_ids"], [30 + number % 8, 29, *pair["prompt_ids"]]
        found += [
            {**pair, REJECTED_PROMPT: plain, "weight": 1.0},
            {**pair, "rejected_ids": pair["chosen_ids"], REJECTED_PROMPT: limited, "weight": weights[0]},
            {**pair, "chosen_ids": pair["rejected_ids"], "prompt_ids": limited, REJECTED_PROMPT: plain},
        ]
        found[-1] |= {"weight": weights[1]}
    return pa.Table.from_pylist(found)


def prepare(pairs: pa.Table, max_length: int | None = CONTEXT, **settings: Any) -> Pairs:
    return prepare_pairs(pairs, TrainingConfig(**settings), vocabulary_size=VOCABULARY, max_length=max_length)


def test_each_side_follows_its_prompt() -> None:
    rows = conditioned(2).to_pylist()
    batch = PairCollator(pad_token_id=0)(prepare(conditioned(2)).dataset.to_list())
    for half, (prompt, trace) in enumerate((("prompt_ids", "chosen_ids"), (REJECTED_PROMPT, "rejected_ids"))):
        for place, row in enumerate(rows):
            ids, attended, scored = (
                batch[name][half * len(rows) + place] for name in ("input_ids", "attention_mask", "completion_mask")
            )
            assert ids[attended.bool()].tolist() == row[prompt] + row[trace]
            assert ids[scored.bool()].tolist() == row[trace]
    joint = PairCollator(pad_token_id=0, joint=True)(prepare(conditioned(2)).dataset.to_list())
    assert torch.equal(joint["completion_mask"], batch["attention_mask"])
    assert torch.equal(joint["input_ids"], batch["input_ids"])


def test_ordinary_rows_with_both_prompts_are_the_batch_without() -> None:
    pairs = tiny_pairs(5)
    both = pairs.append_column(REJECTED_PROMPT, pairs["prompt_ids"])
    expected, found = (PairCollator(pad_token_id=3)(prepare(table).dataset.to_list()) for table in (pairs, both))
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_rows_with_both_prompts_are_checked() -> None:
    pairs = conditioned(2)
    assert "weight" not in prepare(pairs).dataset.column_names
    assert prepare(conditioned(1, (1.0, 0.5))).dataset["weight"][:] == [1.0, 1.0, 0.5]
    place = pairs.column_names.index(REJECTED_PROMPT)
    changed = [[*ids, 5] for ids in pairs[REJECTED_PROMPT].to_pylist()]
    assert prepare(pairs).digest != prepare(pairs.set_column(place, REJECTED_PROMPT, pa.array(changed))).digest
    changed[3] = [5] * CONTEXT
    assert prepare(pairs.set_column(place, REJECTED_PROMPT, pa.array(changed))).too_long == 1
    changed[3] = [VOCABULARY]
    with pytest.raises(InputError, match=f"token id {VOCABULARY} in 'rejected_prompt_ids'"):
        prepare(pairs.set_column(place, REJECTED_PROMPT, pa.array(changed)))
    with pytest.raises(InputError, match="'rejected_prompt_ids' has empty cells"):
        prepare(pairs.set_column(place, REJECTED_PROMPT, pa.array([*changed[:-1], None])))


def reward_trainer(folder: Path, pairs: pa.Table, **settings: Any) -> Any:
    config = RewardModelConfig(
        learning_rate=1e-2,
        batch_size=pairs.num_rows,
        use_margin=False,
        trainer={"train_sampling_strategy": "sequential"},
    ).model_copy(update=settings)
    model = tiny_model()
    arguments = reward_arguments(config, model, folder, seed=7)
    return build_reward_trainer(model, tiny_tokenizer(), prepare(pairs), config, arguments)


def differences(trainer: Any, pairs: pa.Table) -> torch.Tensor:
    """Reward of each side by hand: w . h at the last token of its own prompt and trace, nothing padded, in float64."""
    body, weight = copy.deepcopy(trainer.model.model).double(), trainer.model.score.weight.double()

    def reward(ids: list[int]) -> torch.Tensor:
        return body(torch.tensor([ids])).last_hidden_state[0, -1] @ weight[0]

    return torch.stack(
        [
            reward(row["prompt_ids"] + row["chosen_ids"]) - reward(row[REJECTED_PROMPT] + row["rejected_ids"])
            for row in pairs.to_pylist()
        ]
    )


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.25)])
@pytest.mark.parametrize("centre", [0.0, 0.3])
def test_loss_of_the_reward_model_by_hand(tmp_path: Path, weights: tuple[float, float], centre: float) -> None:
    """Mean of -w log s(difference), with lambda as the weight of the second comparison."""
    pairs = conditioned(4, weights)
    trainer = reward_trainer(tmp_path, pairs, centre_rewards=centre)
    batch = next(iter(trainer.get_train_dataloader()))
    assert ("weight" in batch) == (weights != (1.0, 1.0))
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    found = differences(trainer, pairs)
    weight = torch.tensor([1.0, *weights] * 4, dtype=torch.float64)
    sums = outputs.logits.squeeze(-1).chunk(2)
    expected = -(weight * logsigmoid(found)).mean() + centre * ((sums[0] + sums[1]) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert found.abs().min() > 1e-3


def test_a_scorer_of_responses_alone_loses_log_2_a_comparison(tmp_path: Path) -> None:
    """Any drop below it proves that the prompt is used. Attention is cut off, so that the last token alone counts."""
    pairs = conditioned(5).filter(pa.array([place % 3 > 0 for place in range(15)]))
    trainer = reward_trainer(tmp_path, pairs)
    assert differences(trainer, pairs).abs().min() > 1e-3
    for layer in trainer.model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def logprob(model: Any, prompt: list[int], trace: list[int], joint: bool) -> float:
    """Summed log-probability of the trace, or of prompt and trace but for their first token, in float64."""
    ids = [*prompt, *trace]
    with torch.no_grad():
        each = model.double()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return float(each[range(len(ids) - 1), ids[1:]][0 if joint else len(prompt) - 1 :].sum())


def by_hand(seed: int, joint: bool, pairs: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
    model = tiny_model(seed)
    rows = pairs.to_pylist()
    return (
        torch.tensor([logprob(model, row["prompt_ids"], row["chosen_ids"], joint) for row in rows]),
        torch.tensor([logprob(model, row[REJECTED_PROMPT], row["rejected_ids"], joint) for row in rows]),
    )


@pytest.mark.parametrize("likelihood", ["conditional", "joint"])
def test_preferences_between_prompts_by_hand(tmp_path: Path, likelihood: Any) -> None:
    """-w log s(beta (log-ratio of the chosen side - that of the rejected side)), each side with its own prompt."""
    pairs = conditioned(3, (1.0, 0.5))
    config = TrainingConfig(
        max_steps=1,
        batch_size=pairs.num_rows,
        learning_rate=1e-6,
        nll_weight=0.0,
        beta=0.5,
        likelihood=likelihood,
        rounds=2,
        reference="start",
        selection=SelectionConfig(enabled=False),
    )
    same: dict[str, Any] = {"tokenizer": tiny_tokenizer(), "preferences": pairs, "config": config}
    keep_reference(lambda: tiny_model(0), folder=tmp_path / "checkpoints", seed=0, **same)
    joint = likelihood == "joint"
    start, policy = by_hand(0, joint, pairs), by_hand(1, joint, pairs)
    stored = pq.read_table(tmp_path / "checkpoints" / REFERENCE)
    for side, expected in zip(("chosen", "rejected"), start, strict=True):
        assert stored[f"ref_{side}_logps"].to_pylist() == pytest.approx(expected.tolist(), abs=1e-4)
    events: list[Any] = []
    folders = {"folder": tmp_path / "checkpoints", "policy_folder": tmp_path / "policy"}
    train_preferences(model=tiny_model(1), seed=0, record=events.append, **folders, **same)
    ratios = policy[0] - start[0], policy[1] - start[1]
    weight = torch.tensor([1.0, 1.0, 0.5] * 3)
    loss = -(weight * logsigmoid(0.5 * (ratios[0] - ratios[1]))).mean()
    step = next(event for event in events if event["event"] == "training")
    assert step["loss"] == pytest.approx(float(loss), abs=1e-4)
    assert step["rewards/margins"] == pytest.approx(0.5 * float((ratios[0] - ratios[1]).mean()), abs=1e-4)


def test_joint_of_ordinary_pairs_is_conditional() -> None:
    """One prompt's probability is in both log-ratios and cancels; two prompts' do not."""
    plain = conditioned(4).filter(pa.array([place % 3 == 0 for place in range(12)]))
    for pairs, same in ((plain, True), (conditioned(4), False)):
        differences = []
        for joint in (False, True):
            start, policy = by_hand(0, joint, pairs), by_hand(1, joint, pairs)
            differences.append((policy[0] - start[0]) - (policy[1] - start[1]))
        assert torch.allclose(*differences, atol=1e-4) == same


def test_a_reference_of_the_other_likelihood_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 1, "nll_weight": 0.0, "selection": SelectionConfig(enabled=False)}
    same: dict[str, Any] = {"tokenizer": tiny_tokenizer(), "preferences": conditioned(2)}
    keep_reference(lambda: tiny_model(), config=TrainingConfig(**settings), folder=tmp_path, seed=0, **same)
    with pytest.raises(InputError, match="belongs to other preference pairs"):
        train_preferences(
            model=tiny_model(),
            config=TrainingConfig(likelihood="joint", **settings),
            folder=tmp_path,
            policy_folder=tmp_path / "policy",
            seed=0,
            **same,
        )


def test_an_objective_of_trls_knows_no_weights(tmp_path: Path) -> None:
    config = TrainingConfig(max_steps=1, selection=SelectionConfig(enabled=False), trainer={"loss_type": ["hinge"]})

    def train(*weights: float) -> int:
        folder = tmp_path / str(weights)
        return train_preferences(
            model=tiny_model(),
            tokenizer=tiny_tokenizer(),
            preferences=conditioned(2, (weights[0], weights[1])),
            config=config,
            folder=folder,
            policy_folder=folder / "policy",
            seed=0,
        ).pairs

    assert train(1.0, 1.0) == 6
    with pytest.raises(InputError, match=r"set conditioning\.rejected_weight=1"):
        train(1.0, 0.5)


def test_joint_needs_no_nll_term() -> None:
    with pytest.raises(ValueError, match=r"training\.nll_weight=0"):
        TrainingConfig(likelihood="joint")


def test_the_normaliser_does_not_cancel_between_prompts() -> None:
    """The card's example: pi(y) = ref(y) exp(r(y) / beta) / Z is optimal for r, and what its log-ratios give back.

    Between two prompts beta (log-ratio(x) - log-ratio(x1)) is the difference of rewards less beta (log Z(x) - log
    Z(x1)), the same for every response.
    """
    beta = 0.5
    references = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    rewards = np.array([[1.0, 0.0, 0.5], [-1.0, 2.0, 0.5]])
    unnormalised = references * np.exp(rewards / beta)
    normalisers = unnormalised.sum(axis=1)
    assert normalisers == pytest.approx([4.538184, 28.141627], abs=1e-6)
    policy, reference = (torch.tensor(np.log(each)) for each in (unnormalised / normalisers[:, None], references))
    logprobs = PairLogprobs(policy[0], policy[1], reference[0], reference[1], torch.ones(3), torch.ones(3))
    implicit = beta * (logprobs.chosen_log_ratio - logprobs.rejected_log_ratio)
    assert implicit.tolist() == pytest.approx([2.912361, -1.087639, 0.912361], abs=1e-6)
    off = beta * float(np.log(normalisers[0] / normalisers[1]))
    assert off == pytest.approx(-0.912361, abs=1e-6)
    assert (torch.tensor(rewards[0] - rewards[1]) - off - implicit).abs().max() < 1e-9
    # The joint of both prompts with one Z: its log-ratios give the differences themselves.
    joint = np.log(unnormalised / unnormalised.sum()), np.log(references / references.sum())
    sides = [torch.tensor(values) for values in (*joint[0], *joint[1])]
    at_once = PairLogprobs(*sides, torch.ones(3), torch.ones(3))
    found = beta * (at_once.chosen_log_ratio - at_once.rejected_log_ratio)
    assert found.tolist() == pytest.approx([2.0, -2.0, 0.0], abs=1e-9)
    losses = Objective(beta=beta)(at_once)
    assert losses.tolist() == pytest.approx((-logsigmoid(torch.tensor([2.0, -2.0, 0.0]))).tolist(), abs=1e-6)
