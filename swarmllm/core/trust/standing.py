"""The standing of an expert, for people: one word, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from swarmllm.core.trust.reputation import DAY_S, Account, Reputation
from swarmllm.core.wording import several
from swarmllm.messages import PeerId

COUNTS: Final = 0.5  # Of one audit, faded: a week ago.


class Word(StrEnum):
    OWN = "own"
    EXCLUDED = "excluded"
    DISPUTED = "in dispute"
    DOUBTED = "doubted"
    NEW = "new"
    AUDITED = "audited"
    UNAUDITED = "unaudited"


@dataclass(frozen=True, slots=True)
class Standing:
    """`trust`: what its word counts, from 0 (excluded) to 1. `why`: a sentence without its full
    stop."""

    word: Word
    why: str
    trust: float = 1.0


def standing_of(reputation: Reputation, peer: PeerId, digest: bytes, now_s: float) -> Standing:
    trust = reputation.trust(peer, digest, now_s)
    return described(reputation.of(peer, digest, now_s), trust, now_s)


def described(account: Account, trust: float, now_s: float) -> Standing:
    """In words; what happened so long ago that it hardly counts is left out."""
    age_days = (now_s - account.since_s) / DAY_S
    count = round(account.valid)
    audits = f"{several(count, 'valid audit') if count else 'no valid audit'} lately"
    if account.excluded_until_s > now_s:
        left_days = (account.excluded_until_s - now_s) / DAY_S
        return Standing(Word.EXCLUDED, f"for {left_days:.1f} days more: {account.why}", trust)
    if account.failed >= COUNTS:
        why = f"{several(round(account.failed), 'audit')} spoke against it lately, {audits}"
        return Standing(Word.DOUBTED, why, trust)
    if account.disputed >= COUNTS and account.row == 0:
        why = "another holder of its model says something else, and there was no third to ask"
        return Standing(Word.DISPUTED, why, trust)
    if trust < 1:
        return Standing(Word.NEW, f"known for {_length(age_days)}, {audits}", trust)
    return Standing(Word.AUDITED if account.valid >= COUNTS else Word.UNAUDITED, audits, trust)


def _length(days: float) -> str:
    hours = int(24 * days)
    if days >= 2:
        return f"{days:.1f} days"
    return several(hours, "hour") if hours >= 1 else "less than an hour"
