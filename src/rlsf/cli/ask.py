"""``rlsf ask``: one answer, how far it is to be trusted, and why; or a file of questions."""

from __future__ import annotations

import json
import re
import sys
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


def ask(
    *question_and_overrides: QuestionAndOverrides,
    model: str | None = None,
    run: Path | None = None,
    choice: Annotated[list[str] | None, Parameter(negative="")] = None,
    mode: Literal["greedy", "cot_decoding", "majority"] | None = None,
    calibration: Path | None = None,
    show_guess: Annotated[bool, Flag] = False,
    json_line: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False,
    batch: str | None = None,
    output: Path | None = None,
    resume: Annotated[bool, Flag] = False,
    recipe: str | None = None,
    config: Path | None = None,
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
    choice:
        An option of a multiple-choice question; once for each.
    mode:
        How one answer is chosen among the traces; by default cot_decoding, the surest, or what the calibration is for.
    calibration:
        A calibration made by `rlsf calibrate`; by default the one beside the model.
    show_guess:
        Show the best guess, and how it came about, also where the model abstains.
    json_line:
        Print the reply as a line of JSON, as --batch writes them.
    batch:
        Ask every question of a file, a hub id or a preset, given like --prompts elsewhere.
    output:
        Where the replies of --batch go: JSON lines, one a question.
    resume:
        Go on with --output where it stopped; nothing else need be said again.
    recipe:
        The method, for how to ask: a name that `rlsf recipes` lists; by default that of the run or --config, else rlsf.
    config:
        A recipe file of your own (YAML); it may name a shipped recipe to build on.
    """
    question, overrides = split_question(question_and_overrides)
    many = batch is not None or output is not None or resume
    if not many:
        if workers != _WORKERS:
            raise InputError("--executor, --workers and --ray-address are for --batch: one question is asked here")
        question = read_question(question)
    elif question is not None or choice or json_line or show_guess:
        raise InputError("--batch asks the questions of a file: leave out the question, --choice, --json, --show-guess")

    from rlsf.pipeline.asking_options import AskingOptions

    layer = merge(RecipeOptions(model=model, prompts=batch).layer(), parse_overrides(overrides))
    said = AskingOptions(layer=layer, recipe=recipe, config=config, run=run, calibration=calibration, mode=mode)
    if question is None:
        _ask_batch(said, output, workers, resume=resume)
        return 0
    return _ask_one(said, question, tuple(choice or ()), json_line=json_line, show_guess=show_guess)


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
    try:
        said.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the question is not UTF-8 at character {error.start}") from error
    if not said.strip():
        raise InputError("the question is empty")
    return said.strip()


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the question on standard input is not UTF-8 at byte {error.start}") from error


def _ask_one(said: AskingOptions, question: str, choices: tuple[str, ...], *, json_line: bool, show_guess: bool) -> int:
    from rlsf.cli.replies import show
    from rlsf.pipeline.asking import ask as ask_model
    from rlsf.prompts.prompt import Prompt

    asking, misfit = said.resolve()
    reply = ask_model(asking, Prompt("question", question, choices))
    if json_line:
        print(json.dumps(reply.record(), ensure_ascii=False))
    else:
        show(reply, asking, Console(), misfit=misfit, show_guess=show_guess)
    return 0 if reply.answer is not None else NOT_ANSWERED


def _ask_batch(said: AskingOptions, output: Path | None, workers: ExecutorOptions, *, resume: bool) -> None:
    from dataclasses import replace

    from rlsf.pipeline.asking_batch import ask_batch
    from rlsf.pipeline.progress import ProgressDisplay
    from rlsf.pipeline.reply_file import ReplyFile
    from rlsf.prompts import load_prompts

    if output is None:
        raise InputError("--batch and --resume need a file for the replies: say --output FILE.jsonl")
    if resume:
        said = replace(said, kept=ReplyFile(output).kept())
    asking, misfit = said.resolve()
    if asking.recipe.prompts.path is None and asking.recipe.prompts.preset is None:
        raise InputError("no questions: say --batch FILE")
    progress = ProgressDisplay()
    if misfit:
        progress.warn(f"the calibration beside the model is not used: it was made for {misfit}")
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
