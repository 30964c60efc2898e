"""The score of a reward model, as a reward of online training: RLSF's second route (arXiv 2507.21931)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlsf.errors import InputError
from rlsf.files import read_json
from rlsf.models import ModelConfig, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: What was measured of a reward model on pairs that it was not trained on, in its folder.
EVALUATION = "evaluation.json"


class RewardModelScore:
    """A TRL reward function: r(q, o), the reward model's output at the last token of prompt and completion.

    It reads the token ids as sampled, of rows with a column ``prompt_ids``; nothing is tokenised again.
    ``normalise="whiten"`` gives (r - mean) / deviation, with both of the traces of the pairs that were held out from
    the reward model's training. Rewards of a pair-wise model are known up to a constant: RLOO and GRPO do not see one.

    The model is loaded at the first call, in evaluation mode, and has no gradients. Raises ``InputError`` for a
    tokenizer that gives other ids than ``tokenizer``, the policy's, and for whitening without measured rewards.
    """

    def __init__(
        self,
        reward_model: ModelConfig | str | Path,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        normalise: Literal["none", "whiten"] = "none",
    ) -> None:
        given = isinstance(reward_model, ModelConfig)
        self.config: ModelConfig = reward_model if given else ModelConfig(path=str(reward_model))
        if normalise not in ("none", "whiten"):
            raise InputError(f"normalise={normalise!r}: use none or whiten")
        if tokenizer is not None and load_tokenizer(self.config).get_vocab() != tokenizer.get_vocab():
            raise InputError(
                f"the reward model {self.config.path} has another vocabulary than the policy: token ids would mean"
                " something else to it; train one from this policy"
            )
        self.mean, self.deviation = self._measured() if normalise == "whiten" else (0.0, 1.0)

    def __call__(
        self,
        completion_ids: Sequence[Sequence[int]],
        prompt_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float]:
        """The reward of each completion, as TRL calls it."""
        from rlsf.scoring.reward_scores import reward_scores

        if prompt_ids is None:
            raise InputError(
                "RewardModelScore reads the prompts' token ids: give the training data a column 'prompt_ids', or hand"
                " the reward model itself to the trainer (reward_funcs)"
            )
        sequences = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
        return [(score - self.mean) / self.deviation for score in reward_scores(self.model, sequences)]

    @cached_property
    def model(self) -> PreTrainedModel:
        """The reward model."""
        from rlsf.models.reward_model import load_reward_model

        return load_reward_model(self.config)

    def _measured(self) -> tuple[float, float]:
        path = Path(str(self.config.path)) / EVALUATION
        if not path.is_file():
            raise InputError(
                f"{path} is missing, which normalise=whiten takes the rewards' mean and deviation from: use"
                " normalise=none, or hold out pairs when the reward model is trained (reward_model.held_out)"
            )
        measured = read_json(path)
        mean, deviation = float(measured["reward_mean"]), float(measured["reward_deviation"])
        if not deviation:
            raise InputError(f"{path}: all rewards are equal, which cannot be whitened: use normalise=none")
        return mean, deviation
