"""The folder of a comparison: where everything is, and the question that it began with.

comparison.yaml
runs/RECIPE/seed-S/   run folders; runs/before/seed-S/ measures the model as given
shared/KEY/           run folders of traces that several runs begin with
comparison.json  comparison.html  comparison.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from rlsf.errors import InputError
from rlsf.files import read_json, write_json, write_text
from rlsf.pipeline.comparing_plan import Plan
from rlsf.pipeline.folder import OwnedFolder
from rlsf.recipes.resolve import Layer, read_config

#: In the folder of a piece of work: how it ended, and what it said on the way.
ENDED, LOG = "ended.json", "log.txt"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a piece of work ended: ``failure`` is the reason of one that failed."""

    failure: str | None
    seconds: float

    def write(self, folder: Path) -> None:
        """Keep it, in one atomic step."""
        write_json(folder / ENDED, {"failure": self.failure, "seconds": self.seconds})


def read_ended(folder: Path) -> Ended | None:
    """How the work in a folder ended, None where it has not."""
    path = folder / ENDED
    return Ended(**read_json(path)) if path.exists() else None


class ComparisonFolder(OwnedFolder):
    """Paths of a comparison, and the rules for opening it: one question."""

    @property
    def _preliminary(self) -> set[Path]:
        return {self._lock_file, self.plan_file}

    @property
    def plan_file(self) -> Path:
        return self.path / "comparison.yaml"

    @property
    def figures_file(self) -> Path:
        return self.path / "comparison.json"

    @property
    def page_file(self) -> Path:
        return self.path / "comparison.html"

    @property
    def table_file(self) -> Path:
        return self.path / "comparison.md"

    def run(self, method: str, seed: int) -> Path:
        """The run folder of a method with a seed."""
        return self.path / "runs" / method / f"seed-{seed}"

    def shared(self, key: str) -> Path:
        """A run folder of traces that several runs begin with."""
        return self.path / "shared" / key

    def read_plan(self) -> Layer | None:
        """The question that the comparison began with, None where there is none."""
        return read_config(self.plan_file) if self.plan_file.is_file() else None

    def open(self, plan: Plan, *, resume: bool) -> None:
        """Start the comparison here, or go on with it.

        Raises ``InputError`` as ``take`` does, and with the keys that differ where it began with another question.
        """
        kept = self.read_plan()
        started = self.take(resume=resume)
        if not started or kept is None:
            write_text(self.plan_file, yaml.safe_dump(plan.content(), sort_keys=False, allow_unicode=True, width=100))
            return
        changed = plan.changed(kept)
        if changed:
            self.close()
            raise InputError(
                f"{self.path} was started with another question ({'; '.join(changed)}): resume it without these"
                " changes, or choose another --output"
            )
