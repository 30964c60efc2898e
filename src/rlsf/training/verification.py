"""Batches of rollouts in which the policy solves, and grades what it has just solved (RISE, arXiv 2505.13445)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rlsf.errors import InputError
from rlsf.rewards.grading import GradingPrompt
from rlsf.rewards.verification import Verdicts
from rlsf.sampling.randomness import derived_seed, trace_uniforms
from rlsf.traces import Trace
from rlsf.training.rollouts import SeededRollouts
from rlsf.training.spending import Allowance, OnlineSpending


def composition(groups: int, share: float) -> tuple[int, int]:
    """Groups that solve and groups that grade, of so many: P and M = ceil(share x groups).

    The published 1024 and 128 are a ninth. Raises ``InputError`` where nothing would be left to solve.
    """
    gradings = math.ceil(share * groups - 1e-9)  # a ninth of 1152 is 128, whatever floating point makes of it
    if not 0 < gradings < groups:
        raise InputError(
            f"{groups} prompts a process and batch of rollouts with share={share:g} of them gradings leave"
            f" {groups - gradings} to solve and {gradings} to grade: raise online.prompts_per_step or change the share"
        )
    return groups - gradings, gradings


def graded_per_group(groups: int, gradings: int) -> list[int]:
    """How many solutions of each of P groups are graded, M in all: the first M mod P groups have one more.

    So with M < P only the first M groups are graded, one solution each, as published.
    """
    each, more = divmod(gradings, groups)
    return [each + (group < more) for group in range(groups)]


def choose_graded(prompts: list[str], num_generations: int, gradings: int, seed: int) -> list[int]:
    """Rows of the solutions to grade, random within each group and without repetition; ``prompts`` are the groups' ids.

    Raises ``InputError`` where a group has too few solutions.
    """
    rows: list[int] = []
    for group, count in enumerate(graded_per_group(len(prompts), gradings)):
        if count > num_generations:
            raise InputError(
                f"{gradings} gradings of {len(prompts)} x {num_generations} solutions, each graded once at most:"
                " lower the share of gradings or raise online.num_generations"
            )
        order = np.argsort(trace_uniforms(seed, prompts[group], group, num_generations))
        rows += [group * num_generations + int(member) for member in sorted(order[:count])]
    return rows


class MixedVerification(SeededRollouts):
    """Mix into ``GRPOTrainer`` or ``RLOOTrainer`` in place of ``SeededRollouts``; the reward is ``SelfVerification``.

    Of each process's groups in a batch of rollouts, the last part ``grading_share`` does not answer its own prompts:
    each grades one solution of the others, fresh from the same weights, ``num_generations`` times. So a group has one
    prompt and one target, and solutions and gradings are learned from in one update. TRL centres rewards in each
    group, while the published PPO whitens advantages over the whole batch: a group whose gradings all earn the same
    teaches nothing here.

    Rows of the training data hold ``question``, plain text, besides what ``verdicts`` and ``SeededRollouts`` read.
    ``render`` turns a grading prompt's text into the ids that the policy continues. Every row gets ``kind``,
    ``verdict`` and ``target``; a grading's row becomes that of the solution graded, with the grading's own prompt.
    What is graded depends on the seed, the optimiser step and the prompts alone, so that resumed runs repeat it.
    """

    def __init__(
        self,
        *args: Any,
        verdicts: Verdicts,
        grading: GradingPrompt,
        grading_share: float,
        render: Callable[[str], list[int]],
        **kwargs: Any,
    ) -> None:
        self.verdicts, self.grading, self.grading_share, self.render = verdicts, grading, grading_share, render
        self._room_is_checked = False
        self._longest_grading: int | None = None
        super().__init__(*args, **kwargs)

    def _roll_out(self, prompt_ids: list[list[int]]) -> list[Trace]:
        self._check_room()
        solving, gradings = composition(len(prompt_ids) // self.num_generations, self.grading_share)
        first_grading = solving * self.num_generations
        solutions = self._sample(range(first_grading), prompt_ids, "solve")
        rows = self._rows[:first_grading]
        for row, verdict in zip(rows, self.verdicts(rows, [trace.text for trace in solutions]), strict=True):
            row.update(kind="solve", verdict=verdict, target=None)
        seed = derived_seed(self.rollout_seed, "graded", self.state.global_step)
        firsts = rows[:: self.num_generations]
        chosen = choose_graded([row["prompt_id"] for row in firsts], self.num_generations, gradings, seed)
        for group, graded in enumerate(chosen):
            start = first_grading + group * self.num_generations
            self._ask_for_grades(start, rows[graded], solutions[graded], prompt_ids)
        return solutions + self._sample(range(first_grading, len(prompt_ids)), prompt_ids, "grade")

    def _ask_for_grades(self, start: int, graded: dict[str, Any], solution: Trace, prompt_ids: list[list[int]]) -> None:
        """Make the group that begins at row ``start`` one of gradings of a solution."""
        ids = self.grading.token_ids(graded["question"], solution.text, self.render, self._room)
        text = self.processing_class.decode(ids)
        for place in range(start, start + self.num_generations):
            prompt_ids[place] = list(ids)
            self._rows[place].update(
                graded,
                prompt=text,
                prompt_ids=list(ids),
                prompt_id=f"grading of {solution.trace_id}",
                kind="grade",
                verdict=None,
                target=graded["verdict"],
            )

    @property
    def _room(self) -> int | None:
        """Most tokens of a prompt that leave room for a whole completion."""
        context = self._policy_engine.context_length
        room = None if context is None else context - self.rollouts.max_new_tokens
        limits = [limit for limit in (room, self._longest_grading) if limit is not None]
        return min(limits, default=None)

    def new_spending(self, allowance: Allowance) -> OnlineSpending:
        """As usual; where tokens of training are capped, no prompt of a grading has more room than a solution needs."""
        spending = super().new_spending(allowance)
        if allowance.training_tokens is not None:
            empty = (
                self.grading.without_solution(question, self.render) for question in self.train_dataset["question"]
            )
            self._longest_grading = max(map(len, empty)) + self.rollouts.max_new_tokens
            spending.longest_prompt = max(spending.longest_prompt, self._longest_grading)
        return spending

    def _check_room(self) -> None:
        """Whether every question can be graded, before the first step and not hours later."""
        if self._room_is_checked:
            return
        if "question" not in self.train_dataset.column_names:
            raise InputError("gradings show the question: give the training data a column `question`, plain text")
        for question in self.train_dataset["question"]:
            self.grading.check_room(question, self.render, self._room)
        self._room_is_checked = True
