"""A recipe: a published method as data, every default written out."""

from __future__ import annotations

from typing import Literal

from rlsf.answers.config import AnswerConfig
from rlsf.config import Section
from rlsf.evaluation.config import EvaluationConfig
from rlsf.preferences.config import RankingConfig
from rlsf.prompts.config import PromptConfig, RenderConfig
from rlsf.sampling.config import SamplingConfig
from rlsf.training.config import TrainingConfig


class ModelConfig(Section):
    """The policy to start from: any causal language model that transformers loads."""

    path: str | None = None
    """A local folder or hub id."""
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: float32 on CPU, else the precision the weights were saved in."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    trust_remote_code: bool = False
    """Run model code from the model's own repository; off unless you asked for it."""


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
