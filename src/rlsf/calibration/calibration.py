"""A calibration: a calibrator, a threshold, and what they were made from; one JSON file beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, JsonValue, ValidationError

from rlsf.calibration.calibrators import Calibrator, Finite, Probability
from rlsf.calibration.threshold import Threshold
from rlsf.config import Section
from rlsf.errors import InputError
from rlsf.evaluation.config import Mode
from rlsf.evaluation.groups import FloatArray
from rlsf.files import write_json
from rlsf.models.folder import CALIBRATION

#: Sections of a recipe that a calibration may set for ``rlsf ask``: none that loads anything.
AskingSection = Annotated[str, Field(pattern="^(render|answer|sampling)$")]


class Figures(Section):
    """How far confidences are from being probabilities, over all calibration questions; unanswered ones count as 0."""

    ece: Probability
    """Expected calibration error, bins of equal width."""
    brier: Probability
    """Mean of (confidence - correct)^2."""
    log_loss: Finite = Field(ge=0)
    """Mean -log of the probability given to what happened, nats."""


class Calibration(Section):
    """What turns the confidence of one model, signal and decoding mode into a probability and a decision to answer."""

    schema_version: Literal[1] = 1
    """Changes when a key changes its meaning or goes."""
    signal: str
    """The confidence signal that it was made for."""
    mode: Mode
    """The decoding mode that it was made for."""
    branches: int = Field(ge=1)
    """Traces of each question that the mode chose from."""
    aggregate: bool
    """Whether ``cot_decoding`` chose by summed confidence."""
    asked: dict[AskingSection, dict[str, JsonValue]] | None = None
    """How its questions were asked: keys of the recipe for the prompt, the answer's format and the bounds of a trace.
    None, in a file of an earlier version: not known, and not compared."""
    model: str
    """The model as it was named."""
    fingerprint: str
    """``rlsf.models.model_fingerprint`` of the model."""
    questions: int = Field(ge=1)
    """Labelled questions that it was made from."""
    made_from: tuple[str, ...] = ()
    """Short digests of those questions: figures on the same ones are no evidence about others."""
    unanswered: int = Field(ge=0)
    """Those among them without an answer or without a confidence: never answered, probability 0."""
    folds: int = Field(ge=2)
    """Folds of the cross-validation that ``calibrated`` comes from."""
    bins: int = Field(ge=1)
    """Bins of the calibration errors."""
    raw: Figures
    """Figures of the signal's own confidence."""
    calibrated: Figures
    """Figures of the calibrated confidence, each question's from a calibrator fitted without its fold."""
    calibrator: Calibrator
    """The calibrator, fitted on all questions."""
    threshold: Threshold
    """The threshold, on the signal's own confidence."""

    def probability(self, confidence: ArrayLike) -> FloatArray:
        """The probability of being right of answers with these confidences (any shape, in [0, 1]).

        For questions with an answer alone: what has none is right with probability 0 (``of_questions``).
        """
        return self.calibrator.probability(confidence)

    def answers(self, confidence: ArrayLike) -> np.ndarray:
        """Whether to give answers with these confidences: True at or above the threshold, never where there is none."""
        return self.threshold.answers(confidence)

    def of_questions(self, confidence: ArrayLike, answered: ArrayLike) -> tuple[FloatArray, np.ndarray]:
        """Probability and decision of questions of which some have no answer: 0 and False for those."""
        has_answer = np.asarray(answered, bool)
        return np.where(has_answer, self.probability(confidence), 0.0), self.answers(confidence) & has_answer

    def misfit(
        self,
        signal: str,
        mode: str,
        fingerprint: str | None = None,
        branches: int | None = None,
        aggregate: bool | None = None,
        asked: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> str | None:
        """In what it differs from what it is to be used for, None where it fits; what is None is not compared.

        How many traces there are does not matter to greedy decoding, nor ``aggregate`` to any mode but its own.
        """
        pairs: list[tuple[str, object, object]] = [("signal", self.signal, signal), ("mode", self.mode, mode)]
        if self.mode != "greedy" and branches is not None:
            pairs.append(("branches", self.branches, branches))
        if self.mode == "cot_decoding" and aggregate is not None:
            pairs.append(("aggregate", self.aggregate, aggregate))
        different = [f"{name} {made}, not {wanted}" for name, made, wanted in pairs if made != wanted]
        different += [] if asked is None else self._asked_otherwise(asked)
        if fingerprint is not None and fingerprint != self.fingerprint:
            different.append(f"another model ({self.model}, or an earlier state of it)")
        return "; ".join(different) or None

    def _asked_otherwise(self, asked: Mapping[str, Mapping[str, Any]]) -> list[str]:
        keys = [(section, key, made) for section, known in (self.asked or {}).items() for key, made in known.items()]
        others = [(f"{section}.{key}", made, asked.get(section, {}).get(key)) for section, key, made in keys]
        return [f"{key} {_short(made)}, not {_short(now)}" for key, made, now in others if made != now]

    def require(
        self,
        signal: str,
        mode: str,
        fingerprint: str | None = None,
        branches: int | None = None,
        aggregate: bool | None = None,
        asked: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Raise ``InputError`` where ``misfit`` finds a difference."""
        difference = self.misfit(signal, mode, fingerprint, branches, aggregate, asked)
        if difference is not None:
            raise InputError(f"the calibration was made for {difference}: make one for this with `rlsf calibrate`")

    def save(self, path: Path) -> None:
        """Write it to a JSON file, atomically; loading it gives the same numbers to the last bit."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read it from a JSON file. Raises ``InputError`` in one line where that is missing or is no calibration."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"no calibration in {path} ({error.strerror}): make one with `rlsf calibrate`") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "file"
            raise InputError(
                f"{path} is no calibration: {place}: {first['msg']}; make it anew with `rlsf calibrate`"
            ) from error

    @classmethod
    def find(cls, model: Path) -> Calibration | None:
        """The calibration beside the weights in a model's folder, None where there is none. Raises as ``load``."""
        path = model / CALIBRATION
        return cls.load(path) if path.exists() else None


def _short(value: Any) -> str:
    """Prompts may be pages long: their beginning and their end."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"
