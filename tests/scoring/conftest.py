from __future__ import annotations

import sys
from pathlib import Path

# The float64 definitions of the statistics stand beside the tests of ``rlsf.tokenstats``.
sys.path.append(str(Path(__file__).parents[1] / "tokenstats"))
