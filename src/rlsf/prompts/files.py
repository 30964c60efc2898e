"""Records of text files, each with its file and line: JSON lines, a JSON array, CSV, TSV and bare questions."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlsf.errors import InputError
from rlsf.prompts.fields import Row

_SPACE = re.compile(r"\s*")


def read_text(path: Path) -> str:
    """A whole UTF-8 file, byte-order mark removed; raises ``InputError`` where it is unreadable, empty or not UTF-8."""
    text = "".join(_text_lines(path))
    if not text.strip():
        raise _empty(path)
    return text


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON array or of a file of JSON lines, told apart by the first character; ``.gz`` is unpacked.

    Lines are read one by one, an array as a whole.
    """
    first = next((line for line in _text_lines(path) if line.strip()), None)
    if first is None:
        raise _empty(path)
    return _array_rows(read_text(path), path) if first.lstrip().startswith("[") else _line_rows(path)


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[Row]:
    """The rows of a CSV file under the names of its first line; blank lines are skipped."""
    if all(not line.strip() for line in _text_lines(path)):
        raise _empty(path)
    reader = csv.reader(_cut_at_line_ends(path), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            place, line = f"{path}:{line}", reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = _header(cells, place, delimiter)
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{place}: {len(cells)} cells where the header has {len(header)}: put cells that hold"
                    f" {delimiter!r} or line breaks in double quotes"
                )
            yield Row(place, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise InputError(f"{path}:{line}: not valid CSV ({error})") from error


def question_rows(path: Path) -> Iterator[Row]:
    """Each line of a text file as a question; blank lines are skipped."""
    for number, line in enumerate(_text_lines(path), start=1):
        if line.strip():
            yield Row(f"{path}:{number}", {"question": line.strip()})


def _cut_at_line_ends(path: Path) -> Iterator[str]:
    """The lines of a file, at carriage returns as well, as CSV files have them; not at those within ``\\r\\n``."""
    for line in _text_lines(path):
        yield from io.StringIO(line, newline="")


def _header(cells: list[str], place: str, delimiter: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    other = next((mark for mark in ";\t,|" if mark != delimiter and mark in names[0]), None)
    if len(names) == 1 and other:
        raise InputError(
            f"{place}: one column, {names[0]!r}: its cells seem to be separated by {other!r}, not by {delimiter!r}"
        )
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{place}: two columns are called {name!r}: rename one")
    return names


def _text_lines(path: Path) -> Iterator[str]:
    """The lines of a file, each with its end; only a line feed is one: JSON strings may hold U+2028."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            before = 0
            for number, line in enumerate(stream, start=1):
                try:
                    yield line.decode("utf-8").removeprefix("\ufeff" if number == 1 else "")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{path}:{number}: not UTF-8 (byte {before + error.start}): save the file as UTF-8"
                    ) from error
                before += len(line)
    except PermissionError as error:
        raise InputError(f"{path}: not allowed to read this file: mend its permissions") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from error


def _empty(path: Path) -> InputError:
    return InputError(f"{path}: the file is empty")


def _line_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_text_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise InputError(
                f"{place}: not valid JSON ({reason}): each line must be a JSON object of its own, or the whole file"
                " one JSON array"
            ) from error
        yield _row(record, place)


def _array_rows(text: str, path: Path) -> Iterator[Row]:
    decoder = json.JSONDecoder()
    position = _skip_space(text, text.index("[") + 1)
    line, counted = 1, 0
    while not text.startswith("]", position):
        line, counted = line + text.count("\n", counted, position), position
        place = f"{path}:{line}"
        try:
            record, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from error
        except ValueError as error:
            raise InputError(f"{place}: not valid JSON ({error})") from error
        yield _row(record, place)
        position = _skip_space(text, position)
        if text.startswith(",", position):
            position = _skip_space(text, position + 1)
            if not text.startswith("]", position):
                continue
        elif text.startswith("]", position):
            continue
        line = 1 + text.count("\n", 0, position)
        raise InputError(f"{path}:{line}: not valid JSON (expected ',' or ']' and no comma before ']')")


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _row(record: Any, place: str) -> Row:
    if not isinstance(record, dict):
        raise InputError(f"{place}: expected a JSON object, found {type(record).__name__}")
    return Row(place, record)
