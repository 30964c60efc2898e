"""Options of the commands that train: in how many processes, and what starts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Parameter

from rlsf.recipes.recipe import Recipe

if TYPE_CHECKING:
    from rlsf.pipeline.launching import Launcher


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchOptions:
    """How training is launched. Nothing of it belongs to the recipe: a run may go on in other processes."""

    processes: int | None = None
    """Processes that train together on this machine; a step is divided among them."""
    accelerate: str | None = None
    """How they divide it: ddp, fsdp2, deepspeed-zero2, deepspeed-zero3, or a file that `accelerate config` wrote."""
    launch: str | None = None
    """A command that starts them, for several machines: "srun torchrun ...", "accelerate launch ..."."""

    def arguments(self) -> tuple[str, ...]:
        """These options as they are said on a command line."""
        said = {"--processes": self.processes, "--accelerate": self.accelerate, "--launch": self.launch}
        return tuple(word for name, value in said.items() if value is not None for word in (name, str(value)))

    def launcher(self, recipe: Recipe) -> Launcher | None:
        """What starts the processes of a training, None where this one trains; ``InputError`` where it cannot."""
        if self.processes is None and self.accelerate is None and self.launch is None:
            return None
        from rlsf.pipeline.launchers import choose_launcher, require_trainable

        launcher = choose_launcher(self.processes, self.accelerate, self.launch)
        require_trainable(recipe, launcher)
        return launcher
