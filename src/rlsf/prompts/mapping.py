"""From a record to a ``Prompt``: which fields hold the question, the choices, the gold answer and the id."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from rlsf.errors import InputError, near_names
from rlsf.prompts import gold
from rlsf.prompts.choices import Choices, choice_letter, read_choices
from rlsf.prompts.config import ColumnConfig
from rlsf.prompts.fields import Row, get_field, has_field
from rlsf.prompts.gold import GoldAnswerError
from rlsf.prompts.presets import Preset, Shape
from rlsf.prompts.prompt import Prompt

QUESTION_NAMES = ("question", "prompt", "problem", "input", "text")
CHOICES_NAMES = ("choices", "options")
ANSWER_NAMES = ("answer", "gold", "target", "answerKey")


def find_shape(columns: ColumnConfig, preset: Preset | None, first: Row, section: str = "prompts") -> Shape:
    """The shape of the data, judged by its first record; the gold answer is looked for by name, never read.

    ``section`` is where the recipe keeps ``columns``, for messages.

    Fields named in ``columns`` win over the preset, and the preset over the customary names.
    """
    shapes = preset.shapes if preset else (_customary_shape(columns, first, section),)
    shapes = tuple(_override(shape, columns) for shape in shapes)
    fitting = (shape for shape in shapes if all(has_field(first.record, path) for path in _needed(shape)))
    shape = next(fitting, shapes[0])
    if shape.id is not None and columns.id is None and not has_field(first.record, shape.id):
        shape = replace(shape, id=None)
    return shape


def _needed(shape: Shape) -> Iterable[str]:
    return (*shape.question, shape.choices) if shape.choices else shape.question


def _override(shape: Shape, columns: ColumnConfig) -> Shape:
    return Shape(
        question=(columns.question,) if columns.question else shape.question,
        answer=columns.answer or shape.answer,
        choices=columns.choices or shape.choices,
        id=columns.id or shape.id,
    )


def _customary_shape(columns: ColumnConfig, first: Row, section: str) -> Shape:
    def present(names: Iterable[str]) -> str | None:
        return next((name for name in names if name in first.record), None)

    question = columns.question or present(QUESTION_NAMES)
    if question is None:
        names = list(first.record)
        near = next(filter(None, (near_names(name, names) for name in QUESTION_NAMES)), "")
        raise InputError(
            f"{first.place}: no column {', '.join(QUESTION_NAMES[:-1])} or {QUESTION_NAMES[-1]}{near}: name the"
            f" question's with {section}.columns.question; available: {', '.join(names)}"
        )
    return Shape((question,), present(ANSWER_NAMES), present(CHOICES_NAMES), present(("id",)))


@dataclass(frozen=True, slots=True)
class PromptReader:
    """Reads prompts of one shape. Without ``with_gold`` the field of the gold answer is never looked up.

    ``section`` is where the recipe keeps the columns, for messages.
    """

    shape: Shape
    preset: Preset | None
    with_gold: bool
    section: str = "evaluation_data"

    def read(self, row: Row, number: int) -> Prompt:
        """The prompt in ``row``, the ``number``-th of its source; raises ``InputError`` with the place.

        It is a ``GoldAnswerError`` where the gold answer is at fault.
        """
        choices = self._choices(row)
        return Prompt(
            id=self._id(row, number),
            question=self._question(row),
            choices=choices.texts,
            gold=self._gold(row, choices) if self.with_gold else None,
        )

    def _id(self, row: Row, number: int) -> str:
        return str(number) if self.shape.id is None else read_id(row, self.shape.id)

    def _question(self, row: Row) -> str:
        parts = [self._text(row, path) for path in self.shape.question]
        return " ".join(part for part in parts if part)

    def _text(self, row: Row, path: str) -> str:
        value = get_field(row, path)
        if isinstance(value, dict | list):
            raise InputError(f"{row.place}: {path!r} is not text: {_nested_hint(path, value)}")
        if value is None or (isinstance(value, str) and not value.strip()):
            raise InputError(f"{row.place}: the question in {path!r} is empty: fill it in or remove the line")
        if not isinstance(value, str):
            raise InputError(f"{row.place}: the question in {path!r} must be text, found {type(value).__name__}")
        return encodable(value.strip(), row, path)

    def _choices(self, row: Row) -> Choices:
        path = self._choices_path(row)
        if path is None:
            return Choices()
        choices = read_options(row, path)
        return self.preset.clean_choices(choices) if self.preset and self.preset.clean_choices else choices

    def _choices_path(self, row: Row) -> str | None:
        """Where the choices are. Under a customary name they are optional: open and closed questions may be mixed."""
        path = self.shape.choices
        if self.preset or (path is not None and path not in CHOICES_NAMES):
            return path
        return next((name for name in CHOICES_NAMES if row.record.get(name) is not None), None)

    def _gold(self, row: Row, choices: Choices) -> str:
        path = self.shape.answer
        if path is None:
            needed = "evaluation needs the gold answers, " if self.section == "evaluation_data" else ""
            raise GoldAnswerError(
                f"{row.place}: no column {', '.join(ANSWER_NAMES[:-1])} or {ANSWER_NAMES[-1]}: {needed}name theirs with"
                f" {self.section}.columns.answer; available: {', '.join(row.record)}"
            )
        return read_gold(row, path, choices, self.preset.read_gold if self.preset else gold.plain)


def read_gold(row: Row, path: str, choices: Choices, read: Callable[[Any], str | int] = gold.plain) -> str:
    """The gold answer at ``path``, the letter of an option where there are ``choices``; ``read`` takes it from a field.

    Raises ``GoldAnswerError`` with the place where there is none or it cannot be read.
    """
    try:
        value = get_field(row, path)
    except InputError as error:
        raise GoldAnswerError(str(error)) from error
    if isinstance(value, dict | list):
        raise GoldAnswerError(f"{row.place}: {path!r} is not text: {_nested_hint(path, value)}")
    if value is None:
        raise GoldAnswerError(f"{row.place}: the gold answer in {path!r} is empty: fill it in or remove the question")
    try:
        answer = read(value)
        return choice_letter(answer, choices) if choices.texts else str(answer)
    except ValueError as error:
        raise GoldAnswerError(f"{row.place}: {error} (in {path!r})") from error


def _nested_hint(path: str, value: dict[str, Any] | list[Any]) -> str:
    if not value:
        return "it is empty"
    step = f".{next(iter(value))}" if isinstance(value, dict) else "[0]"
    return f"name a field inside it, {path}{step} for instance"


def read_id(row: Row, path: str) -> str:
    """The id at ``path``, text or an integer; raises ``InputError`` with the place for anything else."""
    value = get_field(row, path)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(f"{row.place}: the id in {path!r} must be text or an integer, found {value!r}")
    return encodable(str(value).strip(), row, path)


def read_options(row: Row, path: str) -> Choices:
    """The answer options at ``path``; raises ``InputError`` with the place where they cannot be read."""
    try:
        choices = read_choices(get_field(row, path))
    except ValueError as error:
        raise InputError(f"{row.place}: {error} (in {path!r})") from error
    for text in choices.texts:
        encodable(text, row, path)
    return choices


def encodable(text: str, row: Row, path: str) -> str:
    """``text``; raises ``InputError`` for half a surrogate pair, which JSON can spell and no tokenizer can take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{row.place}: {path!r} holds half a surrogate pair at character {error.start}") from error
    return text
