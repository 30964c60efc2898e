"""What did a training reward? The reward that separates a policy's traces from those of the model it started from.

Inverse reinforcement learning (arXiv 2410.12491): the tuned model is the expert, its start the non-expert. Pure
functions: no model, no files.
"""

from rlsf.audit.config import AuditConfig
from rlsf.audit.features import FEATURES, Feature, feature_values
from rlsf.audit.linear import LinearReward, fit_linear, recover_linear

__all__ = [
    "FEATURES",
    "AuditConfig",
    "Feature",
    "LinearReward",
    "feature_values",
    "fit_linear",
    "recover_linear",
]
