"""The loop at inference: attempts at the evaluation questions, accepted or tried again, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlsf.acceptance.figures import Tried, loop_figures
from rlsf.confidence import get_signal
from rlsf.evaluation import Grade, Retry
from rlsf.evaluation.modes import Verdicts, accepts
from rlsf.models.config import ModelConfig
from rlsf.pipeline.acceptance import require_acceptance
from rlsf.pipeline.attempts import acceptance_config, attempt_sampling, try_again
from rlsf.pipeline.context import Run
from rlsf.pipeline.judged import Scorer, confidence_scorer, model_scorer
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.prompts.prompt import Prompt
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace


@dataclass(frozen=True, slots=True)
class Retries:
    """The loops over all evaluation questions, by what scores them, and as many independent samples of each."""

    by: str
    loops: Mapping[str, Mapping[str, Retry]]
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    """Of the samples, by scorer and question."""
    samples: Mapping[str, Sequence[Trace]]

    def of(self, question: Prompt) -> Retry:
        """The loop of the recipe at one question."""
        return self.loops[self.by][question.id]

    def figures(self, run: Run, grade: Grade) -> dict[str, Any]:
        """``retry.json``: figures of every loop, the recipe's own under the name that ``by`` says."""
        config, signal = acceptance_config(run), get_signal(run.recipe.signal)
        verdicts = {one.id: Verdicts(one.gold or "", one.choices, grade) for one in run.questions}
        measured = {name: confidences(traces, signal, run.tokenizer) for name, traces in self.samples.items()}

        def tried(name: str, question: Prompt) -> Tried:
            return Tried(
                verdicts[question.id],
                self.loops[name][question.id],
                self.samples[question.id],
                self.scores[name][question.id],
                measured[question.id],
            )

        return {
            "questions": len(run.questions),
            "rounds": config.rounds,
            "retry": config.retry,
            "by": self.by,
            "loops": {
                name: loop_figures(
                    [tried(name, question) for question in run.questions],
                    rounds=config.rounds,
                    resamples=run.recipe.evaluation.bootstrap,
                    seed=run.recipe.seed,
                    model_reads=name == "model",
                )
                for name in self.loops
            },
        }


def retry_inputs(run: Run) -> dict[str, Any]:
    """What decides the loops of an evaluation, beside its model and questions, as a manifest records it."""
    stage, _ = require_acceptance(run)
    return {"acceptance": stage.digest, "abstain": acceptance_config(run).abstain}


def evaluation_retries(run: Run, phase: str, model: ModelConfig) -> Retries:
    """Attempt the evaluation questions in every loop: the recipe's, and that of the signal's confidence.

    Independent retries are samples drawn beforehand, of which the loop makes as many as it needs. In dialogues every
    loop goes its own way from the same first attempt.
    """
    (_, found), config = require_acceptance(run), acceptance_config(run)
    use, folder = f"evaluate {phase}, attempts", run.folder.evaluation(phase)
    place, seed = folder / "attempts", derived_seed(run.recipe.seed, "attempts")
    sample_stage(run, use, model, run.questions, place, seed, attempt_sampling(run, config.rounds))
    samples = {traces[0].prompt_id: traces for traces in read_traces(place)}
    loops, scores = {}, {}
    for name, measured in found["scores"].items():
        scorer = model_scorer(run) if name == "model" else confidence_scorer(run)
        threshold: float = measured["threshold"]
        tried = samples
        if config.retry == "dialogue":
            tried, _ = try_again(
                run,
                model,
                f"evaluate {phase}, by {name}",
                folder / "dialogues" / name,
                {question.id: (question, samples[question.id][0]) for question in run.questions},
                lambda asked, traces, s=scorer, t=threshold: [not accepts(score, t) for score in s(asked, traces)],
            )
        scores[name] = _scored(scorer, run.questions, samples)
        of_attempts = scores[name] if tried is samples else _scored(scorer, run.questions, tried)
        loops[name] = {
            question.id: Retry(tried[question.id], of_attempts[question.id], threshold, config.abstain)
            for question in run.questions
        }
    return Retries(config.by, loops, scores, samples)


def _scored(
    scorer: Scorer, questions: Sequence[Prompt], attempts: Mapping[str, Sequence[Trace]]
) -> dict[str, list[float]]:
    """The scores of all attempts at each question."""
    asked = [(question, trace) for question in questions for trace in attempts[question.id]]
    scores = iter(scorer([question for question, _ in asked], [trace for _, trace in asked]))
    return {question.id: [next(scores) for _ in attempts[question.id]] for question in questions}
