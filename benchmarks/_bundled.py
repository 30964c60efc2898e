"""What benchmarks of training share: a small model, as a rule the bundled one, that answers generated questions."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.answers import TokenText, find_answer
from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import Problem
from rlsf.models import ModelConfig
from rlsf.prompts import render
from rlsf.recipes import Recipe
from rlsf.sampling import SamplingConfig, SamplingRequest, TransformersEngine
from rlsf.traces import Trace

GREEDY = SamplingConfig(branches=1, max_new_tokens=96)


def on_cpu(folder: Path = MODEL_DIR) -> ModelConfig:
    """A model on the processor in full precision, where the same training gives the same weights every time."""
    return ModelConfig(path=str(folder), device="cpu", dtype="float32")


class Policy:
    """A model with its tokenizer, asked for answers."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
        self._engine = TransformersEngine(model, tokenizer)
        self._tokenizer = tokenizer
        self._recipe = recipe

    def traces(self, problems: Sequence[Problem], sampling: SamplingConfig) -> Iterator[list[Trace]]:
        """The answered traces of each problem."""
        requests = [
            SamplingRequest(
                problem.id, render(problem.prompt.without_gold(), self._tokenizer, self._recipe.render).token_ids
            )
            for problem in problems
        ]
        for problem, group in zip(problems, self._engine.sample(requests, sampling), strict=True):
            findings = [
                find_answer(TokenText.from_ids(self._tokenizer, trace.token_ids), self._recipe.answer, problem.choices)
                for trace in group
            ]
            yield [trace.with_answer(found.answer, found.failure) for trace, found in zip(group, findings, strict=True)]

    def greedy(self, problems: Sequence[Problem]) -> tuple[list[str | None], float]:
        """The greedy answers and their mean length in tokens."""
        traces = [group[0] for group in self.traces(problems, GREEDY)]
        answers = [trace.answer.text if trace.answer else None for trace in traces]
        return answers, statistics.fmean(len(trace.token_ids) for trace in traces)
