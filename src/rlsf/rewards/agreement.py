"""Agreement with the majority of a prompt's own completions: a verdict without labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

from rlsf.answers.config import AnswerConfig
from rlsf.answers.voting import group_answers
from rlsf.errors import InputError
from rlsf.rewards.said import Said, answer_said, readable


class MajorityAgreement:
    """1 for completions whose answer is that of most of the group, else 0; or the share of the group that agrees.

    A group is a run of completions of one prompt. Of several largest classes of equivalent answers the one that came
    first is the majority; a completion without an answer agrees with none. ``reward="share"`` gives each completion the
    part of the group that has its answer. Test-time RL (arXiv 2504.16084) learns from the first.

    Raises ``InputError`` for a group of another size than ``num_generations``: processes must hold whole groups.
    """

    def __init__(
        self,
        *,
        num_generations: int,
        answer: AnswerConfig | None = None,
        reward: Literal["majority", "share"] = "majority",
    ) -> None:
        if num_generations < 2:
            raise InputError(f"num_generations={num_generations}: a majority needs at least two completions")
        if reward not in ("majority", "share"):
            raise InputError(f"reward={reward!r}: use majority or share")
        self.num_generations, self.reward = num_generations, reward
        self.answer = readable(answer or AnswerConfig())

    def __call__(
        self,
        prompts: Sequence[Said],
        completions: Sequence[Said],
        choices: Sequence[Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The reward of each completion, as TRL calls it."""
        options = choices or [None] * len(completions)
        answers = [answer_said(said, self.answer, of_row) for said, of_row in zip(completions, options, strict=True)]
        rewards: list[float] = []
        for _, run in groupby(range(len(prompts)), lambda row: str(prompts[row])):
            rows = list(run)
            if len(rows) % self.num_generations:
                raise InputError(
                    f"{len(rows)} completions of a prompt are in one process, and num_generations is"
                    f" {self.num_generations}: let per_device_train_batch_size x steps_per_generation be a multiple of"
                    " it"
                )
            for start in range(0, len(rows), self.num_generations):
                rewards += self._of_group([answers[row] for row in rows[start : start + self.num_generations]])
        return rewards

    def _of_group(self, answers: Sequence[str | None]) -> list[float]:
        classes = group_answers(answers)
        rewards = [0.0] * len(answers)
        largest = max((len(members) for members in classes), default=0)
        for number, members in enumerate(classes):
            is_majority = number == next(place for place, other in enumerate(classes) if len(other) == largest)
            for member in members:
                rewards[member] = len(members) / len(answers) if self.reward == "share" else float(is_majority)
        return rewards
