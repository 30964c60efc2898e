"""Whether a page of the documentation lists every key of a JSON file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from pydantic import BaseModel


def models_of(module: ModuleType) -> list[type[BaseModel]]:
    """The models that a module defines itself."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__
    ]


def require_every_key(document: Path, model: type[BaseModel]) -> None:
    """A row of a table has each key with its definition."""
    text = document.read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        definition = " ".join((field.description or "").split())
        assert definition, f"{model.__name__}.{name} has no definition"
        assert f"| `{name}` | {definition.replace('|', chr(92) + '|')} |" in text, f"{model.__name__}.{name}"
