"""A recipe: a published method as data, every default written out."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rlsf.acceptance.config import AcceptanceConfig
from rlsf.answers.config import AnswerConfig
from rlsf.config import Section
from rlsf.evaluation.config import EvaluationConfig
from rlsf.introspection.config import IntrospectionConfig
from rlsf.judging.config import JudgeConfig
from rlsf.models.config import ModelConfig
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.preferences.config import RankingConfig
from rlsf.prompts.config import PromptConfig, RenderConfig
from rlsf.sampling.config import SamplingConfig
from rlsf.training.budget_config import BudgetConfig
from rlsf.training.config import LoraSection, SelectionConfig, TrainingConfig
from rlsf.training.online_config import OnlineConfig
from rlsf.training.reward_model_config import RewardModelConfig
from rlsf.training.weighted_sft_config import WeightedSftConfig


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
    judge: JudgeConfig | None = None
    """How the policy judges its own traces; their P(True) then ranks them in the place of ``signal``."""
    ranking: RankingConfig = RankingConfig()
    conditioning: LengthConditioningConfig | None = None
    """Comparisons of prompts that differ by a length limit, beside each ranked pair; none: the pairs alone."""
    training: TrainingConfig = TrainingConfig()
    """How preferences become a policy; not used where ``online`` is set."""
    reward_model: RewardModelConfig | None = None
    """A reward model that is trained on the ranked pairs, for ``online.rewards.reward_model`` to score by; without
    ``online`` nothing else is trained."""
    online: OnlineConfig | None = None
    """How the policy learns online, from rewards of completions that it has just sampled; none: from preferences."""
    introspection: IntrospectionConfig | None = None
    """How the policy learns from dialogues with itself, in the place of preferences; none: it does not."""
    acceptance: AcceptanceConfig | None = None
    """How attempts of the policy, which stays as it is, are accepted or tried again; none: the policy is trained."""
    evaluation: EvaluationConfig = EvaluationConfig()
    budget: BudgetConfig = BudgetConfig()
    """How many tokens learning may take; none: as many as the recipe asks for."""
    seed: int = 0

    @property
    def needs_labels(self) -> bool:
        """Whether gold answers are learned from."""
        return bool(self.label_readers)

    @property
    def label_readers(self) -> list[str]:
        """What in the recipe learns from gold answers, by its dotted key."""
        readers = [f"online.rewards.{name}" for name in self.online.rewards.needing_labels] if self.online else []
        if self.introspection is not None and self.introspection.reward == "gold":
            readers.append("introspection.reward=gold")
        if self.acceptance is not None and self.acceptance.labels == "gold":
            readers.append("acceptance.labels=gold")
        return readers

    @property
    def lora(self) -> LoraSection | None:
        """The adapters that are trained, None for all weights."""
        return self._trained.lora

    @property
    def _trained(self) -> TrainingConfig | OnlineConfig | WeightedSftConfig:
        """The section of the training that the recipe does."""
        if self.introspection is not None:
            return self.introspection.training
        return self.online or self.training

    @property
    def learning_rate(self) -> float | Literal["auto"]:
        """The peak learning rate asked for."""
        return self._trained.learning_rate

    @property
    def selection(self) -> SelectionConfig:
        """What chooses the checkpoint."""
        trained = self._trained
        return trained.guard if isinstance(trained, OnlineConfig) else trained.selection

    @property
    def rounds(self) -> int:
        """Rounds of sampling, ranking and training; one where the policy samples while it learns."""
        if self.introspection is not None:
            return self.introspection.rounds
        return self.training.rounds if self.online is None else 1

    @model_validator(mode="after")
    def _one_way_to_learn(self) -> Recipe:
        if self.introspection is not None and self.online is not None:
            raise ValueError("introspection and online are two ways to learn: set one of the two to null")
        if self.introspection is None and "turns" in self.evaluation.modes:
            raise ValueError("evaluation.modes: turns needs introspection, which says how they are asked for")
        return self

    @model_validator(mode="after")
    def _a_policy_that_stays_is_not_trained(self) -> Recipe:
        others = ("online", "introspection", "reward_model", "conditioning", "judge")
        taught = [name for name in others if getattr(self, name) is not None]
        if self.acceptance is not None and taught:
            raise ValueError(f"acceptance leaves the policy as it is: set {' and '.join(taught)} to null")
        if self.acceptance is None and "retry" in self.evaluation.modes:
            raise ValueError("evaluation.modes: retry needs acceptance, which says what is tried again")
        return self

    @model_validator(mode="after")
    def _answers_can_be_read(self) -> Recipe:
        if self.online is not None and self.answer.format == "elicited":
            raise ValueError(
                "answer.format=elicited asks the model to write on, which rewards of online training cannot: choose"
                " another format"
            )
        return self

    @model_validator(mode="after")
    def _margins_are_there(self) -> Recipe:
        if self.training.use_margin and self.ranking.margin == "none":
            raise ValueError(
                "training.use_margin has no effect with ranking.margin=none: set that to gap or exponential, or the"
                " former to false"
            )
        return self

    @model_validator(mode="after")
    def _conditioned_pairs_are_learned_from(self) -> Recipe:
        if self.conditioning is None:
            return self
        if self.reward_model is None and (self.online is not None or self.introspection is not None):
            raise ValueError("conditioning makes pairs that nothing learns from: set conditioning to null")
        if self.training.use_weight:
            raise ValueError(
                "training.use_weight weighs pairs by a gap in confidence, which comparisons of two prompts do not have:"
                " set it to false, or conditioning to null"
            )
        return self

    @model_validator(mode="after")
    def _reward_model_is_there_and_used(self) -> Recipe:
        chosen = self.online.rewards.reward_model if self.online else None
        if chosen is not None and chosen.path is None and self.reward_model is None:
            raise ValueError(
                "online.rewards.reward_model has no reward model to score by: set online.rewards.reward_model.path, or"
                " reward_model, which trains one"
            )
        if self.reward_model is not None and self.online is not None and (chosen is None or chosen.path is not None):
            raise ValueError(
                "reward_model trains a reward model that nothing scores by: set online.rewards.reward_model without a"
                " path, or reward_model to null"
            )
        return self
