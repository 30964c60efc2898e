"""Files that are either whole or absent: atomic writes, digests, and errors a user can act on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlsf.errors import InputError, ResourceError

#: Marks files and folders that are still being written; whatever carries it may be deleted.
PARTIAL = ".partial"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the machine's refusals while writing ``path`` into a ``ResourceError`` that names the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceError(
                f"{os.strerror(error.errno).lower()} while writing {path}: free some space and continue with --resume;"
                " what was finished is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(
                f"not allowed to write {path}: choose another --output or mend its permissions"
            ) from error
        # No such entry above the path: the file system takes no folders, as /proc.
        no_folders = error.errno == errno.ENOENT and error.filename and path.is_relative_to(error.filename)
        if no_folders or error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
            raise ResourceError(f"cannot write {path} ({error.strerror}): choose another --output") from error
        raise


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it takes the name ``path`` in one step if the block succeeds."""
    partial = _partial(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling folder to fill; it replaces ``path`` only when the block succeeds."""
    partial = _partial(path)
    with writing(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            if path.exists():
                shutil.rmtree(path)
            partial.replace(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _partial(path: Path) -> Path:
    """What this process writes before it is ``path``; machines that share the file system have equal process ids."""
    return path.with_name(f".{path.name}{PARTIAL}-{platform.node()}-{os.getpid()}")


def write_text(path: Path, text: str) -> None:
    """Write a whole text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, readable by people; NaN is refused (JSON has none)."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ``InputError`` with file and line where it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def digest(content: Any) -> str:
    """SHA-256 of any JSON-serialisable content, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class ListDigest:
    """``digest`` of a list whose elements come one at a time and are not held."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256(b"[")
        self._separator = b""

    def add(self, element: Any) -> None:
        """The next element of the list."""
        text = json.dumps(element, sort_keys=True, ensure_ascii=False)
        self._hasher.update(self._separator + text.encode())
        self._separator = b", "

    def hexdigest(self) -> str:
        """The digest of the list so far, the same as ``digest`` gives for the whole."""
        whole = self._hasher.copy()
        whole.update(b"]")
        return whole.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_partials(folder: Path) -> None:
    """Delete what an interrupted run was in the middle of writing."""
    for leftover in folder.rglob(f".*{PARTIAL}-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
