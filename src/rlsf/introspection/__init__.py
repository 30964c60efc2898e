"""Dialogues of a policy with itself, from which it learns to improve its answers (arXiv 2407.18219)."""
