"""Rewards that are functions of the distributions by which the policy produced a completion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from rlsf.errors import InputError
from rlsf.tokenstats import TokenStatistics

#: At which temperature distributions are measured: 1 ("raw"), or that at which completions are sampled.
Temperature = Literal["raw", "sampling"]
#: The columns in which a trainer hands each completion's statistics to reward functions.
COLUMNS: dict[Temperature, str] = {"raw": "policy_statistics", "sampling": "policy_statistics_at_sampling_temperature"}


class PolicyReward(ABC):
    """A TRL reward function of the statistics of a completion's tokens, all of them, the end of sequence included.

    ``temperature`` says of which distribution.
    """

    def __init__(self, *, temperature: Temperature = "raw") -> None:
        if temperature not in COLUMNS:
            raise InputError(f"temperature={temperature!r}: use raw or sampling")
        self.temperature: Temperature = temperature

    def __call__(self, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float | None]:
        """The reward of each completion, as TRL calls it.

        Raises ``InputError`` where the trainer does not measure the policy's distributions.
        """
        measured: Sequence[TokenStatistics] | None = columns.get(COLUMNS[self.temperature])
        if measured is None:
            raise InputError(
                f"{type(self).__name__} needs the policy's distributions, which this trainer does not measure: use the"
                " trainers of rlsf.training.policy_statistics, or mix PolicyStatistics into your own"
            )
        return self.rewards(measured, completion_ids, **columns)

    @abstractmethod
    def rewards(
        self, statistics: Sequence[TokenStatistics], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        """The reward of each completion, given the ``statistics`` of its tokens; None where there is none."""
