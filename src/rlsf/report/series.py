"""What is drawn of a training: which measured quantities, under which title, in which unit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Series:
    """One picture: ``keys`` of an event's numbers, each with its name. ``share``: proportions, drawn in per cent."""

    title: str
    unit: str
    keys: Mapping[str, str]
    share: bool = False
    event: Literal["training", "probe"] = "training"


_PROBE = Series(
    "Probe: agreement and confidence",
    "held-out prompts",
    {"agreement": "agreement", "confidence": "confidence"},
    share=True,
    event="probe",
)

#: Of a training from preference pairs.
PREFERENCES = (
    Series("Loss", "nats", {"loss": "loss"}),
    Series("Chosen trace preferred", "of pairs", {"rewards/accuracies": "accuracy"}, share=True),
    Series("Reward margin", "nats", {"rewards/margins": "margin"}),
    Series("Log-probability", "nats a trace", {"logps/chosen": "chosen", "logps/rejected": "rejected"}),
    _PROBE,
    Series("Tokens per probe answer", "tokens", {"mean_tokens": "tokens"}, event="probe"),
)

#: Of a training on dialogues.
INTROSPECTION = (
    Series(
        "Probe: agreement by turn",
        "held-out prompts",
        {"agreement_first": "first turn", "agreement_second": "second turn"},
        share=True,
        event="probe",
    ),
    Series("Probe: confidence in the last turn", "held-out prompts", {"confidence": "confidence"}, True, "probe"),
    Series("Loss", "nats, weighted", {"loss": "loss"}),
    Series("Negative log-likelihood", "nats a token", {"nll": "examples"}),
    Series("Entropy", "nats a token", {"entropy": "entropy"}),
    Series("Mean weight of a batch", "exp(reward / tau)", {"weight": "weight"}),
    Series("Tokens per probe answer", "tokens", {"mean_tokens": "tokens"}, event="probe"),
)

#: Of a supervised training on single answers.
SUPERVISED = (_PROBE, *INTROSPECTION[2:])

#: Of an online training, after the rewards: what belongs to an algorithm or a reward is there only where it is used.
_ONLINE = (
    Series("Spread of rewards in a batch", "standard deviation", {"reward_std": "spread"}),
    Series("Groups of equal rewards", "of groups", {"frac_reward_zero_std": "groups"}, share=True),
    Series("Entropy", "nats a token", {"rollouts/entropy": "entropy"}),
    Series("Length of a completion", "tokens", {"rollouts/mean_tokens": "tokens"}),
    Series("Completions that agree in a group", "of a group", {"rollouts/group_agreement": "agreement"}, share=True),
    Series("Commonest answer of all", "of prompts", {"rollouts/commonest_answer": "prompts"}, share=True),
    Series("Without an answer", "of completions", {"rollouts/without_answer": "completions"}, share=True),
    Series("Cut at the token budget", "of completions", {"rollouts/truncated": "completions"}, share=True),
    Series("Repeated runs of four tokens", "of a completion", {"rollouts/repetition": "repetition"}, share=True),
    Series("Divergence from the start (KL)", "nats a token", {"kl": "kl"}),
    Series("NFT: pass rate", "of completions", {"nft/pass_rate": "pass rate"}, share=True),
    Series("NFT: in groups with right and wrong ones", "of completions", {"nft/kept": "kept"}, share=True),
    Series("NFT: largest likelihood ratio", "ratio", {"nft/ratio_max": "ratio"}),
    Series(
        "Confidence in words and accuracy",
        "of completions",
        {"rlcr/confidence": "confidence", "rlcr/accuracy": "accuracy"},
        share=True,
    ),
    Series("Not in the form asked for", "of completions", {"rlcr/malformed": "malformed"}, share=True),
    Series(
        "Accuracy of solutions and of grades",
        "of each kind",
        {"verification/solve_accuracy": "solutions", "verification/grade_accuracy": "grades"},
        share=True,
    ),
    Series("Gradings without a grade", "of gradings", {"verification/missing_grades": "missing"}, share=True),
)

_REWARD = re.compile(r"rewards/(.+)/mean")
#: Units of rewards by the name under which the trainer logs them; others are numbers without one.
_UNITS = {"SelfCertainty": "nats a token", "TokenEntropy": "nats a token", "TrajectoryEntropy": "nats"}


def online_series(events: Sequence[Mapping[str, Any]]) -> tuple[Series, ...]:
    """The pictures of an online training: the probe first, then each reward, then the vital signs."""
    keys = list(dict.fromkeys(key for event in events if event.get("event") == "training" for key in event))
    names = [found[1] for key in keys if (found := _REWARD.fullmatch(key))]
    rewards = [
        Series(f"Reward: {_in_words(name)}", _UNITS.get(name, "mean reward"), {f"rewards/{name}/mean": "mean"})
        for name in names
    ]
    if len(names) > 1:
        rewards.insert(0, Series("Reward, weighted sum", "mean reward", {"reward": "reward"}))
    return (_PROBE, *rewards, *_ONLINE)


def _in_words(name: str) -> str:
    """``SelfCertainty`` as ``self certainty``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
