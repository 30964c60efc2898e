"""What every stage of one run shares: the recipe, the folder, the prompts, the worker pool, the progress display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rlsf.errors import InputError
from rlsf.files import write_json
from rlsf.models import load_model, load_tokenizer, model_fingerprint
from rlsf.models.config import ModelConfig
from rlsf.pipeline.environment import describe_environment
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.metrics import MetricsLog
from rlsf.pipeline.progress import ProgressDisplay
from rlsf.pipeline.rescored import is_rescored
from rlsf.prompts import GoldAnswerError, Prompts, open_prompts, prompts_digest
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.executor import Executor, ExecutorOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rlsf.pipeline.launching import Launcher


class Run:
    """One run of one recipe in one folder; a context manager that holds the folder and the workers."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        progress: ProgressDisplay | None = None,
        executor: ExecutorOptions | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.progress = progress or ProgressDisplay()
        self.executor = executor or ExecutorOptions()
        #: Starts the processes of a training; None: this one trains.
        self.launcher: Launcher | None = None
        self._exit = ExitStack()

    def open(self, *, resume: bool) -> Run:
        """Take the folder; write the recipe and the environment on the first start."""
        self.executor.require_usable()
        if self.recipe.model.path is None:
            raise InputError("no model: say --model FOLDER_OR_HUB_ID, or set model.path in the recipe file")
        self.folder.open(self.recipe, resume=resume)
        self._exit.callback(self.folder.close)
        if not self.folder.environment_file.exists():
            write_json(self.folder.environment_file, describe_environment())
        return self

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._exit.close()

    @cached_property
    def metrics(self) -> MetricsLog:
        return MetricsLog(self.folder.metrics_file)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.recipe.model)

    @cached_property
    def pool(self) -> Executor:
        """What makes the shards, started when first needed and kept for all stages of the run."""
        workers = self.recipe.sampling.workers
        pool = self.executor.open(self.recipe.model, workers, self.folder.path, self.progress.warn)
        return self._exit.enter_context(pool)

    def before_training(self) -> None:
        """Let go of the model that sampled, whose memory training wants."""
        if "pool" in self.__dict__:
            self.pool.let_go()

    def body_to_train(self, config: ModelConfig) -> PreTrainedModel:
        """The model of ``config`` as the body under a new head, in the place of the one that sampled.

        An adapter is merged; as for every training, small updates would vanish in bfloat16 weights.
        """
        self.before_training()
        return load_model(config.model_copy(update={"dtype": "float32"} if config.dtype == "auto" else {}))

    def model_to_train(self, config: ModelConfig) -> PreTrainedModel:
        """The model of ``config``, trainable, in the place of the one that sampled.

        An adapter wraps the model and passes on its attributes; trainers take either.
        """
        self.before_training()
        return cast("PreTrainedModel", load_model(config, for_training=True))

    @cached_property
    def prompts(self) -> Sequence[Prompt]:
        """The questions to learn from, read anew each time they are gone through and never held.

        Gold answers are not even read, except by recipes that learn from them.
        """
        config = self.recipe.prompts
        if config.path is None and config.preset is None:
            raise InputError("no prompts: say --prompts FILE_OR_HUB_ID, or set prompts.path in the recipe file")
        return prompts_to_learn_from(self.recipe)

    @cached_property
    def questions(self) -> Sequence[Prompt]:
        """The labelled questions to measure on, read anew each time as well; empty where none were given."""
        if self.recipe.evaluation_data is None:
            return []
        return open_prompts(self.recipe.evaluation_data, with_gold=True)

    @cached_property
    def learned_questions(self) -> int:
        """How many of the labelled questions are learned from too, told by their text and options."""
        return count_shared(self.questions, self.prompts)

    def title(self, stage: str, round_: int) -> str:
        """A stage's name on the screen; rounds are counted where there are several."""
        return f"{stage}, round {round_}" if self.recipe.rounds > 1 else stage

    def start_config(self) -> ModelConfig:
        """The model that learning starts from: the given one, once the form is taught where there is one to teach."""
        online = self.recipe.online
        if online is None or not online.warm_up.steps:
            return self.recipe.model
        return self._policy_at(self.folder.warm_policy)

    def policy_config(self, round_: int) -> ModelConfig:
        """The model that samples in a round: the given one first, then the policy of the round before."""
        if round_ == 1:
            return self.recipe.model
        return self.trained_config(round_ - 1)

    def trained_config(self, round_: int) -> ModelConfig:
        """The policy that a round's training wrote."""
        return self._policy_at(self.folder.round_policy(round_, self.recipe.rounds))

    def _policy_at(self, path: Path) -> ModelConfig:
        return self.recipe.model.here.model_copy(update={"path": str(path), "revision": None})


def prompts_to_learn_from(recipe: Recipe) -> Prompts:
    """The questions that ``recipe`` learns from, with gold answers where it learns from these as well.

    Raises ``InputError``, which names the rewards where it is for them that gold answers are wanted.
    """
    try:
        return open_prompts(recipe.prompts, with_gold=recipe.needs_labels, learned_from=True)
    except GoldAnswerError as error:
        readers = " and ".join(recipe.label_readers)
        raise InputError(
            f"recipe {recipe.recipe} learns from gold answers ({readers}): {error}; `rlsf recipes` lists the"
            " recipes that need none"
        ) from error


def count_shared(questions: Sequence[Prompt], prompts: Iterable[Prompt]) -> int:
    """How many of the questions are among the prompts too, told by their text and options."""
    asked = Counter((question.question, question.choices) for question in questions)
    shared = {key for prompt in prompts if (key := (prompt.question, prompt.choices)) in asked} if asked else ()
    return sum(asked[key] for key in shared)


def require_sampled_prompts(sampled: Manifest, run: Run) -> None:
    """Raise ``InputError`` unless the traces of a stage are those of the run's prompts, in their order."""
    if sampled.inputs["prompts"] != prompts_digest(run.prompts):
        raise InputError(
            f"the prompts of {run.recipe.prompts.path or run.recipe.prompts.preset} are no longer those that the traces"
            f" in {run.folder.path} were sampled from: put them back as they were, or sample again into another folder"
        )


def _engine_inputs(model: ModelConfig, recipe: Recipe) -> dict[str, Any]:
    """What of a server or of vLLM decides its traces; where it is and how it is run does not."""
    if model.server is not None:
        return {"server": model.server.model_dump(mode="json", include={"model", "prompts", "logprobs"})}
    if model.engine == "vllm":
        decisive = model.vllm.model_dump(mode="json", include={"max_model_len", "engine_arguments"})
        return {"vllm": {**decisive, "rescored": is_rescored(model, recipe)}}
    return {}


def sampling_inputs(
    run: Run, model: ModelConfig, prompts: Sequence[Prompt], seed: int, sampling: SamplingConfig
) -> dict[str, Any]:
    """Everything that decides the traces of a stage, as its manifest records it."""
    recipe = run.recipe.model_dump(mode="json")
    return {
        "model": {"fingerprint": model_fingerprint(model), "dtype": model.dtype, **_engine_inputs(model, run.recipe)},
        "prompts": prompts_digest(prompts),
        "render": recipe["render"],
        "sampling": sampling.model_dump(mode="json", exclude={"workers", "batch_tokens"}),
        "answer": recipe["answer"],
        "seed": seed,
    }
