"""Signs of a training at its start, at their limits and just inside, for the tests of the guard."""

from __future__ import annotations

#: The start of a training, with values whose limits are exact in binary.
START = {
    "entropy": 0.5,
    "self_certainty": 3.0,
    "mean_tokens": 96.0,
    "truncated": 0.25,
    "repetition": 0.125,
    "without_answer": 0.125,
    "commonest_answer": 0.25,
    "group_agreement": 0.5,
    "zero_variance": 0.25,
    "reward": 0.0,
}
LIMITS = {
    "entropy_floor": 0.125,
    "truncated_limit": 0.5,
    "repetition_limit": 0.25,
    "without_answer_limit": 0.5,
    "commonest_answer_limit": 0.25,
    "zero_variance_limit": 0.96875,
}
#: Sign, its value at the limit, a value just inside. Two limits for the length.
PAST = [
    ("entropy", 0.0625, 0.0626),
    ("mean_tokens", 288.0, 287.0),
    ("mean_tokens", 32.0, 33.0),
    ("truncated", 0.75, 0.74),
    ("repetition", 0.375, 0.37),
    ("without_answer", 0.625, 0.62),
    ("commonest_answer", 0.5, 0.49),
    ("zero_variance", 0.96875, 0.96),
]
