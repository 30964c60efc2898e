"""Where prompts come from and how a question becomes the text a model sees."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rlsf.config import Section


class ColumnConfig(Section):
    """Which column holds what; a dot enters nested fields (``question.stem``), ``[0]`` an element of a list."""

    question: str | None = None
    """The question; by default ``question``, ``prompt``, ``problem``, ``input`` or ``text``, whichever exists."""
    choices: str | None = None
    """The answer options of a multiple-choice question; by default ``choices`` or ``options`` where present. A list of
    texts, ``[{label, text}, ...]``, ``{label: [...], text: [...]}``, or one of these as JSON in a CSV cell."""
    answer: str | None = None
    """The gold answer, read for evaluation only; by default ``answer``, ``gold``, ``target`` or ``answerKey``."""
    id: str | None = None
    """A unique id; by default ``id`` where present, else questions are counted from 1."""


class PromptConfig(Section):
    """A set of questions: a file, a ``datasets`` id, or a preset over either."""

    path: str | None = None
    """JSONL, JSON array, CSV, TSV, Parquet, text with a question a line, a local dataset folder or a hub id. Empty with
    a preset: its hub id."""
    preset: str | None = None
    """A built-in description of a public benchmark: gsm8k, multiarith, svamp, aqua, commonsense_qa, arc, mmlu or
    math500."""
    subset: str | None = None
    """The configuration name of a hub dataset."""
    split: str | None = None
    """The split of a hub dataset or a local dataset folder. With a preset and no path: its training split to learn
    from, its test split to evaluate on."""
    columns: ColumnConfig = ColumnConfig()
    limit: int | None = Field(default=None, ge=1)
    """Use at most this many questions, the first ones."""


class RenderConfig(Section):
    """How a question becomes the prompt text."""

    template: str | None = None
    """Text around the question, with ``{question}`` and, if wanted, ``{choices}``; by default the question, then
    its options one a line, for chat models, and ``Q: ...\\nA:`` for base models without a chat template."""
    chat: Literal["auto", "always", "never"] = "auto"
    """Whether to apply the tokenizer's chat template: where it has one, always, or never."""
    system: str | None = None
    """A system prompt."""
    few_shot: str | None = None
    """Text put before every question, ready-made examples for instance; a blank line follows it."""
    chat_arguments: dict[str, Any] = Field(default_factory=dict)
    """Variables passed to the chat template, ``{enable_thinking: false}`` or ``{date_string: 1 Jan 2026}`` for
    instance."""

    @model_validator(mode="after")
    def _template_has_the_question(self) -> RenderConfig:
        if self.template is not None and "{question}" not in self.template:
            raise ValueError(f"render.template={self.template!r} has no {{question}}: say where the question goes")
        return self
