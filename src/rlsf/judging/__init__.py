"""A policy judges its own samples: P(True) of their reasoning and of their answers (CORE-PO, arXiv 2505.17454).

Light at import: torch and transformers load with the first use of ``Judge``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlsf.judging.config import JudgeConfig
from rlsf.judging.judgement import Case, Judgement
from rlsf.judging.statements import statements

if TYPE_CHECKING:
    from rlsf.judging.judge import Judge

__all__ = ["Case", "Judge", "JudgeConfig", "Judgement", "statements"]


def __getattr__(name: str) -> Any:
    if name != "Judge":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rlsf.judging.judge import Judge

    return Judge
