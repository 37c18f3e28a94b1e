"""The invite: a signed record that tells whoever is given it which swarm to join, and where
(protocols/invite.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import U63, Digest, Ext, Size
from swarmllm.messages.declare import message
from swarmllm.messages.halt import Version

INVITE_MAX: Final = 1_344  # Bytes of a signed invite with every field at its longest.
INVITE_ADDRS_MAX: Final = 6
# Bytes: the longest name of a relay that anybody has, its port, its peer id, /p2p-circuit.
INVITE_ADDR_MAX: Final = 160
TICKET_BYTES: Final = 16
INVITE_LIFE_MAX_MS: Final = 366 * 86_400_000  # A year: what is longer has been forgotten.


@message(code=69, domain=b"swarmllm/invite/1\0", size_max=INVITE_MAX)
class Invite:
    """Join this swarm, through me: the signer is the peer behind each address, so they come without
    its `/p2p/...`.

    `name` is what the swarm calls itself, `swarm` its id; the charter of version `charter_version`
    must have the hash `charter_hash`. `vocabulary` is the fingerprint of the inviter's vocabulary
    (empty: it has none yet). `ticket` is what the inviter of a closed swarm takes for a membership
    (empty: the swarm is open). `ext` is for fields that come later: see `bounds.Ext`.
    """

    name: Annotated[str, Size(1, 32)]
    swarm: Digest
    charter_version: Version
    charter_hash: Digest
    vocabulary: Annotated[bytes, Size(0, 32)]
    addrs: Annotated[
        tuple[Annotated[str, Size(1, INVITE_ADDR_MAX)], ...], Size(1, INVITE_ADDRS_MAX)
    ]
    issued_ms: U63
    expires_ms: U63
    ticket: Annotated[bytes, Size(0, TICKET_BYTES)]
    ext: Ext = b""

    def fault(self) -> str:
        if len(self.vocabulary) not in {0, 32}:
            return f"a fingerprint of {len(self.vocabulary)} bytes; it has 32"
        if len(self.ticket) not in {0, TICKET_BYTES}:
            return f"a ticket of {len(self.ticket)} bytes; it has {TICKET_BYTES}"
        if self.charter_version == 1 and self.charter_hash != self.swarm:
            return "the first charter's hash is the swarm's id"
        if not 0 < self.expires_ms - self.issued_ms <= INVITE_LIFE_MAX_MS:
            return "an invite ends after it was made, and within a year"
        return ""
