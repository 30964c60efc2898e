"""``rlsf ask``: one answer, how far it is to be trusted, and why; or a file of questions."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.options import RecipeOptions, Workers
from rlsf.errors import InputError
from rlsf.recipes.resolve import merge, parse_overrides
from rlsf.sampling.executor import ExecutorOptions

if TYPE_CHECKING:
    from rlsf.pipeline.asking_options import AskingOptions

#: Exit code of a question that is not answered: the model abstains, or no answer was found in what it wrote.
NOT_ANSWERED = 3
_WORKERS = ExecutorOptions()
QuestionAndOverrides = Annotated[
    str,
    Parameter(
        name="[QUESTION] SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="The question in quotes, or - to read it from standard input, as without a question in a pipe; then keys"
        " of the recipe, for example --sampling.branches 5.",
    ),
]
Flag = Parameter(negative="", show_default=False)
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)+=.*", re.DOTALL)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """Many questions."""

    batch: str | None = None
    """Ask every question of a file, a hub id or a preset, given like --prompts elsewhere."""
    output: Path | None = None
    """Where the replies of --batch go: JSON lines, one a question."""
    resume: Annotated[bool, Flag] = False
    """Go on with --output where it stopped; nothing else need be said again."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyOptions:
    """One question."""

    choice: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """An option of a multiple-choice question; once for each."""
    show_guess: Annotated[bool, Flag] = False
    """Show the best guess, and how it came about, also where the model abstains."""
    json: Annotated[bool, Flag] = False
    """Print the reply as a line of JSON, as --batch writes them."""


_ONE, _MANY = ReplyOptions(), BatchOptions()


def ask(
    *question_and_overrides: QuestionAndOverrides,
    model: str | None = None,
    run: Path | None = None,
    mode: Literal["greedy", "cot_decoding", "majority"] | None = None,
    calibration: Path | None = None,
    recipe: str | None = None,
    config: Path | None = None,
    one: ReplyOptions = _ONE,
    many: BatchOptions = _MANY,
    workers: Workers = _WORKERS,
) -> int:
    """Answer a question, say how sure the answer is, and abstain where a calibration says so.

    The exit code is 0 for an answer and 3 for none.

    Parameters
    ----------
    model:
        The model to ask: a folder or a hub id. Beside a run's policy, the run's recipe says how to ask it.
    run:
        A run folder: ask its policy as its recipe says.
    mode:
        How one answer is chosen among the traces; by default cot_decoding, the surest, or what the calibration is for.
    calibration:
        A calibration made by `rlsf calibrate`; by default the one beside the model.
    recipe:
        The method, for how to ask: a name that `rlsf recipes` lists; by default that of the run or --config, else rlsf.
    config:
        A recipe file of your own (YAML); it may name a shipped recipe to build on.
    """
    question, overrides = split_question(question_and_overrides)
    single = None
    if many == _MANY:
        if workers != _WORKERS:
            raise InputError("--executor, --workers and --ray-address are for --batch: one question is asked here")
        single = read_question(question), read_choice(one.choice)
    elif question is not None or one != _ONE:
        raise InputError("--batch asks the questions of a file: leave out the question, --choice, --json, --show-guess")

    from rlsf.pipeline.asking_options import AskingOptions

    layer = merge(RecipeOptions(model=model, prompts=many.batch).layer(), parse_overrides(overrides))
    said = AskingOptions(layer=layer, recipe=recipe, config=config, run=run, calibration=calibration, mode=mode)
    if single is not None:
        return _ask_one(said, *single, one)
    _ask_batch(said, many, workers)
    return 0


def split_question(arguments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The question among dotted keys, wherever it stands; raises ``InputError`` for two of them."""
    question: str | None = None
    overrides: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument.startswith("--") and " " not in argument.partition("=")[0]:
            overrides.append(argument)
            if "=" not in argument:
                overrides += [value for value in (next(remaining, None),) if value is not None]
        elif _KEY.fullmatch(argument):
            overrides.append(argument)
        elif question is not None:
            raise InputError(f"two questions, {question!r} and {argument!r}: put a question of several words in quotes")
        else:
            question = argument
    return question, tuple(overrides)


def read_question(said: str | None) -> str:
    """The question as said, or from standard input. Raises ``InputError`` where there is none."""
    if said is None and sys.stdin.isatty():
        raise InputError('no question: say `rlsf ask "QUESTION"`, or --batch FILE for many')
    if said is None or said == "-":
        said = _standard_input()
        if not said.strip():
            raise InputError("the question on standard input is empty")
    return _text(said, "the question")


def read_choice(said: Sequence[str]) -> tuple[str, ...]:
    """The options as said. Raises ``InputError`` for a single one, for too many, and for one that is empty."""
    from rlsf.prompts.choices import read_choices

    options = [_text(option, f"--choice {place}") for place, option in enumerate(said, 1)]
    try:
        return read_choices(options).texts
    except ValueError as error:
        raise InputError(f"--choice: {error}") from error


def _text(said: str, what: str) -> str:
    try:
        said.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not UTF-8 at character {error.start}") from error
    if not said.strip():
        raise InputError(f"{what} is empty")
    return said.strip()


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the question on standard input is not UTF-8 at byte {error.start}") from error


def _ask_one(said: AskingOptions, question: str, choices: tuple[str, ...], options: ReplyOptions) -> int:
    from rlsf.cli.replies import not_used, show
    from rlsf.pipeline.asking import ask as ask_model
    from rlsf.pipeline.progress import ProgressDisplay
    from rlsf.pipeline.reply_file import json_line
    from rlsf.prompts.prompt import Prompt

    asking, misfit = said.resolve()
    reply = ask_model(asking, Prompt("question", question, choices))
    if options.json:
        print(json_line(reply.record()))
        if misfit:
            ProgressDisplay().warn(not_used(misfit))
    else:
        show(reply, asking, Console(), misfit=misfit, show_guess=options.show_guess)
    return 0 if reply.answer is not None else NOT_ANSWERED


def _ask_batch(said: AskingOptions, many: BatchOptions, workers: ExecutorOptions) -> None:
    from dataclasses import replace

    from rlsf.cli.replies import not_used
    from rlsf.pipeline.asking_batch import ask_batch
    from rlsf.pipeline.progress import ProgressDisplay
    from rlsf.pipeline.reply_file import ReplyFile
    from rlsf.prompts import load_prompts

    output, resume = many.output, many.resume
    if output is None:
        raise InputError("--batch and --resume need a file for the replies: say --output FILE.jsonl")
    if resume:
        said = replace(said, kept=ReplyFile(output).kept())
    asking, misfit = said.resolve()
    if asking.recipe.prompts.path is None and asking.recipe.prompts.preset is None:
        raise InputError("no questions: say --batch FILE")
    progress = ProgressDisplay()
    if misfit:
        progress.warn(not_used(misfit))
    prompts = load_prompts(asking.recipe.prompts, with_gold=False)
    with resumed_by("rlsf", "ask", "--resume", "--output", output, *workers.arguments()):
        settings = said.settings(asking)
        counts = ask_batch(asking, prompts, output, settings, resume=resume, progress=progress, executor=workers)
    answered = counts.asked - counts.abstained - counts.without_answer
    console = Console()
    console.print(
        f"{counts.asked} of {counts.questions} questions asked: {answered} answered, {counts.abstained} abstained,"
        f" {counts.without_answer} without an answer",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"replies  {output}", highlight=False, soft_wrap=True, markup=False)
