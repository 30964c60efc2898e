"""``rlsf audit``: what did a training really reward?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import ValidationError
from rich.console import Console

from rlsf.cli.interrupt import resumed_by
from rlsf.errors import InputError, near_names
from rlsf.recipes.resolve import Layer, merge, parse_overrides, resolve
from rlsf.recipes.sources import source_layer

if TYPE_CHECKING:
    from rlsf.audit.config import AuditConfig

AuditOverrides = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Keys of the audit, for example --audit.objective logistic or --audit.model.epochs 5 (docs/audit.md), and"
        " keys of a recipe that say how models are asked and answers found, for example --sampling.max-new-tokens 512.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class AuditOptions:
    """What both models are asked, and how."""

    prompts: str | None = None
    """Questions that both models are asked, without their answers: a file, a hub id, a preset (gsm8k), or a preset
    over a file (gsm8k:FILE)."""
    eval_data: str | None = None
    """Labelled questions, to see whether the recovered rewards tell right from wrong; given like --prompts."""
    recipe: str | None = None
    """A shipped recipe (`rlsf recipes` lists them) whose settings say how models are asked and answers found."""
    config: Path | None = None
    """The same as a recipe file of your own (YAML)."""

    def layer(self, layer: Layer, before: str | None) -> Layer:
        """These options over ``layer``, with the model at the start; raises ``InputError`` where it names another."""
        said = layer.get("model")
        named = said.get("path") if isinstance(said, dict) else said
        if named is not None:
            raise InputError(f"an audit has two models: say --before {named} --after MODEL")
        return merge(source_layer(before, self.prompts, self.eval_data), layer)


_NO_OPTIONS = AuditOptions()


def audit(
    *overrides: AuditOverrides,
    before: str | None = None,
    after: str | None = None,
    options: AuditOptions = _NO_OPTIONS,
    n: Annotated[int | None, Parameter(name=("--n", "-n"), validator=Number(gte=1))] = None,
    greedy: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    output: Path | None = None,
    resume: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> None:
    """Recover what a training rewarded, from traces of the model before it and after it (inverse RL, arXiv 2410.12491).

    Parameters
    ----------
    before:
        The model that the training started from: a folder or a hub id.
    after:
        The model that came out.
    n:
        Traces of each model for a prompt, 1 by default; the same as --audit.traces.
    greedy:
        Decode greedily instead of sampling; the same as --audit.decoding greedy.
    output:
        Folder for the audit; by default runs/audit-DATE-TIME.
    resume:
        Go on with the audit in --output where it stopped; nothing else need be said again.
    """
    from rlsf.cli.audit_tables import show_audit
    from rlsf.pipeline.auditing import RESULT, SETTINGS, audit_preflight, audit_stage, settings_of
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder

    if resume and output is None:
        raise InputError("--resume needs the audit to go on with: --output FOLDER")
    folder = output or Path("runs") / f"audit-{datetime.now():%Y%m%d-%H%M%S}"
    kept, run_folder = settings_of(folder) if resume else {}, RunFolder(folder)
    if resume and not kept and before is None:
        raise InputError(f"nothing to resume: {folder} is not the folder of an audit (no {SETTINGS})")
    layer = parse_overrides(overrides)
    said: dict[str, Any] = {"traces": n, "decoding": "greedy" if greedy else None}
    said = {name: value for name, value in said.items() if value is not None}
    config = _config(merge(merge(kept.get("audit", {}), layer.pop("audit", {}) or {}), said))
    after = after or kept.get("after")
    kept_recipe = run_folder.recipe_file if kept else None
    recipe = resolve(options.recipe, options.config or kept_recipe, options.layer(layer, before))
    if recipe.model.path is None or after is None:
        raise InputError("say both models: --before MODEL --after MODEL")
    trained = recipe.model.model_copy(update={"path": after, "revision": None})
    run = Run(recipe, run_folder)
    audit_preflight(run, trained, config)
    go_on = resumed_by("rlsf", "audit", "--resume", "--output", folder)
    with go_on, run.open(resume=resume):
        found = audit_stage(run, trained, config)
    console = Console()
    show_audit(found, console)
    for name, path in {"audit": folder / RESULT, "reward model": run_folder.reward_model}.items():
        if path.exists():
            console.print(f"{name}  {path}", highlight=False, soft_wrap=True, markup=False)


def _config(layer: Any) -> AuditConfig:
    """The section ``audit``; raises ``InputError`` naming the first key that is wrong."""
    from rlsf.audit.config import AuditConfig

    if not isinstance(layer, dict):
        raise InputError(f"audit={layer!r}: set the keys in it, audit.objective for instance")
    try:
        return AuditConfig.model_validate(layer)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            near = near_names(keys[-1], AuditConfig.model_fields)
            raise InputError(f"unknown key 'audit.{'.'.join(keys)}'{near}; known here: {_known(keys)}") from error
        if first["type"] == "value_error":  # of a whole section: it names its keys itself
            raise InputError(message) from error
        raise InputError(f"audit.{'.'.join(keys)}={first['input']!r}: {message[:1].lower()}{message[1:]}") from error


def _known(keys: list[str]) -> str:
    from rlsf.audit.config import AuditConfig, RecoveredModelConfig

    section = RecoveredModelConfig if keys[0] == "model" and len(keys) > 1 else AuditConfig
    return ", ".join(sorted(section.model_fields))
