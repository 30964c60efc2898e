"""Ranked preference pairs from traces and their confidences."""

from rlsf.preferences.config import RankingConfig
from rlsf.preferences.ranking import rank, rank_prompt
from rlsf.preferences.report import RankingReport
from rlsf.preferences.table import PREFERENCE_SCHEMA

__all__ = ["PREFERENCE_SCHEMA", "RankingConfig", "RankingReport", "rank", "rank_prompt"]
