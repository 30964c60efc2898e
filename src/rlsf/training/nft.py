"""Negative-aware fine-tuning (NFT, arXiv 2505.18116) as the loss of TRL's GRPO trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlsf.errors import InputError
from rlsf.training.nft_objective import LARGEST_LOG_RATIO, NftOptions, group_pass_rates, teaches, token_losses

if TYPE_CHECKING:
    _Trainer = Any  # GRPOTrainer, or a subclass
else:
    _Trainer = object

#: How far a sum of rewards in float32 may be from 0 or 1.
_ROUNDING = 1e-4

_ON_POLICY = (
    "every rollout is used for one update ({settings}), and there NFT has the gradient of Dr. GRPO: reuse rollouts by"
    " more steps_per_generation (online.steps_per_rollout of a recipe) or num_iterations, train with GRPO, or pass"
    " allow_on_policy=True"
)


class NegativeAwareLoss(_Trainer):
    """Mix into ``GRPOTrainer``, to the left of it: groups, sampling and rewards are TRL's, the loss is NFT's.

    The verdict on a completion is the weighted sum of its rewards: 1, 0, or None (NaN) to leave the completion out.
    Token losses are those of ``nft_objective.token_losses``, summed and divided by rows x max_completion_length, as in
    TRL's ``dr_grpo``. Logs ``nft/pass_rate``, ``nft/kept`` (the share of rows in groups with right and wrong ones),
    ``nft/ratio_max`` and ``entropy``. The advantages, and with them ``loss_type`` and ``scale_rewards``, are not used.

    Raises ``InputError`` for rewards that are not binary, for settings that this loss does not have (KL, bonuses), and,
    unless ``allow_on_policy``, where no rollout is used for more than one update. Text only.
    """

    def __init__(self, *args: Any, nft: NftOptions | None = None, allow_on_policy: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.nft = nft or NftOptions()
        _refuse_foreign_terms(self)
        if not allow_on_policy:
            _refuse_fresh_rollouts(self.args)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards = super()._calculate_rewards(*args, **kwargs)
        self._verdicts = self._verdicts_of(rewards)
        return rewards

    def _verdicts_of(self, rewards: Tensor) -> Tensor:
        """1, 0 or NaN for each completion of all processes, from its rewards (rows, rewards)."""
        weights = self.reward_weights.to(rewards.device)
        counted = weights.nonzero().flatten()
        sums = rewards[:, counted] @ weights[counted]
        verdicts = sums.round()
        foreign = ((sums - verdicts).abs() > _ROUNDING) | (verdicts < 0) | (verdicts > 1)
        if foreign.any():
            names = " + ".join(self.reward_func_names[place] for place in counted.tolist())
            raise InputError(
                f"{names} gave a completion {sums[foreign][0].item():g}, and NFT needs binary verdicts, 1, 0 or None:"
                " threshold the reward, or train with GRPO"
            )
        return verdicts

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        training = self.model.training
        output = super()._generate_and_score_completions(inputs)
        if "pixel_values" in output:
            raise InputError("NFT learns from text, and these prompts have images: leave them out, or train with GRPO")
        rates = group_pass_rates(self._verdicts, self.num_generations if training else self.num_generations_eval)
        metrics = self._metrics["train" if training else "eval"]
        metrics["nft/pass_rate"].append(self._verdicts.nanmean().item())
        metrics["nft/kept"].append(teaches(self._verdicts, rates).float().mean().item())
        start = self.accelerator.process_index * len(inputs)
        output["verdict"] = self._verdicts[start : start + len(inputs)]
        output["pass_rate"] = rates[start : start + len(inputs)]
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        tokens = inputs["completion_ids"]
        logprobs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], tokens], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            tokens.size(1),
            compute_entropy=True,
        )
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        # TRL leaves the sampler's log-probabilities out where the sampler is the policy itself.
        log_ratios = logprobs - inputs.get("old_per_token_logps", logprobs.detach())
        losses = token_losses(log_ratios, inputs["verdict"], inputs["pass_rate"], self.nft)
        loss = (losses * mask).sum() / (len(tokens) * self.max_completion_length)
        self._log_tokens(log_ratios.detach(), entropies, mask)
        return loss / self.current_gradient_accumulation_steps if self.model.training else loss

    def _log_tokens(self, log_ratios: Tensor, entropies: Tensor, mask: Tensor) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        largest = log_ratios.clamp(max=LARGEST_LOG_RATIO).exp().mul(mask).max()
        metrics["nft/ratio_max"].append(self.accelerator.gather(largest).max().item())
        sums = torch.stack([(entropies * mask).sum(), mask.sum()])
        total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        metrics["entropy"].append(total / max(count, 1.0))


def _refuse_foreign_terms(trainer: Any) -> None:
    """Terms and corrections of TRL's loss, each with the setting that leaves it out."""
    args = trainer.args
    foreign = {
        "beta=0.0": args.beta != 0.0,
        "importance_sampling_level='token'": args.importance_sampling_level != "token",
        "top_entropy_quantile=1.0": args.top_entropy_quantile != 1.0,
        "entropy_coef=0.0, use_adaptive_entropy=False": trainer._entropy_bonus_enabled,
        "off_policy_mask_threshold=None": args.off_policy_mask_threshold is not None,
        "vllm_importance_sampling_correction=False": args.use_vllm and args.vllm_importance_sampling_correction,
        "router_aux_loss_coef=0.0": trainer.aux_loss_enabled,
    }
    found = [neutral for neutral, is_set in foreign.items() if is_set]
    if found:
        raise InputError(f"NFT's loss lacks a term of GRPO's that this configuration asks for: set {', '.join(found)}")


def _refuse_fresh_rollouts(args: Any) -> None:
    """TRL's own condition for a policy that has not changed since it sampled."""
    if args.gradient_accumulation_steps % (args.steps_per_generation * args.num_iterations) == 0:
        names = ("gradient_accumulation_steps", "steps_per_generation", "num_iterations")
        raise InputError(_ON_POLICY.format(settings=", ".join(f"{name}={getattr(args, name)}" for name in names)))
