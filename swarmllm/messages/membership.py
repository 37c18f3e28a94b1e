"""Messages of `/swarmllm/member`: in a closed swarm peers show each other that they belong to it,
before they talk about anything else but halts (protocols/membership.md)."""

from __future__ import annotations

from typing import Annotated, Final

from swarmllm.messages.bounds import U63, Digest, Ext, Range, Size
from swarmllm.messages.declare import BOTH, MEMBER, message
from swarmllm.messages.halt import PublicKey
from swarmllm.messages.invite import TICKET_BYTES

MEMBERSHIP_MAX: Final = 288  # Bytes of a signed membership with every field at its longest.
MEMBER_FRAME_MAX: Final = 2 * MEMBERSHIP_MAX + 16

Sealed = Annotated[bytes, Size(1, MEMBERSHIP_MAX)]


@message(code=70, domain=b"swarmllm/membership/1\0", size_max=MEMBERSHIP_MAX)
class Membership:
    """The key `member` belongs to the swarm until `expires_ms`, says whoever signs: a root key of
    its charter, or a member whom one allowed to (`may_invite` 1). `ext` is for fields that come
    later: see `bounds.Ext`."""

    swarm: Digest
    member: PublicKey
    may_invite: Annotated[int, Range(0, 1)]
    issued_ms: U63
    expires_ms: U63
    ext: Ext = b""

    def fault(self) -> str:
        return "" if self.issued_ms < self.expires_ms else "a membership ends after it was made"


@message(code=50, stream=MEMBER, sender=BOTH)
class Pass:
    """The sender's membership, and that of whoever signed it (empty: a root key did)."""

    membership: Sealed
    delegation: Annotated[bytes, Size(0, MEMBERSHIP_MAX)]


@message(code=51, stream=MEMBER, sender=BOTH)
class TicketShown:
    """The ticket of an invite that the receiver made: the sender wants a membership for it."""

    ticket: Annotated[bytes, Size(TICKET_BYTES, TICKET_BYTES)]


@message(code=52, stream=MEMBER, sender=BOTH)
class Admitted:
    """The receiver's new membership, for the ticket that it showed, and that of whoever signed it
    (empty: a root key did)."""

    membership: Sealed
    delegation: Annotated[bytes, Size(0, MEMBERSHIP_MAX)]


@message(code=53, stream=MEMBER, sender=BOTH)
class NotAdmitted:
    """Nobody is let in for this ticket: see `NOT_ADMITTED`."""

    code: Annotated[int, Range(1, 255)]


UNKNOWN: Final = 1
USED_UP: Final = 2
RAN_OUT: Final = 3
MAY_NOT: Final = 4

NOT_ADMITTED: Final = {
    UNKNOWN: "the inviter does not know the ticket in the invite",
    USED_UP: "the invite is used up",
    RAN_OUT: "the invite has run out",
    MAY_NOT: "the inviter may not let anybody in any more",
}

MemberFrame = Pass | TicketShown | Admitted | NotAdmitted
