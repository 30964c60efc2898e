"""What a diagnosis consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """One line; one that goes on about the same thing has no name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something amiss, and what to do about it."""

    text: str


Finding = Fact | Complaint
