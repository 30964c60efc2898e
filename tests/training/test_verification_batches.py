"""RISE's batches: what is graded, and solutions and gradings in one update under TRL's trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import CONTEXT, VOCABULARY, tiny_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from rlsf.answers.config import AnswerConfig
from rlsf.errors import InputError
from rlsf.rewards.grading import GRADES, GradingPrompt, parse_grade
from rlsf.rewards.verification import SelfVerification, Verdicts, grade_reward
from rlsf.sampling.config import SamplingConfig
from rlsf.training.policy_statistics import PolicyStatistics
from rlsf.training.verification import MixedVerification, choose_graded, composition, graded_per_group

GROUP, PROMPTS = 4, 6
ANSWER = AnswerConfig(format="regex", pattern=r"(?<!\S)([789])(?!\S)")
GRADING = GradingPrompt("grade {question} : {solution} end")


def test_the_published_composition() -> None:
    solving, gradings = composition(1152, 1 / 9)
    assert (solving * 8, gradings * 8, (solving + gradings) * 8) == (8192, 1024, 9216)
    assert composition(6, 0.2) == (4, 2)


@pytest.mark.parametrize(("groups", "share"), [(1, 0.1), (4, 0.9), (4, 0.0)])
def test_something_is_solved_and_something_graded(groups: int, share: float) -> None:
    with pytest.raises(InputError, match=rf"{groups} prompts .* share={share:g}"):
        composition(groups, share)


def test_the_published_selection() -> None:
    counts = graded_per_group(1024, 128)
    assert [group for group, count in enumerate(counts) if count] == list(range(128))
    assert set(counts[:128]) == {1}
    assert graded_per_group(4, 6) == [2, 2, 1, 1]
    rows = choose_graded([f"p{group}" for group in range(1024)], 8, 128, seed=3)
    assert [row // 8 for row in rows] == list(range(128))
    assert {row % 8 for row in rows} == set(range(8)), "members are random"


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 5))
def test_choices_are_distinct_balanced_and_repeatable(groups: int, gradings: int, seed: int) -> None:
    prompts = [f"p{group}" for group in range(groups)]
    if gradings > groups * GROUP:
        with pytest.raises(InputError, match="each graded once at most"):
            choose_graded(prompts, GROUP, gradings, seed)
        return
    rows = choose_graded(prompts, GROUP, gradings, seed)
    assert len(set(rows)) == len(rows) == gradings
    counts = [sum(row // GROUP == group for row in rows) for group in range(groups)]
    assert counts == graded_per_group(groups, gradings)
    assert rows == choose_graded(prompts, GROUP, gradings, seed)


def test_choices_depend_on_the_seed_and_the_prompt() -> None:
    prompts = [f"p{group}" for group in range(64)]
    members = [row % GROUP for row in choose_graded(prompts, GROUP, 64, seed=1)]
    assert members != [row % GROUP for row in choose_graded(prompts, GROUP, 64, seed=2)]
    others = [row % GROUP for row in choose_graded([*prompts[:32], *"x" * 32], GROUP, 64, seed=1)]
    assert others[:32] == members[:32]
    assert others[32:] != members[32:]


def grading_tokenizer() -> PreTrainedTokenizerFast:
    """Random words of it are answers and grades often enough."""
    said = [*(f"\\boxed{{{grade:g}}}" for grade in GRADES), "7", "8", "9", "grade", ":", "end"]
    words = ["<unk>", "<eos>", *said, *(f"w{number}" for number in range(VOCABULARY))][:VOCABULARY]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")


class Kept:
    """Mixed in to the left: keeps each batch that was learned from, with the completions and rewards of its rows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.batches: list[dict[str, Any]] = []
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)  # pyright: ignore[reportAttributeAccessIssue]
        trainer: Any = self
        prompts = [
            ids[mask.bool()].tolist() for ids, mask in zip(output["prompt_ids"], output["prompt_mask"], strict=True)
        ]
        completions = [trace.text for trace in trainer._traces]
        batch = {"rows": trainer._rows, "prompts": prompts, "said": completions, "advantages": output["advantages"]}
        self.batches.append(batch)
        return output


class KeptGRPO(Kept, MixedVerification, PolicyStatistics, GRPOTrainer):
    pass


class KeptRLOO(Kept, MixedVerification, PolicyStatistics, RLOOTrainer):
    pass


TRAINERS: dict[str, tuple[Any, Any]] = {"grpo": (KeptGRPO, GRPOConfig), "rloo": (KeptRLOO, RLOOConfig)}


def run(
    folder: Path,
    kind: str = "grpo",
    verdict: Any = "gold",
    budget: int = 8,
    share: float = 0.2,
    resume: Any = None,
    **columns: Any,
) -> Any:
    trainer_class, config_class = TRAINERS[kind]
    tokenizer = grading_tokenizer()
    rows = [
        {
            "prompt": f"w{number} w{number + 1}",
            "prompt_id": f"q{number}",
            "prompt_ids": tokenizer(f"w{number} w{number + 1}")["input_ids"],
            "question": f"w{number} w{number + 1}",
            "choices": None,
            **({"answer": str(7 + number % 3)} if verdict == "gold" else {}),
            **columns,
        }
        for number in range(2 * PROMPTS)
    ]
    trainer = trainer_class(
        model=tiny_model(),
        args=config_class(
            output_dir=str(folder),
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=budget,
            learning_rate=0.01,
            max_steps=2,
            logging_steps=1,
            report_to="none",
            beta=0.0,
            use_cpu=True,
            bf16=False,
            save_steps=1,
            seed=3,
        ),
        reward_funcs=[SelfVerification()],
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        rollouts=SamplingConfig(strategy="sampling", branches=GROUP, max_new_tokens=budget),
        rollout_seed=5,
        verdicts=Verdicts(num_generations=GROUP, verdict=verdict, answer=ANSWER),
        grading=GRADING,
        grading_share=share,
        render=lambda text: tokenizer(text)["input_ids"],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def groups(batch: dict[str, Any], name: str) -> list[list[Any]]:
    """A column of a batch, group by group."""
    values = [row[name] for row in batch["rows"]] if name in batch["rows"][0] else batch[name]
    return [values[start : start + GROUP] for start in range(0, len(values), GROUP)]


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("verdict", ["gold", "agreement"])
def test_a_mixed_batch(kind: str, verdict: Any, tmp_path: Path) -> None:
    trainer = run(tmp_path, kind, verdict)
    assert len(trainer.batches) == 2
    for batch in trainer.batches:
        assert groups(batch, "kind") == [["solve"] * GROUP] * 4 + [["grade"] * GROUP] * 2
        solved = batch["rows"][: 4 * GROUP]
        judge = Verdicts(num_generations=GROUP, verdict=verdict, answer=ANSWER)
        verdicts = judge(solved, batch["said"][: 4 * GROUP])
        assert [row["verdict"] for row in solved] == verdicts
        assert [row["target"] for row in solved] == [None] * 4 * GROUP
        assert batch["prompts"][: 4 * GROUP] == [row["prompt_ids"] for row in solved]
        for group in range(2):
            assert_gradings_of(batch, group, trainer.processing_class)


def assert_gradings_of(batch: dict[str, Any], group: int, tokenizer: PreTrainedTokenizerFast) -> None:
    """The grading group of that number shows a solution of the solving group of that number, and its verdict."""
    prompts, rows = groups(batch, "prompts")[4 + group], batch["rows"][(4 + group) * GROUP :][:GROUP]
    assert prompts == [prompts[0]] * GROUP
    question = groups(batch, "question")[group][0]
    (name,) = {row["prompt_id"] for row in rows}
    place = int(name.removeprefix(f"grading of q{question.split()[0][1:]}#"))
    shown = f"grade {question} : {groups(batch, 'said')[group][place]} end"
    assert prompts[0] == tokenizer(shown)["input_ids"]
    target = groups(batch, "verdict")[group][place]
    assert [row["target"] for row in rows] == [target] * GROUP
    assert {row["verdict"] for row in rows} == {None}
    assert {row["question"] for row in rows} == {question}


def test_solutions_and_gradings_earn_what_they_should(tmp_path: Path) -> None:
    """The advantages of one update: rewards by hand, centred and scaled group by group."""
    trainer = run(tmp_path)
    for batch, entry in zip(trainer.batches, trainer.state.log_history, strict=False):
        expected = [
            row["verdict"] if row["kind"] == "solve" else grade_reward(row["target"], parse_grade(said))
            for row, said in zip(batch["rows"], batch["said"], strict=True)
        ]
        assert entry["reward"] == pytest.approx(sum(expected) / len(expected), abs=1e-6)
        for start in range(0, len(expected), GROUP):
            rewards = expected[start : start + GROUP]
            mean = sum(rewards) / GROUP
            deviation = (sum((reward - mean) ** 2 for reward in rewards) / (GROUP - 1)) ** 0.5
            advantages = [(reward - mean) / (deviation + 1e-4) for reward in rewards]
            assert batch["advantages"][start : start + GROUP].tolist() == pytest.approx(advantages, abs=1e-4)
        graded = expected[4 * GROUP :]
        assert entry["verification/grade_accuracy"] == pytest.approx(graded.count(1.0) / len(graded))
        assert entry["verification/missing_grades"] == pytest.approx(graded.count(-1.0) / len(graded))
    everything = [row["verdict"] for batch in trainer.batches for row in batch["rows"][: 4 * GROUP]]
    assert len(set(everything)) == 3, "solutions of all three levels, so that verdicts could be mixed up"


def test_a_resumed_run_grades_the_same(tmp_path: Path) -> None:
    whole = run(tmp_path)
    resumed = run(tmp_path, resume=str(tmp_path / "checkpoint-1"))
    (batch,) = resumed.batches
    for name in ("prompts", "said", "rows"):
        assert batch[name] == whole.batches[1][name]


def test_long_solutions_leave_the_closing_words(tmp_path: Path) -> None:
    budget = 16
    trainer = run(tmp_path, budget=budget)
    prompts = [prompts[0] for batch in trainer.batches for prompts in groups(batch, "prompts")[4:]]
    end = trainer.processing_class.convert_tokens_to_ids("end")
    assert all(len(ids) <= CONTEXT - budget and ids[-1] == end for ids in prompts)
    assert any(trainer.processing_class.unk_token_id in ids for ids in prompts), "some solution was cut, with a note"


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'w1 w1 .* room for 24"):
        run(tmp_path, question="w1 " * 20)
    with pytest.raises(InputError, match="6 prompts a process"):
        run(tmp_path, share=0.9)
