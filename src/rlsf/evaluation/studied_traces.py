"""The traces of a study of signals, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rlsf.errors import InputError
from rlsf.evaluation.groups import FloatArray, IntArray

BoolArray = NDArray[np.bool_]

#: ``answer_class``: equivalent answers to one question share a number; -1 for none. ``correct`` is null where the
#: grader could not decide. ``worked`` and ``copied`` are null without an answer. One column more for every signal.
STUDY_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("index", pa.int32()),
        ("answer", pa.string()),
        ("answer_class", pa.int32()),
        ("answer_start", pa.int32()),
        ("answer_end", pa.int32()),
        ("tokens", pa.int32()),
        ("correct", pa.bool_()),
        ("worked", pa.bool_()),
        ("copied", pa.bool_()),
    ]
)
#: Disjoint kinds of traces by (worked, copied).
KINDS = {
    "direct, computed": (False, False),
    "direct, copied": (False, True),
    "worked, computed": (True, False),
    "worked, copied": (True, True),
}


@dataclass(frozen=True, slots=True, eq=False)
class StudiedTraces:
    """Columns [n], one entry a trace, sorted by question and index.

    ``question``: 0 ... Q - 1; ``answer_class``: -1 without an answer; ``correct``: False without one and where the
    grade is undecided; ``confidence`` of each signal in [0, 1], NaN where it has no value.
    """

    question: IntArray
    index: IntArray
    answer_class: IntArray
    correct: BoolArray
    ungraded: int
    worked: BoolArray
    copied: BoolArray
    confidence: Mapping[str, FloatArray]

    @property
    def questions(self) -> int:
        return int(self.question[-1]) + 1

    @property
    def answered(self) -> BoolArray:
        return self.answer_class >= 0

    def kind(self, name: str) -> BoolArray:
        """The answered traces of one of ``KINDS``."""
        worked, copied = KINDS[name]
        return self.answered & (self.worked == worked) & (self.copied == copied)

    @classmethod
    def of(cls, table: pa.Table) -> StudiedTraces:
        """The columns of a table of ``STUDY_SCHEMA`` and signals, in whatever order its rows are.

        Raises ``InputError`` for no traces, for a trace twice, and for a confidence outside [0, 1].
        """
        if not table.num_rows:
            raise InputError("no traces to measure signals on: sample some first")
        ids, index = np.array(table["prompt_id"].to_pylist()), table["index"].to_numpy().astype(np.int64)
        question = np.unique(ids, return_inverse=True)[1].astype(np.int64)
        order = np.lexsort((index, question))
        question, index = question[order], index[order]
        twice = np.flatnonzero((np.diff(question) == 0) & (np.diff(index) == 0))
        if len(twice):
            raise InputError(f"trace {ids[order][twice[0]]}#{index[twice[0]]} is there twice: give every trace once")
        names = [name for name in table.column_names if name not in STUDY_SCHEMA.names]

        def column(name: str, missing: float | bool) -> NDArray:
            return table[name].fill_null(missing).to_numpy()[order]

        confidence = {name: column(name, float("nan")).astype(np.float64) for name in names}
        for name, values in confidence.items():
            outside = values[~(np.isnan(values) | ((values >= 0) & (values <= 1)))]
            if len(outside):
                raise InputError(f"confidence {outside[0]:g} of {name} is not in [0, 1]: measure confidences")
        classes = column("answer_class", -1).astype(np.int64)
        undecided = np.asarray(table["correct"].is_null())[order] & (classes >= 0)
        return cls(
            question=question,
            index=index,
            answer_class=classes,
            correct=column("correct", False).astype(bool) & (classes >= 0),
            ungraded=int(undecided.sum()),
            worked=column("worked", False).astype(bool),
            copied=column("copied", False).astype(bool),
            confidence=confidence,
        )
