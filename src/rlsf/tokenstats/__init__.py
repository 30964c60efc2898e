"""Per-token statistics of next-token distributions."""

from rlsf.tokenstats.statistics import STATISTIC_NAMES, TokenStatistics

__all__ = ["STATISTIC_NAMES", "TokenStatistics"]
