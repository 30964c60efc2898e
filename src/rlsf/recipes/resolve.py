"""From a recipe's name, a YAML file and dotted overrides to one resolved, validated ``Recipe``.

Later layers win: the shipped recipe, then the user's file, then what was said on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from rlsf.errors import InputError, near_names
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.registry import recipe_card

Layer = dict[str, Any]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Layer:
    """``over`` laid on ``base``: tables are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_yaml(text: str, place: str) -> Layer:
    """A YAML mapping, safely loaded; raises ``InputError`` with file and line otherwise."""
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{place}:{line}: not valid YAML ({error.problem})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{place}:1: expected keys and values, found {type(content).__name__}")
    return content


def read_config(path: Path) -> Layer:
    """A user's recipe file."""
    try:
        return read_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError as error:
        near = near_names(path.name, [p.name for p in path.parent.glob("*.y*ml")])
        raise InputError(f"no such recipe file: {path}{near}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder: give a recipe file (YAML)") from error
    except PermissionError as error:
        raise InputError(f"{path}: not allowed to read this file: mend its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}: save the file as UTF-8") from error


def parse_overrides(tokens: Sequence[str]) -> Layer:
    """``--sampling.branches 5``, ``--sampling.branches=5`` and ``sampling.branches=5`` as a nested layer."""
    layer: Layer = {}
    remaining = iter(tokens)
    for token in remaining:
        key, equals, value = token.removeprefix("--").partition("=")
        if not equals:
            if not token.startswith("--"):
                raise InputError(f"cannot read {token!r}: options are written --section.key VALUE or section.key=VALUE")
            value = next(remaining, None)
            if value is None:
                raise InputError(f"option {token} needs a value: {token} VALUE")
        keys = key.replace("-", "_").split(".")
        layer = merge(layer, _nested(keys, _value(keys, value)))
    return layer


def _value(keys: Sequence[str], text: str) -> Any:
    """The value of an option: YAML, except where the key holds text, which may look like YAML (``Question: ...``)."""
    if _holds_text(keys) and not text.startswith(("'", '"')):
        return None if text in ("", "null") else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _holds_text(keys: Sequence[str]) -> bool:
    field = _field_at(keys)
    return field is not None and set(get_args(field.annotation) or [field.annotation]) <= {str, type(None)}


def _nested(keys: Sequence[str], value: Any) -> Layer:
    for key in reversed(keys):
        value = {key: value}
    return value


def resolve(name: str | None = None, config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe called ``name`` (or the one ``config`` names, else ``rlsf``) under the given layers.

    Raises ``InputError`` in one line: the key, where it was set, what it may be, and near names.
    """
    user = read_config(config) if config else {}
    recipe_name = name or user.get("recipe") or "rlsf"
    shipped = read_yaml(recipe_card(str(recipe_name)).yaml, f"recipe {recipe_name}")
    user = _tables(user, config)
    layers = merge(merge(shipped, user), _tables(overrides or {}))
    layers["recipe"] = recipe_name
    try:
        return Recipe.model_validate(layers)
    except ValidationError as error:
        raise InputError(explain(error, layers, config)) from error


def _tables(
    layer: Mapping[str, Any], config: Path | None = None, section: type[BaseModel] = Recipe, above: Sequence[str] = ()
) -> Layer:
    """``layer`` without tables that are left empty; raises ``InputError`` for a value in the place of a table."""
    tables: Layer = {}
    for key, value in layer.items():
        field = section.model_fields.get(str(key))
        inner = _section_of(field)
        keys = [*above, str(key)]
        if inner is None or field is None or (value is None and field.default is None):
            tables[key] = value
        elif isinstance(value, Mapping):
            tables[key] = _tables(value, config, inner, keys)
        elif value is not None:
            dotted, known = ".".join(keys), list(inner.model_fields)
            raise InputError(
                f"{_place(keys, config)}{dotted}={value!r}: set the keys in it, {dotted}.{known[0]} for instance;"
                f" known here: {', '.join(sorted(known))}"
            )
    return tables


def explain(error: ValidationError, layers: Mapping[str, Any], config: Path | None) -> str:
    """The first validation problem as one line with key, value, place and remedy."""
    first = error.errors()[0]
    keys = _keys(first["loc"])
    dotted = ".".join(keys)
    place = _place(keys, config)
    if first["type"] in ("extra_forbidden", "invalid_key"):
        table = _section_at(keys[:-1])
        near = near_names(keys[-1], table) or _elsewhere(keys[-1])
        return f"{place}unknown key {dotted!r}{near}; known here: {', '.join(sorted(table))}"
    if first["type"] == "value_error" and isinstance(first["input"], Mapping):
        return f"{place}{first['msg'].removeprefix('Value error, ')}"  # of a whole section: it names its keys itself
    messages = [_message(problem) for problem in error.errors() if _keys(problem["loc"]) == keys]
    return f"{place}{dotted}={first['input']!r}: {' or '.join(dict.fromkeys(messages))}"


def _keys(location: Sequence[str | int]) -> list[str]:
    """The dotted key of a problem, without what pydantic adds for members of a union and elements of a list."""
    keys: list[str] = []
    for part in location:
        keys.append(str(part))
        field = _field_at(keys)
        if field is not None and _section_of(field) is None:
            break
    return keys


def _message(problem: Mapping[str, Any]) -> str:
    if problem["type"] in ("tuple_type", "list_type"):
        return "expected a list, [one, two] for instance"
    if problem["type"] == "dict_type":
        return "expected keys and values, {name: value} for instance"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def _place(keys: Sequence[str], config: Path | None) -> str:
    if config is None:
        return ""
    line = _line_of(keys, yaml.compose(config.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
    return f"{config}:{line}: " if line else ""


def _line_of(keys: Sequence[str], node: yaml.Node | None) -> int | None:
    line = None
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return line
        match = next((pair for pair in node.value if pair[0].value == key), None)
        if match is None:
            return line
        line, node = match[0].start_mark.line + 1, match[1]
    return line


def _field_at(keys: Sequence[str]) -> FieldInfo | None:
    """The field that a dotted path leads to."""
    section: type[BaseModel] | None = Recipe
    field = None
    for key in keys:
        field = section.model_fields.get(key) if section else None
        section = _section_of(field)
    return field


def _section_of(field: FieldInfo | None) -> type[BaseModel] | None:
    """The section that a field holds."""
    if field is None:
        return None
    candidates = (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _section_at(keys: Sequence[str]) -> list[str]:
    """The field names of the section that a dotted path leads to."""
    section = _section_of(_field_at(keys)) if keys else Recipe
    return list(section.model_fields) if section else []


def _elsewhere(name: str) -> str:
    """The same key in another section, for people who leave the section out."""
    found = [key for key, _ in flatten(Recipe().model_dump()) if key.rpartition(".")[2] == name]
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""


def to_yaml(recipe: Recipe) -> str:
    """The recipe with every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and leaf values of nested tables."""
    if isinstance(content, Mapping) and (content or not prefix):
        for key, value in content.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, content


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``key: old -> new`` for every dotted key on which two configurations differ."""
    before, after = dict(flatten(old)), dict(flatten(new))
    absent = object()
    return [
        f"{key}: {before.get(key, '(absent)')!r} -> {after.get(key, '(absent)')!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, absent) != after.get(key, absent)
    ]
