"""Calibrators as plain numbers: monotone maps from a confidence to a probability of being right."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.evaluation.calibration import LOG_LOSS_CLIP
from rlsf.evaluation.groups import FloatArray

Method = Literal["isotonic", "platt", "temperature"]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def in_range(confidence: ArrayLike) -> FloatArray:
    """Confidences of any shape as float64. Raises ``InputError`` for one that is NaN or outside [0, 1]."""
    values = np.asarray(confidence, np.float64)
    outside = values[~((values >= 0) & (values <= 1))]
    if outside.size:
        raise InputError(f"confidence {outside.flat[0]} is not in [0, 1]: give confidences, not raw quantities")
    return values


def log_odds(confidence: ArrayLike) -> FloatArray:
    """log(c / (1 - c)), of confidences clipped to [LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP] so that it is finite."""
    clipped = np.clip(in_range(confidence), LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return np.log(clipped) - np.log1p(-clipped)


def logistic(x: FloatArray) -> FloatArray:
    """1 / (1 + e^-x), without overflow for any x."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


class IsotonicCalibrator(Section):
    """A monotone piecewise linear map through knots, constant beyond the first and the last one.

    Zadrozny and Elkan 2002 (doi 10.1145/775047.775151), as scikit-learn's ``IsotonicRegression`` interpolates it.
    """

    method: Literal["isotonic"] = "isotonic"
    """Which kind of calibrator this is."""
    confidence: tuple[Probability, ...] = Field(min_length=1)
    """Knots, strictly increasing."""
    value: tuple[Probability, ...] = Field(min_length=1)
    """Probability of being right at each knot, nowhere decreasing."""

    @model_validator(mode="after")
    def _monotone(self) -> IsotonicCalibrator:
        if len(self.confidence) != len(self.value):
            raise ValueError(f"{len(self.confidence)} knots and {len(self.value)} values: give one of each")
        if any(later <= earlier for earlier, later in pairwise(self.confidence)):
            raise ValueError("knots are not strictly increasing")
        if any(later < earlier for earlier, later in pairwise(self.value)):
            raise ValueError("values decrease from one knot to the next")
        return self

    def probability(self, confidence: ArrayLike) -> FloatArray:
        """The probability of being right, in [0, 1], of confidences of any shape; equal ones where those are equal."""
        return np.interp(in_range(confidence), self.confidence, self.value)


class PlattCalibrator(Section):
    """logistic(slope x log-odds of the confidence + intercept) (Platt 1999)."""

    method: Literal["platt"] = "platt"
    """Which kind of calibrator this is."""
    slope: Finite = Field(ge=0)
    """Of the log-odds; 0 where surer answers were no better."""
    intercept: Finite
    """In nats."""

    def probability(self, confidence: ArrayLike) -> FloatArray:
        """The probability of being right, in [0, 1], of confidences of any shape."""
        return logistic(self.slope * log_odds(confidence) + self.intercept)


class TemperatureCalibrator(Section):
    """logistic(log-odds of the confidence / temperature) (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    Confidence 1/2 stays where it is: a temperature mends too much or too little certainty, not a shift.
    """

    method: Literal["temperature"] = "temperature"
    """Which kind of calibrator this is."""
    temperature: Finite = Field(gt=0)
    """Above 1 it makes less sure, below 1 surer."""

    def probability(self, confidence: ArrayLike) -> FloatArray:
        """The probability of being right, in [0, 1], of confidences of any shape."""
        return logistic(log_odds(confidence) / self.temperature)


Calibrator = Annotated[
    IsotonicCalibrator | PlattCalibrator | TemperatureCalibrator,
    Field(discriminator="method"),
]
