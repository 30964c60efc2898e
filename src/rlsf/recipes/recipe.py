"""A recipe: a published method as data, every default written out."""

from __future__ import annotations

from rlsf.answers.config import AnswerConfig
from rlsf.config import Section
from rlsf.evaluation.config import EvaluationConfig
from rlsf.models.config import ModelConfig
from rlsf.preferences.config import RankingConfig
from rlsf.prompts.config import PromptConfig, RenderConfig
from rlsf.sampling.config import SamplingConfig
from rlsf.training.config import TrainingConfig


class Recipe(Section):
    """Everything a run depends on: what is sampled, how confidence becomes a signal, what consumes it."""

    recipe: str = "rlsf"
    """The name of the published method."""
    model: ModelConfig = ModelConfig()
    prompts: PromptConfig = PromptConfig()
    """Unlabelled questions to learn from."""
    evaluation_data: PromptConfig | None = None
    """Labelled questions to measure on; none: no evaluation."""
    render: RenderConfig = RenderConfig()
    sampling: SamplingConfig = SamplingConfig()
    answer: AnswerConfig = AnswerConfig()
    signal: str = "answer_disparity"
    """The confidence signal that ranks traces and is evaluated for calibration."""
    ranking: RankingConfig = RankingConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = 0
