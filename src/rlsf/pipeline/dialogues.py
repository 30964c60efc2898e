"""Dialogues of a policy with itself: how a turn is asked for, and the turns of a whole dialogue at inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rlsf.confidence import get_signal
from rlsf.evaluation import Turns
from rlsf.files import digest
from rlsf.introspection.config import IntrospectionConfig
from rlsf.introspection.dialogue import next_turn
from rlsf.models import configured_context_length, load_model_config
from rlsf.models.config import ModelConfig
from rlsf.pipeline.context import Run
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.pipeline.waves import most_tokens
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace


def introspection_config(run: Run) -> IntrospectionConfig:
    """The section ``introspection``, which this run has."""
    assert run.recipe.introspection is not None
    return run.recipe.introspection


def turn_sampling(sampling: SamplingConfig, introspection: IntrospectionConfig, samples: int) -> SamplingConfig:
    """How so many attempts of a turn are sampled, ``sampling`` being the recipe's."""
    update = {"strategy": "sampling", "branches": samples, "temperature": introspection.temperature}
    return sampling.model_copy(update=update)


def most_of_dialogue(recipe: Recipe) -> int:
    """The most tokens that the attempts of a dialogue can have."""
    assert recipe.introspection is not None
    return most_tokens(recipe, recipe.sampling, traces=sum(recipe.introspection.samples))


#: From a prompt and the answers given so far to what the policy sees in the next turn.
Asker = Callable[[Prompt, Sequence[str]], Prompt]


def asker(run: Run, model: ModelConfig) -> Asker:
    """How dialogues of introspection go on, within the context of ``model``."""
    introspection = introspection_config(run)
    return dialogue_asker(run, model, introspection.feedback, introspection.window)


def dialogue_asker(run: Run, model: ModelConfig, feedback: str, window: int) -> Asker:
    """How dialogues with these words after every answer go on, within the context of ``model``."""
    context, room = configured_context_length(load_model_config(model)), run.recipe.sampling.max_new_tokens

    def fits(prompt: Prompt) -> bool:
        return context is None or len(render(prompt, run.tokenizer, run.recipe.render).token_ids) + room <= context

    return lambda prompt, answers: next_turn(prompt, answers, feedback, window, fits)


@dataclass(frozen=True, slots=True)
class Dialogues:
    """The turns of every evaluation question, and what identifies them."""

    traces: dict[str, list[Trace]]
    digest: str

    def of(self, run: Run, question: Prompt) -> Turns:
        """The turns of one question, with the signal's confidences."""
        traces = self.traces[question.id]
        measured = confidences(traces, get_signal(run.recipe.signal), run.tokenizer)
        return Turns(traces, measured, weighted=introspection_config(run).vote == "confidence")


def evaluation_dialogues(run: Run, phase: str, model: ModelConfig) -> Dialogues:
    """Ask the evaluation questions for all turns, whatever is answered: nobody says when an answer is right."""
    introspection, ask = introspection_config(run), asker(run, model)
    folder, stages = run.folder.evaluation(phase) / "turns", []
    traces: dict[str, list[Trace]] = {question.id: [] for question in run.questions}
    for turn in range(1, introspection.turns + 1):
        asked = [ask(question, [trace.text for trace in traces[question.id]]) for question in run.questions]
        title, seed = f"evaluate {phase}, turn {turn}", derived_seed(run.recipe.seed, "turns", turn)
        place, sampling = folder / f"turn-{turn}", turn_sampling(run.recipe.sampling, introspection, 1)
        stages.append(sample_stage(run, title, model, asked, place, seed, sampling).digest)
        for (trace,) in read_traces(place):
            traces[trace.prompt_id].append(replace(trace, index=turn - 1))
    return Dialogues(traces, digest([stages, introspection.vote]))
