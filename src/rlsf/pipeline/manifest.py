"""A stage is done when its manifest is in place: what went in (digests, configuration), what came out (counts)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsf.errors import InputError
from rlsf.files import digest, read_json, write_json
from rlsf.recipes.resolve import differences

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished stage read and how much it wrote."""

    stage: str
    inputs: Mapping[str, Any]
    counts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Identifies the stage's result for the stages that build on it."""
        return digest([self.stage, self.inputs, self.counts])

    def write(self, folder: Path) -> None:
        """Mark the stage done: the last thing it does, in one atomic step."""
        write_json(folder / MANIFEST, {"stage": self.stage, "inputs": dict(self.inputs), "counts": dict(self.counts)})


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished stage, None where the stage is not done."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    content = read_json(path)
    return Manifest(content["stage"], content["inputs"], content["counts"])


def finished(folder: Path, stage: str, inputs: Mapping[str, Any]) -> Manifest | None:
    """The manifest if the stage was done with exactly these inputs, None if it is still to do.

    Raises ``InputError`` naming the keys that differ when it was done with other inputs.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    changed = differences(manifest.inputs, inputs)
    if changed:
        raise InputError(
            f"{folder} was made from other inputs ({'; '.join(changed)}): use the same ones, or delete {folder}"
            f" to do the stage {stage!r} again"
        )
    return manifest


def require(folder: Path, stage: str, command: str) -> Manifest:
    """The manifest of a stage that must be done already."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"stage {stage!r} is not finished in {folder}: run `rlsf {command}` first")
    return manifest
