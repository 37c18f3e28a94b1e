"""Target log-probabilities as they stand in a Scores: a u16 each, in steps below zero."""

from __future__ import annotations

from typing import Final

STEPS: Final = 1024  # Per nat.
_MAX: Final = 65_535  # That, or less likely.


def encode_target(nats: float) -> int:
    """The code of a token whose log-probability is -`nats`."""
    return round(min(float(_MAX), max(0.0, nats * STEPS)))


def decode_target(data: bytes) -> float:
    """The log-probability, at most 0, of a code in two bytes."""
    return -int.from_bytes(data, "big") / STEPS
