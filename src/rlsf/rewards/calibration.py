"""RLCR's reward: correctness and the Brier score of a confidence in words (arXiv 2507.16806). It needs gold answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rlsf.answers import equivalent
from rlsf.answers.config import AnswerConfig
from rlsf.answers.verbalised import Verbalised, confidence_of_last_line, parse_verbalised
from rlsf.errors import InputError
from rlsf.rewards.said import Said, answer_said, gold_answers, readable, text_of


class BrierCalibration:
    """R = c - (q - c)^2 with c = 1 if the answer is right, else 0, and q the stated confidence (arXiv 2507.16806).

    With probability p of being right the expectation is largest at q = p, where it is p^2: accuracy and calibration
    agree. ``form="published"`` is the reward of the published code, (format + c + 1 - (q - c)^2) / 2, which for
    well-formed completions is R / 2 + 1. The reward of a malformed completion is ``malformed``: by default that of the
    worst well-formed one in the paper's form (-1), and 0 in the published one, below every well-formed one.

    Gold answers come from the column ``answer``, the options of a question from ``choices`` where the data have it: an
    option may be named by its letter or its text. An answer whose equivalence could not be decided in time counts as
    wrong. Logs ``rlcr/malformed``, ``rlcr/accuracy`` and ``rlcr/confidence``.
    Raises ``InputError`` where the data have no gold answers.
    """

    def __init__(
        self,
        *,
        analysis: bool = True,
        form: Literal["paper", "published"] = "paper",
        malformed: float | None = None,
        written: Literal["tags", "line"] = "tags",
        answer: AnswerConfig | None = None,
    ) -> None:
        if form not in ("paper", "published"):
            raise InputError(f"form={form!r}: use paper or published")
        if written not in ("tags", "line"):
            raise InputError(f"written={written!r}: use tags or line")
        self.written, self.answer = written, readable(answer or AnswerConfig())
        self.analysis, self.form = analysis, form
        self.malformed = {"paper": -1.0, "published": 0.0}[form] if malformed is None else malformed

    def __call__(
        self,
        completions: Sequence[Said],
        answer: Sequence[object] | None = None,
        choices: Sequence[Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The reward of each completion, as TRL calls it."""
        golds = gold_answers(answer, self)
        options = choices or [None] * len(completions)
        parsed = [self._parse(text_of(said), of_row) for said, of_row in zip(completions, options, strict=True)]
        right = [
            found.answer is not None and bool(equivalent(found.answer, gold, of_row or ()))
            for found, gold, of_row in zip(parsed, golds, options, strict=True)
        ]
        confidences = [found.confidence for found in parsed]
        if "log_metric" in columns and parsed:
            stated = [confidence for confidence in confidences if confidence is not None]
            columns["log_metric"]("rlcr/malformed", confidences.count(None) / len(parsed))
            columns["log_metric"]("rlcr/accuracy", sum(right) / len(parsed))
            columns["log_metric"]("rlcr/confidence", sum(stated) / len(stated) if stated else 0.0)
        return [
            self.malformed if confidence is None else self.of(float(correct), confidence)
            for correct, confidence in zip(right, confidences, strict=True)
        ]

    def _parse(self, text: str, choices: Sequence[str] | None) -> Verbalised:
        if self.written == "tags":
            return parse_verbalised(text, analysis=self.analysis)
        answer, confidence = answer_said(text, self.answer, choices), confidence_of_last_line(text)
        if answer is None or confidence is None:
            return Verbalised(None, None, "no answer, or no last line with a confidence")
        return Verbalised(answer, confidence, None)

    def of(self, correct: float, confidence: float) -> float:
        """The reward of a well-formed completion."""
        brier = (confidence - correct) ** 2
        return correct - brier if self.form == "paper" else (1.0 + correct + 1.0 - brier) / 2
