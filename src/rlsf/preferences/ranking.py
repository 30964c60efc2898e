"""From the traces of many prompts and their confidences to a table of preference pairs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from rlsf.errors import InputError
from rlsf.preferences.candidates import Candidate, candidates
from rlsf.preferences.config import RankingConfig
from rlsf.preferences.pairs import Pair, pairs
from rlsf.preferences.random_order import dealt_anew
from rlsf.preferences.report import RankingReport
from rlsf.preferences.table import pairs_to_table
from rlsf.traces import Trace


def rank(
    traces_by_prompt: Iterable[Sequence[Trace]],
    confidences: Iterable[Sequence[float | None]],
    config: RankingConfig,
    prompt_texts: Mapping[str, str],
    seed: int = 0,
) -> tuple[pa.Table, RankingReport]:
    """Preference pairs in TRL's format (``PREFERENCE_SCHEMA``) and the report of how they came about.

    ``confidences`` parallels ``traces_by_prompt``: one number in [0, 1] a trace, None where the signal has none.
    ``prompt_texts`` maps prompt ids to the rendered prompts; ``seed`` is that of a random order. Neither the order of a
    prompt's traces nor that of the prompts changes a pair. Raises ``InputError`` for a prompt id that comes twice, and
    as ``candidates`` does.
    """
    found: list[Pair] = []
    report = RankingReport()
    seen: set[str] = set()
    for traces, values in zip(traces_by_prompt, confidences, strict=True):
        _check_group(traces, seen)
        pairs_of_prompt, report_of_prompt = rank_prompt(traces, values, config, seed)
        found += pairs_of_prompt
        report += report_of_prompt
    return pairs_to_table(found, prompt_texts, config), report


def rank_prompt(
    traces: Sequence[Trace], confidences: Sequence[float | None], config: RankingConfig, seed: int = 0
) -> tuple[list[Pair], RankingReport]:
    """The pairs of one prompt, largest gap first, and its report."""
    ranked, duplicates = candidates(traces, confidences, config)
    if config.order == "random":
        ranked = dealt_anew(ranked, seed)
    found = pairs(ranked, config)
    reason = {} if found else {"prompts_without_pairs": 1, _reason(ranked, config): 1}
    report = RankingReport(
        prompts=1,
        traces=len(traces),
        without_answer=sum(trace.answer is None for trace in traces),
        without_confidence=sum(
            trace.answer is not None and confidence is None
            for trace, confidence in zip(traces, confidences, strict=True)
        ),
        truncated=sum(trace.truncated for trace in traces),
        duplicates=duplicates,
        ties=_ties(ranked),
        pairs=len(found),
        mean_gap=sum(pair.gap for pair in found) / len(found) if found else None,
        **reason,
    )
    return found, report


def _reason(ranked: Sequence[Candidate], config: RankingConfig) -> str:
    """Why a prompt has no pair, as a field of the report."""
    if len(ranked) < 2 or all(candidate.rejected_only for candidate in ranked):
        return "too_few_traces"
    best = max(candidate.confidence for candidate in ranked if not candidate.rejected_only)
    return "below_threshold" if best < config.threshold else "undecided"


def _ties(ranked: Sequence[Candidate]) -> int:
    counts = Counter(candidate.confidence for candidate in ranked)
    return sum(count * (count - 1) // 2 for count in counts.values())


def _check_group(traces: Sequence[Trace], seen: set[str]) -> None:
    ids = {trace.prompt_id for trace in traces}
    if len(ids) > 1:
        raise ValueError(f"traces of several prompts ranked together: {', '.join(sorted(ids))}")
    repeated = ids & seen
    if repeated:
        raise InputError(f"prompt {repeated.pop()!r} comes twice: give all traces of a prompt together")
    indices = [trace.index for trace in traces]
    if any(first == second for first, second in itertools.pairwise(sorted(indices))):
        raise InputError(f"two traces of prompt {traces[0].prompt_id!r} have the same index: trace ids must be unique")
    seen |= ids
