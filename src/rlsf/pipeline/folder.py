"""The run folder: where everything of a run lives, who may write to it, and under which recipe.

recipe.yaml  environment.json  metrics.jsonl
traces/round-1/part-00000.parquet  manifest.json
judgements/round-1/part-00000.parquet  manifest.json
preferences/round-1/pairs.parquet  confidences.parquet  manifest.json
conditioned/round-1/pairs.parquet  manifest.json
examples/round-1/examples.parquet  manifest.json
checkpoints/round-1/  checkpoints/warm-up/  checkpoints/reward-model/  checkpoints/acceptance/
records/records.parquet  manifest.json
reward_model/  acceptance/
policy/
evaluation/before/  evaluation/after/  evaluation/summary.json  evaluation/curve.json
report.html
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from rlsf.errors import InputError
from rlsf.files import remove_partials, write_text, writing
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import differences, read_config, to_yaml


class OwnedFolder:
    """A folder that is never overwritten silently and has one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    @property
    def _preliminary(self) -> set[Path]:
        """What is written before any work is done."""
        return {self._lock_file}

    @property
    def started(self) -> bool:
        """Whether the folder holds anything but the preliminary files of a process that never did any work."""
        if not self.path.is_dir():
            return False
        unworked = self._preliminary if self._lock_file.exists() else set()
        return any(entry not in unworked and not entry.is_dir() for entry in self.path.rglob("*"))

    def take(self, *, resume: bool) -> bool:
        """Take the folder for this process; returns whether work was begun in it.

        Raises ``InputError`` when it holds something and ``resume`` is off, or when another process is writing.
        """
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"{self.path} is a file, not a folder: choose another --output")
            started = self.started
            if started and not resume:
                raise InputError(f"{self.path} exists: choose another --output, or continue that run with --resume")
            self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        return started

    def lock(self) -> None:
        """Keep other processes out; released when the process ends, however it ends."""
        with writing(self.path):
            stream = self._lock_file.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            stream.close()
            raise InputError(
                f"{self.path} is in use by process {holder}: wait for it or choose another --output"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        self._lock = stream
        remove_partials(self.path)

    @property
    def lock_handles(self) -> tuple[int, ...]:
        """What holds the folder for this process: who inherits it holds the folder as well."""
        return () if self._lock is None else (self._lock.fileno(),)

    def close(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class RunFolder(OwnedFolder):
    """Paths of a run, and the rules for opening it: one recipe."""

    @property
    def _preliminary(self) -> set[Path]:
        # Of seconds alone, where a stage refused to begin.
        return {self._lock_file, self.recipe_file, self.environment_file, self.metrics_file}

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def summary_file(self) -> Path:
        return self.path / "evaluation" / "summary.json"

    @property
    def curve_file(self) -> Path:
        """The cost curve, where a comparison asked for one."""
        return self.path / "evaluation" / "curve.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    def traces(self, round_: int) -> Path:
        return self.path / "traces" / f"round-{round_}"

    def judgements(self, round_: int) -> Path:
        return self.path / "judgements" / f"round-{round_}"

    def preferences(self, round_: int) -> Path:
        return self.path / "preferences" / f"round-{round_}"

    def conditioned(self, round_: int) -> Path:
        return self.path / "conditioned" / f"round-{round_}"

    def examples(self, round_: int) -> Path:
        return self.path / "examples" / f"round-{round_}"

    def checkpoints(self, round_: int) -> Path:
        return self.path / "checkpoints" / f"round-{round_}"

    @property
    def reward_model(self) -> Path:
        return self.path / "reward_model"

    @property
    def reward_checkpoints(self) -> Path:
        return self.path / "checkpoints" / "reward-model"

    @property
    def records(self) -> Path:
        """Attempts of a policy that stays as it is, with whether they were right."""
        return self.path / "records"

    @property
    def acceptance(self) -> Path:
        """The acceptance model, and its threshold."""
        return self.path / "acceptance"

    @property
    def acceptance_checkpoints(self) -> Path:
        return self.path / "checkpoints" / "acceptance"

    @property
    def warm_up(self) -> Path:
        return self.path / "checkpoints" / "warm-up"

    @property
    def warm_policy(self) -> Path:
        """The policy that has been taught a form, before rewards are learned from."""
        return self.warm_up / "policy"

    def round_policy(self, round_: int, rounds: int) -> Path:
        """Where a round's policy goes: the last one is the run's ``policy``."""
        return self.policy if round_ == rounds else self.checkpoints(round_) / "policy"

    def evaluation(self, phase: str) -> Path:
        return self.path / "evaluation" / phase

    def open(self, recipe: Recipe, *, resume: bool) -> None:
        """Start the run here, or go on with it.

        With ``resume`` a folder in which nothing has begun is started, so that one command serves first and later
        starts. Raises ``InputError`` as ``take`` does, and when the recipe differs from the one the run began with.
        """
        started = self.take(resume=resume)
        try:
            self._keep_recipe(recipe, started)
        except InputError:
            self.close()
            raise

    def _keep_recipe(self, recipe: Recipe, started: bool) -> None:
        if not started:
            self.metrics_file.unlink(missing_ok=True)
        if not (started and self.recipe_file.exists()):
            write_text(self.recipe_file, to_yaml(recipe))
            return
        changed = differences(read_config(self.recipe_file), recipe.model_dump(mode="json"))
        changed = [line for line in changed if not line.startswith(UNIMPORTANT_KEYS)]
        if changed:
            more = f"; and {len(changed) - _NAMED} keys more" if len(changed) > _NAMED else ""
            # The name of the recipe says most of what else differs.
            changed.sort(key=lambda line: not line.startswith("recipe: "))
            raise InputError(
                f"{self.path} was started with another recipe ({'; '.join(changed[:_NAMED])}{more}): resume it without"
                " these changes, or choose another --output"
            )


#: Differences from the recipe of a run that are named.
_NAMED = 8
#: Keys that change how fast a run is and where, never what it computes.
UNIMPORTANT_KEYS = (
    *("sampling.workers", "sampling.batch_tokens"),
    *("model.server.url", "model.server.kind", "model.server.api_key_variable", "model.server.concurrency"),
    *("model.server.timeout", "model.server.retries", "model.server.backoff"),
    *("model.vllm.gpu_memory_utilization", "model.vllm.cache_gib", "model.vllm.enforce_eager"),
)
