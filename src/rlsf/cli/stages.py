"""Each stage alone: ``rlsf sample``, ``rank``, ``train``, ``eval`` and ``report``.

``sample`` starts a run folder; the others take one and read its recipe. They may change keys of their own and of later
stages; whatever an earlier stage was made from is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from rlsf.cli.interrupt import resumed_by
from rlsf.cli.labels import say_labels
from rlsf.cli.launching import LaunchOptions
from rlsf.cli.options import Overrides, RecipeOptions, RunOptions, Workers
from rlsf.cli.reopen import reopen, require_stages, split_folder
from rlsf.cli.reward_accuracy import show_reward_accuracy
from rlsf.cli.run import print_recipe, show_summary
from rlsf.errors import InputError
from rlsf.recipes.resolve import merge, parse_overrides
from rlsf.sampling.executor import ExecutorOptions

_RECIPE, _WHERE, _WORKERS, _LAUNCHING = RecipeOptions(), RunOptions(), ExecutorOptions(), LaunchOptions()
RankingOverrides = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Keys of the recipe that may still change: of signal, judge, ranking, training and evaluation, for example"
        " --ranking.threshold 0.8.",
    ),
]
TrainingOverrides = Annotated[
    str,
    Parameter(
        name="SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="Keys of the recipe that may still change: of training (or online) and evaluation, for example"
        " --training.learning-rate 1e-5.",
    ),
]
FolderAndOverrides = Annotated[
    str,
    Parameter(
        name="[FOLDER] SECTION.KEY=VALUE",
        allow_leading_hyphen=True,
        help="A run folder, left out to measure --model on --data; then keys of the recipe, as for `rlsf run`.",
    ),
]
#: What may still change once preference pairs are there, or before online training is done; and once traces are.
_FROM_TRAINING = (
    *("conditioning", "training", "reward_model", "online", "introspection", "acceptance"),
    *("evaluation", "evaluation_data"),
)
_FROM_RANKING = ("signal", "judge", "ranking", *_FROM_TRAINING)


def sample(
    *overrides: Overrides,
    options: RecipeOptions = _RECIPE,
    where: RunOptions = _WHERE,
    workers: Workers = _WORKERS,
) -> None:
    """Sample traces for the prompts, with statistics and answers."""
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.preflight import preflight
    from rlsf.pipeline.run import sample_round

    recipe = where.recipe(options, overrides)
    if where.dry_run:
        print_recipe(recipe)
        return
    require_stages(recipe)
    run = Run(recipe, RunFolder(where.folder(recipe)), executor=workers)
    preflight(run)
    go_on = resumed_by("rlsf", "sample", "--resume", "--output", run.folder.path, *workers.arguments())
    with go_on, run.open(resume=where.resume):
        manifest = sample_round(run, 1)
        _say(f"{manifest.counts['traces']} traces of {manifest.counts['prompts']} prompts in {run.folder.traces(1)}")


def rank(folder: Path, /, *overrides: RankingOverrides, workers: Workers = _WORKERS) -> None:
    """Rank the sampled traces and write preference pairs.

    Parameters
    ----------
    folder:
        A run folder with sampled traces.
    """
    from rlsf.pipeline.ranking import rank_stage

    go_on = resumed_by("rlsf", "rank", folder, *workers.arguments())
    with go_on, reopen(folder, parse_overrides(overrides), _FROM_RANKING, workers) as run:
        require_stages(run.recipe, folder)
        manifest = rank_stage(run, 1)
        _say(f"{manifest.counts['pairs']} pairs in {run.folder.preferences(1)}")


def train(folder: Path, /, *overrides: TrainingOverrides, launching: LaunchOptions = _LAUNCHING) -> None:
    """Fine-tune the policy on the preference pairs, online, or on dialogues; goes on from the last checkpoint.

    Parameters
    ----------
    folder:
        A run folder with ranked pairs, or any of a recipe that learns online or from dialogues.
    """
    from rlsf.pipeline.acceptance import acceptance_stage
    from rlsf.pipeline.introspection import introspection_stage
    from rlsf.pipeline.online import online_stage
    from rlsf.pipeline.reward_modelling import reward_model_stage
    from rlsf.pipeline.run import warm_up
    from rlsf.pipeline.training import train_stage

    go_on = resumed_by("rlsf", "train", folder, *launching.arguments())
    with go_on, reopen(folder, parse_overrides(overrides), _FROM_TRAINING) as run:
        run.launcher = launching.launcher(run.recipe)
        say_labels(run.recipe)
        if run.recipe.rounds > 1:
            section = "training" if run.recipe.introspection is None else "introspection"
            raise InputError(f"{section}.rounds > 1 samples again between rounds: use `rlsf run --resume` for it")
        warm_up(run)
        if run.recipe.acceptance is not None:
            threshold = acceptance_stage(run).counts["threshold"]
            _say(f"acceptance from a score of {threshold:.3f} on in {run.folder.acceptance}")
            return
        if run.recipe.reward_model is not None:
            reward_model_stage(run)
            _say(f"reward model in {run.folder.reward_model}")
            if run.recipe.online is None:
                return
        if run.recipe.introspection is not None:
            manifest = introspection_stage(run, 1)
        else:
            manifest = train_stage(run, 1) if run.recipe.online is None else online_stage(run)
        _say(f"policy of step {manifest.counts['best_step']} in {run.folder.policy} ({manifest.counts['reason']})")


def evaluate(
    *folder_and_overrides: FolderAndOverrides,
    data: str | None = None,
    reward_model: str | None = None,
    options: RecipeOptions = _RECIPE,
    where: RunOptions = _WHERE,
    workers: Workers = _WORKERS,
) -> None:
    """Measure accuracy and calibration: of a run (before and after), or of any model on any labelled data.

    Parameters
    ----------
    data:
        The same as --eval-data; for a reward model, pairs in RewardBench's format (JSON lines, Parquet, CSV or a hub id
        with prompt, chosen, rejected and, at will, subset).
    reward_model:
        Measure this reward model, a folder or a hub id, on the pairs of --data.
    """
    from rlsf.pipeline.context import Run
    from rlsf.pipeline.folder import RunFolder
    from rlsf.pipeline.preflight import preflight
    from rlsf.pipeline.reporting import report_stage
    from rlsf.pipeline.run import evaluate_all

    folder, overrides = split_folder(folder_and_overrides)
    if reward_model is not None:
        if folder is not None or options.model is not None:
            raise InputError("a reward model is measured alone: say --reward-model FOLDER --data FILE.jsonl")
        if where.resume or workers != ExecutorOptions():
            raise InputError("a reward model is measured at once, by this process: leave out --resume and workers")
        recipe = options.measuring(data, overrides).resolve(overrides)
        if where.dry_run:
            print_recipe(recipe)
        else:
            show_reward_accuracy(reward_model, recipe, where.output)
        return
    if (folder is None) == (options.model is None):
        raise InputError("say what to measure: a run folder, or --model MODEL --data FILE")
    options = options.measuring(data, overrides)
    if folder is not None:
        layer = merge(RecipeOptions(eval_data=options.eval_data).layer(), parse_overrides(overrides))
        opening = reopen(folder, layer, ("evaluation", "evaluation_data"), workers)
    else:
        recipe = options.resolve(overrides)
        if where.dry_run:
            print_recipe(recipe)
            return
        folder = where.folder(recipe)
        run = Run(recipe, RunFolder(folder), executor=workers)
        preflight(run, learns=False)
        opening = run.open(resume=where.resume)
    with resumed_by("rlsf", "eval", folder, *workers.arguments()), opening as run:
        if not run.questions:
            raise InputError("no labelled questions: say --data FILE")
        show_summary(evaluate_all(run), Console())
        _say(f"report  {report_stage(run)}")


def report(folder: Path, /) -> None:
    """Write report.html and the policy's model card again.

    Parameters
    ----------
    folder:
        A run folder.
    """
    from rlsf.pipeline.reporting import report_stage

    with reopen(folder, {}, ()) as run:
        _say(f"report  {report_stage(run)}")


def _say(text: str) -> None:
    Console().print(text, highlight=False, soft_wrap=True, markup=False)
