"""The offline HTML report, the terminal table and the model card of a run."""

from rlsf.report.calibrated import calibration_note
from rlsf.report.choice import choose_questions
from rlsf.report.comparison import MODE_NAMES
from rlsf.report.html import render_report
from rlsf.report.inputs import (
    BranchSet,
    BranchView,
    CheckpointChoice,
    DialogueCounts,
    QuestionView,
    RankingCounts,
    ReportInputs,
    RolloutCounts,
)
from rlsf.report.model_card import model_card
from rlsf.report.table import TABLE_WIDTH, summary_table

__all__ = [
    "MODE_NAMES",
    "TABLE_WIDTH",
    "BranchSet",
    "BranchView",
    "CheckpointChoice",
    "DialogueCounts",
    "QuestionView",
    "RankingCounts",
    "ReportInputs",
    "RolloutCounts",
    "calibration_note",
    "choose_questions",
    "model_card",
    "render_report",
    "summary_table",
]
