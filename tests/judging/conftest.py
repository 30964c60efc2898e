"""A tiny model whose vocabulary holds the words of a verdict, and cases for it to judge."""

from __future__ import annotations

import sys
from pathlib import Path

# Tiny models of many architectures stand beside the tests of ``rlsf.scoring``.
sys.path.append(str(Path(__file__).parents[1] / "scoring"))
