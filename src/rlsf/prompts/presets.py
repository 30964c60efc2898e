"""Public benchmarks: where they live on the hub, the forms in which they circulate, what their gold answers mean.

Each shape is one published form; the first whose question (and choices) are present in the data is used, so that a
preset serves the hub and the original files alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlsf.errors import InputError, near_names
from rlsf.prompts import gold
from rlsf.prompts.choices import Choices, strip_letters


@dataclass(frozen=True, slots=True)
class Shape:
    """Which field holds what; several question fields are joined by a space."""

    question: tuple[str, ...]
    answer: str | None
    choices: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """A benchmark. ``training_split`` is what one may learn from, ``test_split`` what is customarily reported."""

    hub_id: str
    subset: str | None
    training_split: str
    test_split: str
    shapes: tuple[Shape, ...]
    read_gold: Callable[[Any], str | int] = gold.plain
    clean_choices: Callable[[Choices], Choices] | None = None


_NESTED_CHOICES = Shape(("question.stem",), "answerKey", "question.choices", "id")
_FLAT_CHOICES = Shape(("question",), "answerKey", "choices", "id")

PRESETS: dict[str, Preset] = {
    # Cobbe et al. 2021, arXiv 2110.14168
    "gsm8k": Preset(
        "openai/gsm8k", "main", "train", "test", (Shape(("question",), "answer", id="id"),), gold.after_hashes
    ),
    # Roy and Roth 2015; the original file, then the hub's
    "multiarith": Preset(
        *("ChilleD/MultiArith", None, "train", "test"),
        (Shape(("sQuestion",), "lSolutions[0]", id="iIndex"), Shape(("question",), "final_ans")),
        gold.number,
    ),
    # Patel et al. 2021, arXiv 2103.07191
    "svamp": Preset(
        *("ChilleD/SVAMP", None, "train", "test"), (Shape(("Body", "Question"), "Answer", id="ID"),), gold.number
    ),
    # Ling et al. 2017, arXiv 1705.04146
    "aqua": Preset(
        *("deepmind/aqua_rat", "raw", "train", "test"),
        (Shape(("question",), "correct", "options"),),
        clean_choices=strip_letters,
    ),
    # Talmor et al. 2019, arXiv 1811.00937; the gold answers of its test split are not public
    "commonsense_qa": Preset("tau/commonsense_qa", None, "train", "validation", (_NESTED_CHOICES, _FLAT_CHOICES)),
    # Clark et al. 2018, arXiv 1803.05457
    "arc": Preset("allenai/ai2_arc", "ARC-Challenge", "train", "test", (_NESTED_CHOICES, _FLAT_CHOICES)),
    # Hendrycks et al. 2021, arXiv 2009.03300
    "mmlu": Preset(
        *("cais/mmlu", "all", "auxiliary_train", "test"), (Shape(("question",), "answer", "choices"),), gold.zero_based
    ),
    # Lightman et al. 2023, arXiv 2305.20050; it has a test split alone
    "math500": Preset(
        *("HuggingFaceH4/MATH-500", None, "test", "test"), (Shape(("problem",), "answer", id="unique_id"),)
    ),
}


def find_preset(name: str) -> Preset:
    """A preset by name; raises ``InputError`` with the near names."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}{near_names(name, PRESETS)}; available: {', '.join(PRESETS)}")
    return PRESETS[name]
