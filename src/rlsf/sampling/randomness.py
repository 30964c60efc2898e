"""Random numbers that belong to a trace, not to a batch."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from rlsf.files import digest


def trace_uniforms(seed: int, prompt_id: str, index: int, count: int) -> NDArray[np.float64]:
    """The first ``count`` uniforms in [0, 1) of trace ``index`` of a prompt, one for each of its tokens.

    A counter-based generator (Philox) keyed by SHA-256 of (seed, prompt id, index): number t of a trace is the
    same whatever is sampled beside it, in whatever order, and however many numbers are asked for.
    """
    hashed = hashlib.sha256(f"{seed}\x1f{index}\x1f{prompt_id}".encode()).digest()
    key = int.from_bytes(hashed[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def derived_seed(seed: int, *names: object) -> int:
    """A seed of its own for each use: stages, rounds and training steps share no random numbers."""
    return int(digest([seed, *map(str, names)])[:8], 16)
