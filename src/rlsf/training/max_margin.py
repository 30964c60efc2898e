"""Max-margin objectives of inverse reinforcement learning on d = R(o+) - R(o-), o+ the expert's (arXiv 2410.12491).

The published objective maximises p(d), with p(d) = d for d > 0 and 2d else. It grows with the scale of R: p(cd) =
c p(d) for c > 0, so that where any R has a mean p above 0, no R is the best. Weight decay or a bound on the norm mends
this for rewards that are linear, where both choose the same direction; the norm of a network says little of its
outputs. Here p gets a ceiling, min(p(d), 1), for every kind of reward. It changes nothing of pairs that differ by less
than 1, and

    -min(p(d), 1) = max(0, 1 - d) + max(0, -d) - 1,

so that it is the hinge loss with a second hinge at 0, convex and never below -1. All of these see differences alone: a
constant added to R changes nothing, and no threshold of R is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

#: ``hinge``: max(0, 1 - d). ``logistic``: log(1 + exp(-d)). ``margin``: -min(p(d), 1).
Objective = Literal["hinge", "logistic", "margin"]

#: The largest value of p that is paid for: it sets the unit of the reward, as the 1 of the hinge does.
CEILING = 1.0


def hinge_thresholds(objective: Literal["hinge", "margin"]) -> tuple[float, ...]:
    """The t of which the loss is sum_t max(0, t - d), up to a constant."""
    return (1.0,) if objective == "hinge" else (CEILING, 0.0)


def published_loss(difference: Tensor) -> Tensor:
    """-p(d), elementwise: -d for d > 0 and -2d else; unbounded below."""
    import torch

    return torch.where(difference > 0, -difference, -2 * difference)


def pair_loss(difference: Tensor, objective: Objective) -> Tensor:
    """The loss of each pair from d, elementwise; convex in d and bounded below."""
    from torch.nn.functional import relu, softplus

    if objective == "logistic":
        return softplus(-difference)
    return published_loss(difference).clamp(min=-CEILING) if objective == "margin" else relu(1.0 - difference)
