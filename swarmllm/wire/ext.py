"""Additions to signed records (`bounds.Ext`): a type byte, a length byte and so many bytes, one
behind another. What a type means: WIRE-7."""

from __future__ import annotations

from typing import Final

CHAT_DIGEST: Final = 1  # In capacity records: how the author's model writes conversations; 8 bytes.
ANSWERS_ALLOWED: Final = 3  # In capacity records: its expert answers ScoreAllowed; no bytes.
ANSWERS_DRAFTS: Final = 6  # In capacity records: its expert answers ScoreDraft; no bytes.
SIGNS_SESSIONS: Final = 7  # In capacity records: its expert answers SignSession; no bytes.
# In capacity records: one of the addresses is a relay's; which one, and its key, 33 bytes.
RELAYED: Final = 8
AGENT_TERMS: Final = 4  # In terms of governance: what the charter grants an agent; 31 bytes.
# In charters: the held-out text of the quality gate, its digest (16 bytes) and its name.
HELD_OUT: Final = 5
GOVERNANCE_TERMS: Final = 2  # In charters: SHA-256 of the terms of governance; 32 bytes.


def additions(ext: bytes) -> dict[int, bytes]:
    """By type; the first of each counts, and whatever is cut off does not."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(ext):
        kind, size = ext[at], ext[at + 1]
        value = ext[at + 2 : at + 2 + size]
        if len(value) == size:
            found.setdefault(kind, value)
        at += 2 + size
    return found


def addition(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value


def chat_digest_in(ext: bytes) -> bytes:
    """Eight zero bytes if the record does not say it."""
    found = additions(ext).get(CHAT_DIGEST, b"")
    return found if len(found) == 8 else bytes(8)


def answers_allowed(ext: bytes) -> bool:
    """Whether the author of the record answers a ScoreAllowed."""
    return ANSWERS_ALLOWED in additions(ext)


def answers_drafts(ext: bytes) -> bool:
    """Whether the author of the record answers a ScoreDraft."""
    return ANSWERS_DRAFTS in additions(ext)


def signs_sessions(ext: bytes) -> bool:
    """Whether the author of the record answers a SignSession."""
    return SIGNS_SESSIONS in additions(ext)


def relayed(at: int, key: bytes) -> bytes:
    """The addition that says: the address at this place in the record is that of a relay, which has
    this key."""
    return addition(RELAYED, bytes([at]) + key)


def relayed_in(ext: bytes) -> tuple[int, bytes] | None:
    """Which address is a relay's, and the relay's key; None if the record does not say so."""
    found = additions(ext).get(RELAYED, b"")
    return (found[0], found[1:]) if len(found) == 33 else None
