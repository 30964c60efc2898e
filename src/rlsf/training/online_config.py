"""How a policy learns online: from rewards of completions that it has just sampled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlsf.config import Section
from rlsf.rewards.config import RewardsConfig
from rlsf.training.config import LoraSection
from rlsf.training.guard_config import GuardConfig
from rlsf.training.warm_up_config import WarmUpConfig


class NftSection(Section):
    """What NFT (arXiv 2505.18116) leaves open; the defaults are the paper's."""

    weight: Literal["one", "one_minus_p", "root_odds"] = "one_minus_p"
    """Weight of a prompt by its pass rate p: 1, 1 - p, or sqrt((1 - p) / p)."""
    eps: float = Field(default=1.0, gt=0, le=1)
    """Floor of the implicit negative policy's likelihood ratio."""
    negative_weight: float = Field(default=1.0, ge=0)
    """Weight of wrong completions; 0 is rejection fine-tuning."""


class OnlineConfig(Section):
    """Online training by TRL: completions of the policy as it is, rewards, an update, and again.

    Terms are TRL's. Nothing that matters is left to TRL's defaults, which change from release to release. Under
    ``torchrun`` the processes share a step's completions, each whole groups; which settings then learn something else
    is said at ``rlsf.training.train_online``.
    """

    algorithm: Literal["grpo", "rloo", "nft"] = "grpo"
    """GRPO (arXiv 2402.03300), RLOO (arXiv 2402.14740), or NFT (arXiv 2505.18116)."""
    rewards: RewardsConfig = RewardsConfig()
    prompts_per_step: int = Field(default=16, ge=1)
    """Prompts per optimiser step, each with ``num_generations`` completions."""
    num_generations: int = Field(default=8, ge=2)
    """Completions of a prompt, among which rewards are compared (G)."""
    device_batch_size: int | None = Field(default=None, ge=1)
    """Completions per forward and backward pass; gradients accumulate up to a step. None: all of a step's."""
    steps_per_rollout: int = Field(default=1, ge=1)
    """Optimiser steps over which one batch of rollouts is spread; more than one trains on older completions."""
    num_iterations: int = Field(default=1, ge=1)
    """Times that each completion is trained on."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of the log-probabilities in the objective."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_completion_length: int = Field(default=256, ge=1)
    """Token budget of a completion."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion."""
    mask_truncated_completions: bool = False
    """Leave completions cut at the budget out of the update."""
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "grpo"
    """How GRPO averages over tokens: per completion (``grpo``), over the tokens of a pass (``bnpo``) or of a step
    (``dapo``), or over a constant (``dr_grpo``)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of rewards (with n - 1, plus 1e-4) in the group or batch, or not."""
    epsilon: float = Field(default=0.2, gt=0)
    """Clipping of likelihood ratios, which differ from 1 only where completions are reused."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the model at the start (k3 in GRPO's loss, k1 in RLOO's reward)."""
    nft: NftSection = NftSection()
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Peak learning rate. ``auto``: by the number of weights, as for preferences."""
    lr_scheduler_type: Literal["constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Part of the steps over which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the prompts."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; overrides ``epochs``."""
    save_every: int = Field(default=20, ge=1)
    """Optimiser steps between checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1)] | Literal["all"] = 2
    """How many of the last checkpoints stay; that of the step to keep stays besides. ``all``: every one."""
    lora: LoraSection | None = None
    """None trains all weights."""
    warm_up: WarmUpConfig = WarmUpConfig()
    """Teach the form that the rewards look for before rewards are learned from."""
    guard: GuardConfig = GuardConfig()
    """Notice collapse without labels, stop, and keep the best checkpoint."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Options passed untouched to TRL's GRPOConfig or RLOOConfig; they win over everything above."""

    @property
    def completions_per_step(self) -> int:
        """Completions per optimiser step."""
        return self.prompts_per_step * self.num_generations

    def optimiser_steps(self, prompts: int) -> int:
        """Optimiser steps over so many prompts, the trainer options aside."""
        if self.max_steps is not None:
            return self.max_steps
        rollouts = prompts // (self.prompts_per_step * self.steps_per_rollout)
        return int(self.epochs * rollouts * self.steps_per_rollout * self.num_iterations)

    @model_validator(mode="after")
    def _batches_divide(self) -> OnlineConfig:
        if self.device_batch_size is not None and (
            self.completions_per_step % self.device_batch_size
            or (self.device_batch_size * self.accumulation * self.steps_per_rollout) % self.num_generations
        ):
            raise ValueError(
                f"online.device_batch_size={self.device_batch_size} does not divide the {self.completions_per_step}"
                " completions of a step (online.prompts_per_step x online.num_generations): choose a divisor"
            )
        return self

    @property
    def accumulation(self) -> int:
        """Forward passes per optimiser step, in one process."""
        return self.completions_per_step // (self.device_batch_size or self.completions_per_step)

    @model_validator(mode="after")
    def _whole_rollouts(self) -> OnlineConfig:
        """A resumed run cannot go on inside a batch of rollouts: it is not saved."""
        every = self.steps_per_rollout * self.num_iterations
        for name, steps in (("save_every", self.save_every), ("guard.every", self.guard.every)):
            if steps % every:
                raise ValueError(
                    f"online.{name}={steps} is not a multiple of the {every} steps for which completions are used"
                    " (online.steps_per_rollout x online.num_iterations): checkpoints fall between batches of rollouts"
                )
        return self

    @model_validator(mode="after")
    def _form_to_teach(self) -> OnlineConfig:
        forms = (self.rewards.brier_calibration, self.rewards.self_verification)
        if self.warm_up.steps and not any(forms):
            raise ValueError(
                f"online.warm_up.steps={self.warm_up.steps} teaches a form, which only the rewards brier_calibration"
                " and self_verification look for: leave it at 0"
            )
        return self

    @model_validator(mode="after")
    def _ends_are_seen(self) -> OnlineConfig:
        if self.stop and self.mask_truncated_completions:
            raise ValueError(
                "online.mask_truncated_completions would leave out completions that online.stop ended, too: TRL goes by"
                " the end-of-sequence token; set one of the two"
            )
        return self

    @model_validator(mode="after")
    def _known_trainer_options(self) -> OnlineConfig:
        if self.trainer:
            # TRL takes seconds to import; a misspelt option would otherwise be met after the first evaluation.
            from rlsf.training.online_options import check_options

            check_options(self)
        return self
