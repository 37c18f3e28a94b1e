"""Samples of invites (protocols/invite.md)."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Final

from swarmllm.messages.invite import INVITE_ADDRS_MAX, TICKET_BYTES, Invite

MADE_MS: Final = 1_790_000_000_000
ENDS_MS: Final = MADE_MS + 7 * 86_400_000
SWARM: Final = sha256(b"a first charter").digest()
RELAY: Final = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"

INVITE: Final = Invite(
    *("friends", SWARM, 1, SWARM, sha256(b"vocabulary").digest()),
    ("/ip4/203.0.113.7/tcp/7339", "/ip6/2001:db8::7/tcp/7339"),
    *(MADE_MS, ENDS_MS, b""),
)
LARGEST: Final = replace(
    INVITE,
    name="a" * 32,
    charter_version=2**32 - 1,
    charter_hash=sha256(b"a later charter").digest(),
    addrs=(f"/ip4/203.0.113.7/tcp/7339/p2p/{RELAY}/p2p-circuit",) * INVITE_ADDRS_MAX,
    ticket=bytes(range(TICKET_BYTES)),
    ext=bytes(64),
)
UNKNOWN: Final = replace(INVITE, vocabulary=b"", addrs=("/dns4/swarm.example/tcp/7339",))
VALID: Final = {"an open swarm's": INVITE, "the longest usual one": LARGEST, "a name": UNKNOWN}
