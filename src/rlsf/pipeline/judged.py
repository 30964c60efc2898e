"""What scores an attempt, in [0, 1]: the acceptance model of a run, or the signal's confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rlsf.confidence import get_signal
from rlsf.models import load_tokenizer
from rlsf.models.config import ModelConfig
from rlsf.models.facts import context_length
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.attempts import acceptance_config
from rlsf.pipeline.context import Run
from rlsf.pipeline.ranking import confidences
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.prompts.rendering import encode_plain
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The scores of attempts, one at each of the prompts; 0 without an answer, for there is nothing to accept.
Scorer = Callable[[Sequence[Prompt], Sequence[Trace]], list[float]]


def confidence_scores(run: Run, traces: Sequence[Trace]) -> list[float]:
    """The signal's confidence in each attempt; 0 where it has no answer, or no confidence in it."""
    measured = confidences(traces, get_signal(run.recipe.signal), run.tokenizer)
    return [
        0.0 if trace.answer is None or confidence is None else confidence
        for trace, confidence in zip(traces, measured, strict=True)
    ]


def confidence_scorer(run: Run) -> Scorer:
    """The acceptance that trains nothing."""
    return lambda prompts, traces: confidence_scores(run, traces)


def model_scorer(run: Run) -> Scorer:
    """The run's acceptance model, which is loaded."""
    model, reader = load_reward_model(own_acceptance_model(run)), AttemptReader(run)

    def scores(prompts: Sequence[Prompt], traces: Sequence[Trace]) -> list[float]:
        pairs = zip(prompts, traces, strict=True)
        return acceptance_scores(model, [reader(prompt, trace) if trace.answer else None for prompt, trace in pairs])

    return scores


def acceptance_scores(model: PreTrainedModel, read: Sequence[Sequence[int] | None]) -> list[float]:
    """d = s(z) of an acceptance model for what it reads; 0 for None, and for what its context has no room for."""
    from rlsf.scoring.reward_scores import reward_scores

    context = context_length(model)
    fits = [ids is not None and (context is None or len(ids) <= context) for ids in read]
    logits = iter(reward_scores(model, [ids for ids, one in zip(read, fits, strict=True) if ids is not None and one]))
    return [_logistic(next(logits)) if one else 0.0 for one in fits]


def _logistic(logit: float) -> float:
    """1 / (1 + exp(-z)), without overflow."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def base_model(run: Run) -> ModelConfig:
    """The model whose body the acceptance model starts from."""
    return acceptance_config(run).model or run.policy_config(1)


def own_acceptance_model(run: Run) -> ModelConfig:
    """The acceptance model that this run trains."""
    return base_model(run).model_copy(update={"path": str(run.folder.acceptance), "revision": None})


class AttemptReader:
    """What the acceptance model reads of an attempt: the question alone and the trace, no earlier attempts.

    The ids are those that were sampled where it has the policy's body, else what its own tokenizer makes of the texts.
    """

    def __init__(self, run: Run) -> None:
        other = acceptance_config(run).model
        self._own = other is None
        self._tokenizer: PreTrainedTokenizerBase = run.tokenizer if other is None else load_tokenizer(other)
        self._render = run.recipe.render

    def __call__(self, prompt: Prompt, trace: Trace) -> list[int]:
        """Token ids of the question and the attempt in one."""
        asked = render(prompt, self._tokenizer, self._render).token_ids
        if self._own:
            return [*asked, *map(int, trace.token_ids)]
        end: Any = self._tokenizer.eos_token_id
        ends = [] if trace.truncated or end is None else [end]
        return [*asked, *encode_plain(trace.text, self._tokenizer), *ends]
