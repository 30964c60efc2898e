"""Notices without labels that self-rewarded training has collapsed, stops it, and keeps the best checkpoint.

A reward of the policy's own making can be had without getting better: by narrowing to one completion, rambling,
repeating, giving one answer to everything (arXiv 2505.21444, 2506.17219). Each of these has a vital sign
(``rlsf.training.vital_signs``), which is compared with that of the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from rlsf.files import read_json, write_json
from rlsf.training.guard_config import GuardConfig
from rlsf.training.selection import Selection

GUARD_STATE = "guard.json"

#: Sign -> what is said where it stops training.
REASONS = {
    "entropy": "entropy is {value:.3g} nats a token, limit {limit:.3g}: hardly more than one completion is sampled",
    "mean_tokens": "mean_tokens is {value:.4g}, limit {limit:.4g}: length runs away and agreement falls",
    "truncated": "truncated is {value:.3f}, limit {limit:.3f}: completions no longer end",
    "repetition": "repetition is {value:.3f}, limit {limit:.3f}: completions repeat themselves",
    "without_answer": "without_answer is {value:.3f}, limit {limit:.3f}: completions no longer answer",
    "commonest_answer": "commonest_answer is {value:.3f}, limit {limit:.3f}: different prompts get the same answer",
    "zero_variance": "zero_variance is {value:.3f}, limit {limit:.3f}: equal rewards in every group teach nothing",
    "agreement": "agreement is {value:.3f}, limit {limit:.3f}: the policy departs from its earlier self",
    "confidence": "agreement is {value:.3f}, limit {limit:.3f}, and confidence rises: the policy grows surer of answers"
    " that its earlier self did not give",
}


#: Not judged in probes: greedy answers that have become worked solutions are of many near-certain tokens, and their
#: mean entropy falls by far more than a factor of ten while the policy still samples and learns.
OF_ROLLOUTS_ALONE = frozenset({"entropy"})


@dataclass(frozen=True)
class Alarm:
    """The sign that stopped training. ``observations`` are batches of rollouts in a row; 0: seen by a probe."""

    sign: str
    value: float
    limit: float
    step: int
    observations: int = 0

    def __str__(self) -> str:
        seen = f"in {self.observations} batches of rollouts in a row" if self.observations else "in a probe"
        reason = REASONS[self.sign].format(value=self.value, limit=self.limit)
        return f"stopped at step {self.step}: {reason} ({seen})"


@dataclass
class Guard(Selection):
    """Selection, and the alarms of ``GuardConfig``.

    ``add`` notes a probe, ``watch`` a batch of rollouts; ``stopped`` then tells whether to go on. A sign is past its
    limit when it reaches it. Signs that are missing or no numbers are not judged and change nothing.
    """

    table: ClassVar[str] = "online.guard"

    config: GuardConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    start: dict[str, float] = field(default_factory=dict)
    """The first value of each sign of the rollouts."""
    past_limit: dict[str, int] = field(default_factory=dict)
    """Sign -> for how many batches of rollouts in a row it has been past its limit."""
    watched: int = -1
    """The last step whose rollouts were watched."""
    alarm: Alarm | None = None

    @property
    def best(self) -> dict[str, float] | None:
        """The probe whose policy is kept: by ``keep: last`` the last one, as long as no alarm has rung."""
        if self.config.keep == "last" and self.alarm is None:
            return self.probes[-1] if self.probes else None
        return self.most_agreeing

    def due(self, step: int, last_step: int) -> bool:
        """Whether this step is probed: also the one at which training stops, which may be the best."""
        return self.stopped or super().due(step, last_step)

    def add(self, step: int, measured: Mapping[str, float]) -> bool:
        """Note a probe: ``agreement``, its vital signs, ``confidence`` and ``prompts`` (their number) where known.

        True where it is the best so far. Raises ``InputError`` without agreement.
        """
        best = self.most_agreeing
        improved = super().add(step, _numbers(measured))
        probe = self.probes[-1]
        if best is not None and self.alarm is None:
            alarms = [
                Alarm(sign, probe[sign], limit, step)
                for sign, limit in self._past(probe, self.probes[0]).items()
                if sign not in OF_ROLLOUTS_ALONE
            ]
            self.alarm = next(iter(alarms), None) or self._departure(best, probe, step)
        self.stopped = self.stopped or self.alarm is not None
        return improved

    def watch(self, step: int, signs: Mapping[str, float]) -> None:
        """Note the signs of a batch of rollouts at ``step`` (optimiser steps done); one batch a step counts.

        The vital signs, and ``zero_variance``: the share of groups whose rewards are all equal. The first batch is the
        start.
        """
        if self.stopped or step <= self.watched:
            return
        self.watched = step
        signs = _numbers(signs)
        self.start = {**signs, **self.start}
        past = self._past(signs, self.start)
        for sign in signs:
            self.past_limit[sign] = self.past_limit.get(sign, 0) + 1 if sign in past else 0
        for sign, limit in past.items():
            if self.past_limit[sign] >= self.config.persistence:
                self.alarm = Alarm(sign, signs[sign], limit, step, self.past_limit[sign])
                self.stopped = True
                return

    def explain(self) -> str:
        """Why training stopped, and which step is kept and why, in one line."""
        kept = super().explain()
        if self.alarm is None:
            return kept
        return f"{self.alarm}; {kept}" if not self.best_step else f"{self.alarm}; step {self.best_step} is kept: {kept}"

    def _choice(self) -> str:
        return "the last, kept since nothing was amiss," if self.best is not self.most_agreeing else super()._choice()

    def _ending(self) -> str:
        return super()._ending() if self.alarm is None else ""

    def _past(self, signs: Mapping[str, float], start: Mapping[str, float]) -> dict[str, float]:
        """The signs past a limit, and that limit."""
        past = {}
        for sign, (low, high) in _bounds(self.config, start).items():
            value = signs.get(sign, math.nan)
            if sign == "mean_tokens" and not self._agrees_less():
                continue
            if value <= low or value >= high:
                past[sign] = low if value <= low else high
        return past

    def _agrees_less(self) -> bool:
        """Whether the last probe agrees less than the start, noise aside; without probes nothing speaks against it."""
        if not self.probes:
            return True
        start, last = self.probes[0], self.probes[-1]
        return last["agreement"] < start["agreement"] - self._error(start["agreement"], last)

    def _departure(self, best: Mapping[str, float], probe: Mapping[str, float], step: int) -> Alarm | None:
        if self.config.agreement_drop is None:
            return None
        highest = best["agreement"]
        limit = highest - max(self.config.agreement_drop, 3 * self._error(highest, probe))
        if probe["agreement"] > limit:
            return None
        surer = probe.get("confidence", math.nan) > best.get("confidence", math.nan)
        return Alarm("confidence" if surer else "agreement", probe["agreement"], limit, step)

    def _error(self, agreement: float, probe: Mapping[str, float]) -> float:
        """Standard error of the difference of two probes, as if of different prompts: those of the same differ less."""
        return math.sqrt(2 * agreement * (1 - agreement) / probe.get("prompts", self.config.prompts))

    def save(self, folder: Path) -> None:
        """Write the state beside a checkpoint."""
        state = asdict(self)
        del state["config"]
        write_json(folder / GUARD_STATE, state)

    @classmethod
    def load(cls, config: GuardConfig, checkpoint: Path | None) -> Guard:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The state of a checkpoint, or a fresh one."""
        if checkpoint is None or not (checkpoint / GUARD_STATE).exists():
            return cls(config)
        state = read_json(checkpoint / GUARD_STATE)
        alarm = state.pop("alarm")
        return cls(config, **state, alarm=None if alarm is None else Alarm(**alarm))


def _numbers(measured: Mapping[str, float]) -> dict[str, float]:
    """Only what is a number: a reward of no completion is none, and JSON has no word for it."""
    return {name: float(value) for name, value in measured.items() if math.isfinite(value)}


def _bounds(config: GuardConfig, start: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Sign -> lower and upper limit, for what is known of the start."""
    bounds = {}
    if config.entropy_floor is not None and "entropy" in start:
        bounds["entropy"] = (config.entropy_floor * start["entropy"], math.inf)
    if config.length_limit is not None and "mean_tokens" in start:
        length = start["mean_tokens"]
        bounds["mean_tokens"] = (length / config.length_limit, length * config.length_limit)
    for sign in ("truncated", "repetition", "without_answer", "commonest_answer"):
        rise = getattr(config, f"{sign}_limit")
        if rise is not None and sign in start:
            bounds[sign] = (-math.inf, start[sign] + rise)
    if config.zero_variance_limit is not None:
        bounds["zero_variance"] = (-math.inf, config.zero_variance_limit)
    return bounds
