"""The commands by name, and what a user sees when something goes wrong: one line and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from rlsf import __version__
from rlsf.cli.ask import ask
from rlsf.cli.audit import audit
from rlsf.cli.best_of_n import best_of_n
from rlsf.cli.calibrate import calibrate
from rlsf.cli.check import check
from rlsf.cli.compare import compare
from rlsf.cli.demo import demo
from rlsf.cli.doctor import doctor
from rlsf.cli.recipes import recipes
from rlsf.cli.run import run
from rlsf.cli.score import score
from rlsf.cli.shading import one_line
from rlsf.cli.signals import signals
from rlsf.cli.stages import evaluate, rank, report, sample, train
from rlsf.errors import RlsfError

#: Exit codes: a mistake that the user can mend, and a run stopped by Ctrl-C.
USER_ERROR, INTERRUPTED = 2, 130

app = App(
    name="rlsf",
    help="Post-train a language model from its own confidence; measure accuracy and calibration before and after.",
    version=__version__,
    help_epilogue="To begin: `rlsf demo`; then `rlsf check --model MODEL --prompts FILE`, and `rlsf run` with the same"
    " options.",
    suppress_keyboard_interrupt=False,
)
#: In the order of the work; importing them imports no model library.
for place, command in enumerate(
    (
        demo,
        check,
        run,
        compare,
        sample,
        rank,
        train,
        evaluate,
        report,
        score,
        best_of_n,
        signals,
        calibrate,
        ask,
        audit,
        recipes,
        doctor,
    )
):
    name = "eval" if command is evaluate else command.__name__.replace("_", "-")
    app.command(command, name=name, sort_key=place, help_epilogue="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    sys.exit(execute(list(sys.argv[1:] if arguments is None else arguments)))


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code: a command's own where it returns one, else 0."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    console = Console(stderr=True)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (RlsfError, CycloptsError) as error:
        message = one_line(str(error))
        console.print(f"rlsf: {message}", style="red", highlight=False, soft_wrap=True, markup=False)
        return USER_ERROR
    except KeyboardInterrupt as interrupt:
        console.print(
            ": ".join(filter(None, ("stopped", str(interrupt)))), highlight=False, soft_wrap=True, markup=False
        )
        return INTERRUPTED
    return code if isinstance(code, int) else 0
