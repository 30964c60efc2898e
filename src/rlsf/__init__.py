"""Reinforcement learning from self-feedback: post-train language models from their own confidence."""

__version__ = "0.1.0"
