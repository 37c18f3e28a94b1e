"""The tickets of the invites that this node has made to a closed swarm, and how often each is still
good.

The inviter counts, for nobody else can: members see a membership and not what it was given for. A
ticket is kept as its hash, so that the file lets nobody in; whoever shows it twice, because an
answer was lost, is let in twice and counted once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import msgpack

from swarmllm.messages.membership import RAN_OUT, UNKNOWN, USED_UP

TICKETS_MAX: Final = 256
USES_MAX: Final = 200  # With as many tickets as there may be, half of what the store takes.
NAME_BYTES: Final = 8  # Of a key that was let in: enough to know it again.


@dataclass(frozen=True, slots=True)
class Ticket:
    """`admitted` are the names of the keys that were let in with it."""

    hash: bytes
    uses: int
    ends_ms: int
    admitted: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class TicketBook:
    """All that have not run out, by hash."""

    tickets: tuple[Ticket, ...] = ()

    def with_ticket(self, ticket: bytes, uses: int, ends_ms: int, now_ms: int) -> TicketBook:
        """With one more. Those that have run out go; beyond the bound, the one that ends first."""
        kept = [one for one in self.tickets if one.ends_ms > now_ms]
        kept.sort(key=lambda one: one.ends_ms)
        kept = kept[-(TICKETS_MAX - 1) :]
        return TicketBook((*kept, Ticket(_hash(ticket), uses, ends_ms)))

    def taken(self, ticket: bytes, member: bytes, now_ms: int) -> TicketBook | int:
        """The book after this key was let in; the code of `NOT_ADMITTED` if it is not."""
        name = sha256(member).digest()[:NAME_BYTES]
        for place, one in enumerate(self.tickets):
            if one.hash != _hash(ticket):
                continue
            if now_ms >= one.ends_ms:
                return RAN_OUT
            if name not in one.admitted and len(one.admitted) >= one.uses:
                return USED_UP
            after = replace(one, admitted=one.admitted | {name})
            return TicketBook((*self.tickets[:place], after, *self.tickets[place + 1 :]))
        return UNKNOWN

    def pack(self) -> bytes:
        rows = [[t.hash, t.uses, t.ends_ms, sorted(t.admitted)] for t in self.tickets]
        packed: bytes = msgpack.packb(rows)
        return packed


def load_tickets(data: bytes) -> TicketBook:
    """What `TicketBook.pack` wrote; anything else lets nobody in."""
    try:
        return TicketBook(
            tuple(
                Ticket(bytes(hashed), int(uses), int(ends), frozenset(map(bytes, admitted)))
                for hashed, uses, ends, admitted in msgpack.unpackb(data)[:TICKETS_MAX]
            )
        )
    except (ValueError, TypeError, msgpack.UnpackException):
        return TicketBook()


def _hash(ticket: bytes) -> bytes:
    return sha256(b"swarmllm/ticket/1\0" + ticket).digest()[:16]
