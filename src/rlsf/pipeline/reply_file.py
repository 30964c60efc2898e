"""A file of replies: JSON lines in the order of the questions, bound to how these were asked, whole up to a line."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rlsf.errors import InputError
from rlsf.files import read_json, write_json, writing
from rlsf.invisible import escaped
from rlsf.recipes.resolve import differences


class ReplyFile:
    """``NAME.jsonl``, and ``NAME.jsonl.asked`` beside it, which says how its questions were asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[bytes] | None = None

    @property
    def asked_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.asked")

    def kept(self) -> dict[str, Any]:
        """The settings that the file was begun with; empty where there are none."""
        return self._asked()["settings"] if self.asked_file.is_file() else {}

    def open(self, settings: Mapping[str, Any], inputs: Mapping[str, Any], ids: Sequence[str], *, resume: bool) -> int:
        """Start the file, or go on with it; returns how many of the questions ``ids`` have their line.

        What follows the last whole line is dropped. Raises ``InputError`` where the file exists and ``resume`` is off,
        where another process writes it, where ``inputs`` differ from those it was begun with, and where its lines are
        not replies to the first of the questions.
        """
        with writing(self.path):
            if self.path.is_dir():
                raise InputError(f"{self.path} is a folder: name a file, {self.path / 'replies.jsonl'} for instance")
            begun = self.path.exists() and self.path.stat().st_size > 0
            if begun and not resume:
                raise InputError(f"{self.path} exists: choose another --output, or go on with it with --resume")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a+b")
            try:
                self._lock()
                self._bind(settings, inputs, begun)
                return self._repair(ids)
            except BaseException:
                self.close()
                raise

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write one line for each record; they are on the disk when this returns."""
        assert self._stream is not None
        lines = (f"{json_line(record)}\n" for record in records)
        with writing(self.path):
            self._stream.write("".join(lines).encode("utf-8"))
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Give the file back."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _lock(self) -> None:
        assert self._stream is not None
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{self.path} is in use by another process: wait for it or choose another --output"
            ) from error

    def _bind(self, settings: Mapping[str, Any], inputs: Mapping[str, Any], begun: bool) -> None:
        if not begun:
            write_json(self.asked_file, {"settings": settings, "inputs": inputs})
            return
        if not self.asked_file.is_file():
            raise InputError(f"{self.path} cannot be gone on with: {self.asked_file.name} is not beside it")
        if changed := "; ".join(differences(self._asked()["inputs"], inputs)):
            raise InputError(
                f"{self.path} was asked otherwise ({changed}): resume it without these changes, or choose another"
                " --output"
            )

    def _asked(self) -> dict[str, dict[str, Any]]:
        found = read_json(self.asked_file)
        if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("settings", "inputs")):
            raise InputError(f"{self.asked_file} does not say how {self.path} was asked: choose another --output")
        return found

    def _repair(self, ids: Sequence[str]) -> int:
        assert self._stream is not None
        self._stream.seek(0)
        count = whole = 0
        for line in self._stream:
            if not line.endswith(b"\n"):
                break
            if count == len(ids) or _id_of(line) != ids[count]:
                raise InputError(
                    f"{self.path}:{count + 1}: not the reply to question {count + 1} of these: resume it with its own"
                )
            count, whole = count + 1, whole + len(line)
        self._stream.truncate(whole)
        return count


def json_line(record: Mapping[str, Any]) -> str:
    """A record as one line of JSON that may be looked at on a terminal: what would act there is escaped."""
    return escaped(json.dumps(record, ensure_ascii=False, allow_nan=False))


def _id_of(line: bytes) -> str | None:
    try:
        return json.loads(line)["id"]
    except (ValueError, KeyError, TypeError):
        return None
