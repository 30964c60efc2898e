"""Many questions: replies in a file of JSON lines, in the order of the questions, resumable after any interruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlsf.answers.equivalence import Grader
from rlsf.files import digest
from rlsf.models import load_tokenizer, model_fingerprint
from rlsf.pipeline.asking import Asking, AskingTask, Reply, sample_traces
from rlsf.pipeline.asking_options import settings_of
from rlsf.pipeline.folder import UNIMPORTANT_KEYS
from rlsf.pipeline.preflight import require_usable
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.reply_file import ReplyFile
from rlsf.prompts import prompts_digest
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.resolve import flatten
from rlsf.sampling.executor import ExecutorOptions
from rlsf.sampling.pool import worker_count_for
from rlsf.traces import Trace

#: Digits of a digest that tell one thing from another in a message.
_SHORT = 12
#: What decides the traces of a model besides its weights.
_OF_THE_MODEL = {"model.dtype", "model.server.model", "model.server.prompts", "model.server.logprobs"}


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """What became of the questions of a file that were asked this time."""

    questions: int = 0
    asked: int = 0
    abstained: int = 0
    without_answer: int = 0

    def __add__(self, other: BatchCounts) -> BatchCounts:
        return BatchCounts(
            self.questions + other.questions,
            self.asked + other.asked,
            self.abstained + other.abstained,
            self.without_answer + other.without_answer,
        )


def ask_batch(
    asking: Asking,
    prompts: Sequence[Prompt],
    output: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    progress: ProgressDisplay | None = None,
    executor: ExecutorOptions | None = None,
) -> BatchCounts:
    """Ask every question and append its reply to ``output``; with ``resume`` those that have their line are not asked.

    ``settings`` are kept beside the file (``AskingOptions.settings``). ``executor`` samples the traces, those of
    ``sampling.shard_prompts`` questions at a time, cut at the same places whatever was done before, so that a resumed
    file equals one that was never interrupted. Raises ``InputError`` before any work for what cannot be asked, and as
    ``ReplyFile.open`` does.
    """
    progress, executor = progress or ProgressDisplay(), executor or ExecutorOptions()
    executor.require_usable()
    tokenizer = load_tokenizer(asking.recipe.model)
    require_usable(asking.recipe, prompts, tokenizer)
    file = ReplyFile(output)
    done = file.open(settings, _inputs(asking, prompts), [prompt.id for prompt in prompts], resume=resume)
    counts = BatchCounts(questions=len(prompts))
    size = asking.sampling.shard_prompts
    shards = [prompts[start : start + size] for start in range(done - done % size, len(prompts), size)]
    skip = done % size
    try:
        with Grader() as grader, progress.stage("ask", len(prompts), done) as advance:
            tasks = [asking.task(shard, tokenizer) for shard in shards] if done < len(prompts) else []
            for shard, groups in zip(shards, _in_order(asking, tasks, executor, output, progress), strict=False):
                rows = list(zip(shard, groups, strict=True))[skip:]
                replies = [asking.settle(prompt, traces, tokenizer, grader) for prompt, traces in rows]
                skip = 0
                file.append(reply.record() for reply in replies)
                counts += _counts(replies)
                advance(len(replies))
    finally:
        file.close()
    return counts


def _in_order(
    asking: Asking, tasks: Sequence[AskingTask], executor: ExecutorOptions, output: Path, progress: ProgressDisplay
) -> Iterator[list[list[Trace]]]:
    """The traces of each task, in the order of the tasks; one that is done early waits for those before it."""
    recipe = asking.recipe
    workers = recipe.sampling.workers
    if executor.executor == "local":
        workers = max(1, min(worker_count_for(recipe.model, executor.workers or workers), len(tasks)))
        executor = replace(executor, workers=workers)
    waiting: dict[int, list[list[Trace]]] = {}
    following = 0
    with executor.open(recipe.model, workers, output.absolute().parent, progress.warn) as pool:
        for number, groups in pool.map_shards(sample_traces, tasks):
            waiting[number] = groups
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def _counts(replies: Sequence[Reply]) -> BatchCounts:
    return BatchCounts(
        asked=len(replies),
        abstained=sum(reply.abstained for reply in replies),
        without_answer=sum(reply.guess is None for reply in replies),
    )


def _inputs(asking: Asking, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Everything that decides the replies; dotted keys, so that a message can name the one that differs."""
    recipe = asking.recipe
    fingerprint = model_fingerprint(recipe.model)
    kept = {
        key: value
        for key, value in flatten(settings_of(recipe))
        if key not in UNIMPORTANT_KEYS and (key in _OF_THE_MODEL or not key.startswith("model."))
    }
    made = asking.calibration
    return {
        **kept,
        "model": fingerprint if "@" in fingerprint else fingerprint[:_SHORT],
        "mode": asking.mode,
        "calibration": None if made is None else digest(made.model_dump(mode="json"))[:_SHORT],
        "questions": prompts_digest(prompts)[:_SHORT],
    }
