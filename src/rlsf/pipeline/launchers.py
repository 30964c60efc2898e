"""Launchers by name: shipped configurations of accelerate, one of the user's, or any command that starts processes."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from rlsf.errors import InputError, near_names
from rlsf.pipeline.launching import Launcher
from rlsf.recipes.recipe import Recipe
from rlsf.recipes.resolve import read_config
from rlsf.training.acceptance_config import AcceptanceTrainingConfig
from rlsf.training.config import TrainingConfig
from rlsf.training.reward_model_config import RewardModelConfig
from rlsf.training.weighted_sft_config import WeightedSftConfig

#: The shipped configurations: names as on the command line, and files.
SHIPPED = {
    "ddp": "ddp.yaml",
    "fsdp2": "fsdp2.yaml",
    "deepspeed-zero2": "deepspeed_zero2.yaml",
    "deepspeed-zero3": "deepspeed_zero3.yaml",
}
TrainedSection = TrainingConfig | RewardModelConfig | AcceptanceTrainingConfig | WeightedSftConfig
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
    configuration = read_config(path)
    kind = str(configuration.get("distributed_type", "NO"))
    zero_stage = configuration.get("deepspeed_config", {}).get("zero_stage")
    _require_available(kind, accelerate)
    count = processes if processes is not None else _default_processes(path)
    if kind == "MULTI_GPU" and count == 1:
        return None
    number = () if count is None else ("--num_processes", str(count))
    accelerate_launch = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path), *number)
    # Any free port: two runs on a machine do not meet.
    return Launcher((*accelerate_launch, "--main_process_port", "0"), kind in _CUTTING, count, zero_stage)


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
    if launcher is None:
        return
    trained = list(_trained(recipe))
    if launcher.processes is not None:
        _require_divisible(recipe, trained, launcher.processes)
    if launcher.cuts_models:
        _require_trainable_in_pieces(recipe, trained, launcher.zero_stage)


def _trained(recipe: Recipe) -> Iterator[TrainedSection]:
    """The sections of a recipe that say how a model is trained on rows."""
    if recipe.reward_model is not None:
        yield recipe.reward_model
    if recipe.acceptance is not None:
        yield recipe.acceptance.training
    elif recipe.introspection is not None:
        yield recipe.introspection.training
    elif recipe.online is None and recipe.reward_model is None:
        yield recipe.training


def _require_divisible(recipe: Recipe, trained: Sequence[TrainedSection], processes: int) -> None:
    from rlsf.training.common_options import passes
    from rlsf.training.online_options import rollout_passes

    for config in trained:
        passes(config, processes)
    if recipe.online is not None:
        rollout_passes(recipe.online, processes)


def _require_trainable_in_pieces(recipe: Recipe, trained: Sequence[TrainedSection], zero_stage: int | None) -> None:
    from rlsf.training.cut_models import require_trainable_in_pieces

    if recipe.online is not None:
        raise InputError(
            f"recipe {recipe.recipe} trains online, where the policy writes completions with whole models, which FSDP"
            " and DeepSpeed cut: use --accelerate ddp"
        )
    if zero_stage == 3 and recipe.introspection is None:
        raise InputError(
            f"recipe {recipe.recipe}: {trained[0].place} does not train by DeepSpeed ZeRO stage 3, under which"
            " transformers and TRL take every model for one in pieces: use --accelerate fsdp2 or deepspeed-zero2"
        )
    for config in trained:
        second_model = not getattr(config, "precompute_reference", True)
        require_trainable_in_pieces(config.place, adapters=config.lora is not None, second_model=second_model)
