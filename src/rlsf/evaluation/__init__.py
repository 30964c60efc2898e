"""Accuracy, calibration, selective prediction and their intervals. Pure functions: no model, no I/O."""

from rlsf.evaluation.agreement import agreement
from rlsf.evaluation.bootstrap import bootstrap, percentile_interval, probability_of_improvement, resample_counts
from rlsf.evaluation.calibration import (
    brier,
    ece,
    ece_equal_mass,
    ece_if_calibrated,
    histogram,
    log_loss,
    reliability,
    wilson_interval,
)
from rlsf.evaluation.config import EvaluationConfig, Mode
from rlsf.evaluation.metrics import Metrics, Sample
from rlsf.evaluation.modes import Grade, Retry, Turns, judge_question
from rlsf.evaluation.outcomes import OUTCOME_SCHEMA, Outcome, outcomes_to_table, table_to_outcomes
from rlsf.evaluation.schema import Difference, ModeSummary, Summary
from rlsf.evaluation.selective import accuracy_at_coverage, aurc, auroc, excess_aurc, risk_coverage
from rlsf.evaluation.summary import summarise
from rlsf.evaluation.turns import TurnVerdicts, judge_turns, summarise_turns

__all__ = [
    "OUTCOME_SCHEMA",
    "Difference",
    "EvaluationConfig",
    "Grade",
    "Metrics",
    "Mode",
    "ModeSummary",
    "Outcome",
    "Retry",
    "Sample",
    "Summary",
    "TurnVerdicts",
    "Turns",
    "accuracy_at_coverage",
    "agreement",
    "aurc",
    "auroc",
    "bootstrap",
    "brier",
    "ece",
    "ece_equal_mass",
    "ece_if_calibrated",
    "excess_aurc",
    "histogram",
    "judge_question",
    "judge_turns",
    "log_loss",
    "outcomes_to_table",
    "percentile_interval",
    "probability_of_improvement",
    "reliability",
    "resample_counts",
    "risk_coverage",
    "summarise",
    "summarise_turns",
    "table_to_outcomes",
    "wilson_interval",
]
