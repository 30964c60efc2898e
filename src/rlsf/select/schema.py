"""What accuracy over N is reported as."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Estimate(BaseModel):
    """A mean over questions and its central 95 % bootstrap interval."""

    model_config = ConfigDict(frozen=True)
    value: float
    low: float
    high: float


class Curves(BaseModel):
    """Accuracy over N, by selector.

    ``accuracy``, ``gain`` and ``oracle`` hold one estimate for each of ``sizes``, the values of N. ``gain``: accuracy
    minus that of the majority on the same questions and subsets, empty where the majority was not among the selectors.
    ``oracle``: the share of subsets in which any answer is right (pass@N). ``subsets``: how many of each question were
    drawn where not all were counted. ``fewest``: the first question with the fewest traces, which bound N.
    """

    model_config = ConfigDict(frozen=True)
    questions: int
    fewest: str
    sizes: list[int]
    subsets: int
    seed: int
    accuracy: dict[str, list[Estimate]]
    gain: dict[str, list[Estimate]]
    oracle: list[Estimate]
