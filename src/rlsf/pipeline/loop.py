"""The whole loop as a call: what ``rlsf run`` does, without a command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.preflight import preflight
from rlsf.pipeline.run import run_all
from rlsf.recipes.resolve import merge, resolve
from rlsf.recipes.sources import source_layer


def run(
    recipe: str | None = None,
    *,
    model: str | Path | None = None,
    prompts: str | Path | None = None,
    eval_data: str | Path | None = None,
    output: str | Path,
    config: str | Path | None = None,
    resume: bool = False,
    **settings: Any,
) -> dict[str, Any] | None:
    """Measure, sample, rank, train, measure again, and report, in the folder ``output``, as ``rlsf run`` does.

    ``recipe`` names the method (``rlsf`` by default; ``rlsf recipes`` lists them), ``model`` is a folder or a hub id,
    ``prompts`` are unlabelled questions and ``eval_data`` labelled ones: a file, a hub id or a preset. ``config`` is a
    recipe file of your own. Other keywords are keys of the recipe, whole sections or some of their keys:
    ``sampling={"branches": 5}, seed=1``; they win over the file. With ``resume`` the same call goes on where it
    stopped, or begins where nothing has begun.

    Returns what is in ``evaluation/summary.json``, ``summary["after"]["greedy"]["accuracy"]`` for instance;
    None without ``eval_data``. The policy is in ``output/policy``. Raises ``InputError`` for a mistake in any of it, in
    one line, before the folder is taken. Several workers import the calling script: keep the call under
    ``if __name__ == "__main__":``.
    """
    said = source_layer(*(None if source is None else str(source) for source in (model, prompts, eval_data)))
    resolved = resolve(recipe, None if config is None else Path(config), merge(said, _tables(settings)))
    loop = Run(resolved, RunFolder(Path(output)))
    preflight(loop, trains=True)
    with loop.open(resume=resume):
        return run_all(loop)


def _tables(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a YAML file would give them: paths as text."""
    return {
        key: _tables(value) if isinstance(value, Mapping) else str(value) if isinstance(value, Path) else value
        for key, value in settings.items()
    }
