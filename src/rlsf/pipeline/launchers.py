"""Launchers by name: shipped configurations of accelerate, one of the user's, or any command that starts processes."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from importlib import resources
from pathlib import Path

from rlsf.errors import InputError, near_names
from rlsf.pipeline.launching import Launcher
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import read_config

#: The shipped configurations: names as on the command line, and files.
SHIPPED = {
    "ddp": "ddp.yaml",
    "fsdp2": "fsdp2.yaml",
    "deepspeed-zero2": "deepspeed_zero2.yaml",
    "deepspeed-zero3": "deepspeed_zero3.yaml",
}
_CUTTING = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def choose_launcher(processes: int | None, accelerate: str | None, launch: str | None) -> Launcher | None:
    """The launcher that the command line asks for; None where training stays in this process.

    ``processes`` on this machine, by the configuration ``accelerate``, a name of ``SHIPPED`` or a file; or the command
    ``launch``. Raises ``InputError`` for what is unknown, contradictory or not to be had here.
    """
    if launch is not None:
        if processes is not None or accelerate is not None:
            raise InputError("--launch says all of how processes start: leave out --processes and --accelerate")
        words = shlex.split(launch)
        if not words:
            raise InputError("--launch is empty: say a command such as `accelerate launch --num_processes 8`")
        return Launcher(tuple(words))
    if processes is None and accelerate is None:
        return None
    if processes is not None and processes < 1:
        raise InputError(f"--processes={processes}: say how many processes train, 1 at least")
    path = configuration_file(accelerate or "ddp")
    kind = str(read_config(path).get("distributed_type", "NO"))
    _require_available(kind, accelerate)
    count = processes if processes is not None else _default_processes(path)
    if kind == "MULTI_GPU" and count == 1:
        return None
    number = () if count is None else ("--num_processes", str(count))
    accelerate_launch = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path), *number)
    # Any free port: two runs on a machine do not meet.
    return Launcher((*accelerate_launch, "--main_process_port", "0"), kind in _CUTTING)


def configuration_file(name: str) -> Path:
    """The file of a shipped configuration, or the user's own."""
    if name in SHIPPED:
        return Path(str(resources.files("rlsf.training") / "accelerate" / SHIPPED[name]))
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"--accelerate {name}{near_names(name, SHIPPED)}: it must be {', '.join(SHIPPED)} or a file that"
            " `accelerate config` wrote"
        )
    return path


def _default_processes(path: Path) -> int | None:
    """One for each GPU for shipped configurations; what a file of the user's says is left to accelerate."""
    if path.name not in SHIPPED.values():
        return None
    import torch

    if not torch.cuda.device_count():
        raise InputError("no GPU to count processes by: say --processes N")
    return torch.cuda.device_count()


def _require_available(kind: str, name: str | None) -> None:
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise InputError(f"--accelerate {name} needs DeepSpeed, which is not installed: pip install deepspeed")
    if kind not in _CUTTING:
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(f"--accelerate {name} cuts models over GPUs, and there is none: use --accelerate ddp")


def require_trainable(recipe: Recipe, launcher: Launcher | None) -> None:
    """Raise ``InputError`` where the recipe asks for what the launcher's processes cannot do, before any work."""
    if launcher is None or not launcher.cuts_models:
        return
    from rlsf.training.cut_models import require_trainable_in_pieces

    if recipe.online is not None:
        raise InputError(
            f"recipe {recipe.recipe} trains online, where the policy writes completions with whole models, which FSDP"
            " and DeepSpeed cut: use --accelerate ddp"
        )
    if recipe.reward_model is not None:
        require_trainable_in_pieces("reward_model", adapters=recipe.reward_model.lora is not None)
    elif recipe.acceptance is not None:
        require_trainable_in_pieces("acceptance.training", adapters=recipe.acceptance.training.lora is not None)
    elif recipe.introspection is not None:
        adapters = recipe.introspection.training.lora is not None
        require_trainable_in_pieces("introspection.training", adapters=adapters)
    else:
        training = recipe.training
        require_trainable_in_pieces(
            "training", adapters=training.lora is not None, second_model=not training.precompute_reference
        )
