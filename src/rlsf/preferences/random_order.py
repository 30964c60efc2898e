"""A ranking by chance: what preferences are worth whose order means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlsf.files import digest
from rlsf.preferences.candidates import Candidate


def dealt_anew(ranked: Sequence[Candidate], seed: int) -> list[Candidate]:
    """The candidates of one prompt with their confidences dealt out anew, surest first.

    Those that may be chosen are put in a random order, and the j-th of them gets the j-th largest of their confidences;
    rejected-only candidates keep theirs. As the confidences of a prompt stay what they are, any rule makes as many
    pairs, with the same gaps, as of ``ranked``, but for rules that look at answers. The order depends on ``seed``, the
    prompt's id and the tokens of each trace: not on confidences, on the order of the traces, or on other prompts.
    """
    chosen, rejected = [[one for one in ranked if one.rejected_only is kind] for kind in (False, True)]
    by_chance = sorted(chosen, key=lambda one: digest([seed, one.trace.prompt_id, list(map(int, one.trace.token_ids))]))
    values = sorted((candidate.confidence for candidate in chosen), reverse=True)
    dealt = [replace(candidate, confidence=value) for candidate, value in zip(by_chance, values, strict=True)]
    # The sort keeps the random order of equal confidences.
    return sorted([*dealt, *rejected], key=lambda candidate: -candidate.confidence)
