"""A pass shows that a peer belongs to a closed swarm: its membership, signed by a root key of the
charter, or by a member whom a root key allowed to let others in.

One root key is enough, where a change of the charter needs a quorum: letting somebody in can be
ended by not renewing it, and gives nobody a right over others. There is one delegation and no chain
of them, so that what a root key can undo by itself is all that it has let happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarmllm.errors import RemoteError
from swarmllm.messages.membership import Admitted, Membership, Pass
from swarmllm.wire.envelope import Verify
from swarmllm.wire.signed import MultiSigned, good_signers, open_signed

LIFE_MS: Final = 366 * 86_400_000  # Of a membership that is given for a ticket.


@dataclass(frozen=True, slots=True)
class Judged:
    """What is wrong with a pass (empty: nothing), until when it is good, and whether its owner may
    let others in."""

    fault: str
    ends_ms: int = 0
    may_invite: bool = False


def judged(
    shown: Pass | Admitted,
    member: bytes,
    swarm: bytes,
    roots: frozenset[bytes],
    unix_ms: int,
    verify: Verify,
) -> Judged:
    """What a pass is worth that the owner of the key `member` shows. Cheapest checks first."""
    try:
        own = open_signed(shown.membership, (Membership,))
        between = open_signed(shown.delegation, (Membership,)) if shown.delegation else None
        signer = _only_signer(own)
        if own.record.member != member:
            return Judged("it is another peer's membership")
        ends_ms = own.record.expires_ms
        for one in (own, *(() if between is None else (between,))):
            if one.record.swarm != swarm:
                return Judged("it is a membership of another swarm")
            if unix_ms >= one.record.expires_ms:
                return Judged("its membership has run out")
            ends_ms = min(ends_ms, one.record.expires_ms)
        if between is None:
            good_signers(own, roots, verify)
            return Judged("", ends_ms, bool(own.record.may_invite))
        if between.record.member != signer or not between.record.may_invite:
            return Judged("whoever signed its membership may let nobody in")
        good_signers(between, roots, verify)
        good_signers(own, frozenset({signer}), verify)
        return Judged("", ends_ms)  # What a delegate signs delegates nothing.
    except RemoteError as fault:
        return Judged(f"its membership is not good ({fault})")


def _only_signer(opened: MultiSigned[Membership]) -> bytes:
    if len(opened.signers) != 1:
        raise RemoteError(f"{len(opened.signers)} signatures, and a membership has one")
    return opened.signers[0]
