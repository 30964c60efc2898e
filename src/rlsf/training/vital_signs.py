"""Vital signs of a policy: label-free measures of its completions that tell learning from collapse.

==================  ==========================================================================  ==========
``entropy``         mean over all tokens of the entropy of the distribution sampled from          nats
``self_certainty``  mean over all tokens of KL(U || p_t) (arXiv 2505.19590)                       nats
``mean_tokens``     mean length of a completion                                                   tokens
``truncated``       share of completions cut at the token budget                                  [0, 1]
``repetition``      share of 4-grams that occurred before in the completion, mean                 [0, 1]
``without_answer``  share of completions without an answer                                        [0, 1]
``commonest_answer``  largest share of prompts whose most frequent answer is one and the same     [0, 1]
``group_agreement``  share of a prompt's completions that give its most frequent answer, mean     [0, 1]
==================  ==========================================================================  ==========

Distributions are those at temperature 1 (``rlsf.tokenstats.statistics``), whatever the temperature of sampling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from rlsf.answers.canonical import canonical
from rlsf.answers.voting import group_answers
from rlsf.errors import InputError
from rlsf.traces import Trace

#: Tokens in the runs that ``repetition`` looks for: long enough that common phrases of two words do not count.
REPEATED_RUN = 4


def vital_signs(traces: Sequence[Trace], answers: Sequence[str | None]) -> dict[str, float]:
    """The vital signs of completions with their answers; traces of one prompt are contiguous.

    Of several most frequent answers of a prompt the one given first counts. A completion without an answer counts in
    every denominator and agrees with none; so does a prompt without one. Raises ``InputError`` for no tokens, or where
    there is not one answer (or None) a trace.
    """
    if len(traces) != len(answers):
        raise InputError(f"{len(traces)} completions but {len(answers)} answers: give one or None a completion")
    tokens = sum(len(trace.token_ids) for trace in traces)
    if not tokens:
        raise InputError(f"{len(traces)} completions without a token have no vital signs: give some")
    count = len(traces)
    groups = [[answers[row] for row in run] for run in _runs(traces)]
    answered = [_most_frequent(group) for group in groups]
    return {
        "entropy": sum(float(trace.statistics.entropy.sum(dtype=np.float64)) for trace in traces) / tokens,
        "self_certainty": sum(float(trace.statistics.self_certainty.sum(dtype=np.float64)) for trace in traces)
        / tokens,
        "mean_tokens": tokens / count,
        "truncated": sum(trace.truncated for trace in traces) / count,
        "repetition": sum(repetition(trace.token_ids) for trace in traces) / count,
        "without_answer": sum(answer is None for answer in answers) / count,
        "commonest_answer": _largest_share([answer for answer, _ in answered]),
        "group_agreement": sum(share for _, share in answered) / len(groups),
    }


def repetition(token_ids: Sequence[int] | np.ndarray, run: int = REPEATED_RUN) -> float:
    """Share of the runs of ``run`` tokens that occurred before in the same completion, in [0, 1]; 0 for a short one.

    One less the share of distinct runs: 0 where no run comes twice, (n - run + 1 - d) / (n - run + 1) for n tokens of
    period d, which tends to 1.
    """
    runs = len(token_ids) - run + 1
    if runs <= 0:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(token_ids), run)
    return 1 - len(np.unique(windows, axis=0)) / runs


def _runs(traces: Sequence[Trace]) -> list[list[int]]:
    """The rows of each prompt."""
    return [list(run) for _, run in groupby(range(len(traces)), lambda row: traces[row].prompt_id)]


def _most_frequent(answers: Sequence[str | None]) -> tuple[str | None, float]:
    """A prompt's most frequent answer, canonical, and the share of its completions that give it."""
    members = max(group_answers(answers), key=len, default=[])
    first = answers[members[0]] if members else None
    return None if first is None else canonical(first), len(members) / len(answers)


def _largest_share(answers: Sequence[str | None]) -> float:
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts.values(), default=0) / len(answers)
