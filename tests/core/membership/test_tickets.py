"""A ticket book counts, forgets what has run out, and lets nobody in when it cannot be read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.membership.tickets import (
    TICKETS_MAX,
    USES_MAX,
    TicketBook,
    load_tickets,
)
from swarmllm.messages.membership import RAN_OUT, UNKNOWN, USED_UP
from swarmllm.runtime.ports import VALUE_BYTES_MAX


def taken(book: TicketBook, ticket: bytes, member: bytes, now_ms: int = 0) -> TicketBook:
    found = book.taken(ticket, member, now_ms)
    assert isinstance(found, TicketBook), found
    return found


def test_a_ticket_counts_peers() -> None:
    book = TicketBook().with_ticket(b"t", 2, 10, 0)
    book = taken(taken(taken(book, b"t", b"ann"), b"t", b"ben"), b"t", b"ann")
    assert book.taken(b"t", b"cy", 0) == USED_UP
    assert book.taken(b"t", b"ann", 10) == RAN_OUT
    assert book.taken(b"u", b"ann", 0) == UNKNOWN


def test_what_has_run_out_goes_and_beyond_the_bound_what_ends_first() -> None:
    book = TicketBook().with_ticket(b"old", 1, 5, 0).with_ticket(b"new", 1, 50, 5)
    assert book.taken(b"old", b"ann", 0) == UNKNOWN
    for number in range(TICKETS_MAX):
        book = book.with_ticket(bytes((number,)), 1, 100 + number, 0)
    assert len(book.tickets) == TICKETS_MAX
    assert book.taken(b"new", b"ann", 0) == UNKNOWN


def test_the_largest_book_fits_the_store() -> None:
    book = TicketBook()
    for number in range(TICKETS_MAX):
        book = book.with_ticket(number.to_bytes(2, "big"), USES_MAX, 2**62, 0)
    for number in range(USES_MAX):
        for ticket in range(0, TICKETS_MAX, 64):
            book = taken(book, ticket.to_bytes(2, "big"), number.to_bytes(2, "big"))
    assert 64 * len(book.pack()) < 64 * VALUE_BYTES_MAX
    assert load_tickets(book.pack()) == book


@given(st.binary(max_size=200))
def test_a_book_that_cannot_be_read_lets_nobody_in(data: bytes) -> None:
    load_tickets(data).taken(b"t", b"ann", 0)


def test_the_book_holds_no_ticket() -> None:
    ticket = b"sixteen bytes ok"
    assert ticket not in TicketBook().with_ticket(ticket, 1, 10, 0).pack()
