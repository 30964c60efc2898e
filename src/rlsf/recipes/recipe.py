"""A recipe: a published method as data, every default written out."""

from __future__ import annotations

from pydantic import model_validator

from rlsf.answers.config import AnswerConfig
from rlsf.config import Section
from rlsf.evaluation.config import EvaluationConfig
from rlsf.models.config import ModelConfig
from rlsf.preferences.config import RankingConfig
from rlsf.prompts.config import PromptConfig, RenderConfig
from rlsf.sampling.config import SamplingConfig
from rlsf.training.config import LoraSection, SelectionConfig, TrainingConfig
from rlsf.training.online_config import OnlineConfig


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
    """How preferences become a policy; not used where ``online`` is set."""
    online: OnlineConfig | None = None
    """How the policy learns online, from rewards of completions that it has just sampled; none: from preferences."""
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = 0

    @property
    def needs_labels(self) -> bool:
        """Whether gold answers are learned from."""
        return self.online is not None and bool(self.online.rewards.needing_labels)

    @property
    def lora(self) -> LoraSection | None:
        """The adapters that are trained, None for all weights."""
        return (self.online or self.training).lora

    @property
    def selection(self) -> SelectionConfig:
        """What chooses the checkpoint."""
        return self.training.selection if self.online is None else self.online.guard

    @property
    def rounds(self) -> int:
        """Rounds of sampling, ranking and training; one where the policy samples while it learns."""
        return self.training.rounds if self.online is None else 1

    @model_validator(mode="after")
    def _answers_can_be_read(self) -> Recipe:
        if self.online is not None and self.answer.format == "elicited":
            raise ValueError(
                "answer.format=elicited asks the model to write on, which rewards of online training cannot: choose"
                " another format"
            )
        return self
