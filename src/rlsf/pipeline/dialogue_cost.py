"""What a whole run that learns from dialogues would take, extrapolated from first attempts that were tried."""

from __future__ import annotations

from rlsf.introspection.config import IntrospectionConfig
from rlsf.pipeline.cost import FORWARD_AND_BACKWARD, Cost, DialogueCost, Trial, questions_in_full, row_seconds
from rlsf.pipeline.dialogue_probe import turns_of_probe
from rlsf.pipeline.learning_tokens import LearningTokens, probe_answers
from rlsf.pipeline.probe import held_out_count
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.pool import worker_count_for


def estimate_dialogue_cost(
    recipe: Recipe,
    introspection: IntrospectionConfig,
    prompts: int,
    questions: int,
    first: Trial,
    going_on: float,
    measuring: Trial,
) -> Cost:
    """A whole run at the rates of ``first`` attempts and, for what is measured and probed, ``measuring``.

    ``going_on`` is the share of dialogues that their first attempt does not end; none ends later on, so that attempts
    and examples are upper bounds. A later attempt takes as long as a first one; as an example it is longer by the
    answers that it sees, each with its question, and counts as so many rows more.
    """
    training, rounds = introspection.training, introspection.rounds
    workers = worker_count_for(recipe.model, recipe.sampling.workers)
    dialogues = prompts - (kept_out := held_out_count(training.selection, prompts))
    later = introspection.samples[1:]
    learned = introspection.samples if introspection.attempts == "all" else (1,) * len(introspection.samples)
    attempts = introspection.samples[0] + going_on * sum(later)
    of_one = learned[0] + going_on * sum(learned[1:])
    examples = round(dialogues * of_one)
    longer = (one * (1 + min(turn, introspection.window)) for turn, one in enumerate(learned[1:], 1))
    mean_rows = (learned[0] + going_on * sum(longer)) / of_one
    steps, read = training.optimiser_steps(examples) if examples else 0, training.rows_read(examples) * mean_rows
    asked = 2 * questions_in_full(recipe, questions) + rounds * kept_out
    turns = 2 * questions * introspection.turns if "turns" in recipe.evaluation.modes else 0
    tried = introspection.samples[0] * first.prompts
    one = first.tokens / tried
    of_question = measuring.tokens / measuring.prompts
    of_probe = introspection.samples[0] * one if introspection.reward == "majority" else of_question
    probed = probe_answers(training.selection, steps, kept_out) * turns_of_probe(introspection)
    return Cost(
        prompts=prompts,
        questions=questions,
        traces=round(asked * recipe.sampling.branches) + turns,
        tokens=round(of_question * asked + one * turns),
        sampling_seconds=(
            measuring.sampling_seconds / measuring.prompts * asked + first.sampling_seconds / tried * turns
        )
        / workers,
        workers=workers,
        pairs=0,
        optimiser_steps=rounds * steps,
        training_seconds=rounds * FORWARD_AND_BACKWARD * read * row_seconds(first),
        dialogues=DialogueCost(
            dialogues=rounds * dialogues,
            attempts=rounds * round(dialogues * attempts),
            tokens=round(rounds * dialogues * attempts * one),
            sampling_seconds=rounds * dialogues * attempts * first.sampling_seconds / tried / workers,
            examples=rounds * examples,
        ),
        learning=LearningTokens.about(
            rounds * (dialogues * attempts * one + kept_out * of_probe + probed * one),
            rounds * read * first.mean_length,
        ),
    )
