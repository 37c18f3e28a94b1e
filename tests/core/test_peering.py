"""Laws of connecting: bounded, backed off, never to oneself, and never in a tight loop."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peering import BACKOFF_MAX_S, CONNECTIONS_TARGET, DIALS_MAX, KNOWN_MAX, SAVED_MAX, Peering, load_saved
from swarmllm.messages import PeerId

OWN = PeerId("own")
ADDR = ("/ip4/127.0.0.1/tcp/1",)


def peering() -> Peering:
    return Peering(OWN, random.Random(0))


def test_a_found_peer_is_dialled_once() -> None:
    book = peering()
    book.found(PeerId("a"), ADDR, 0.0)
    assert [d.peer for d in book.due(0.0)] == ["a"]
    assert book.due(0.0) == []


def test_oneself_and_the_addressless_are_never_dialled() -> None:
    book = peering()
    book.found(OWN, ADDR, 0.0)
    book.found(PeerId("a"), (), 0.0)
    assert book.due(1e9) == []


def test_backoff_grows_to_its_bound_and_never_gives_up() -> None:
    book, now, waits = peering(), 0.0, []
    book.found(PeerId("a"), ADDR, now)
    for _ in range(20):
        assert [d.peer for d in book.due(now)] == ["a"]
        book.dial_failed(PeerId("a"), now)
        waits.append(book.next_deadline() - now)
        now = book.next_deadline()
    assert waits[0] >= 0.5
    assert max(waits) <= BACKOFF_MAX_S
    assert waits[-1] > 100


def test_dials_and_connections_are_bounded() -> None:
    book = peering()
    for i in range(100):
        book.found(PeerId(f"p{i}"), ADDR, 0.0)
    assert len(book.due(0.0)) == DIALS_MAX
    for i in range(CONNECTIONS_TARGET):
        book.peer_connected(PeerId(f"p{i}"))
    assert book.due(0.0) == []
    assert book.next_deadline() == float("inf")


Events = st.lists(
    st.tuples(st.sampled_from(["found", "connected", "lost", "failed", "due"]), st.integers(0, 12), st.floats(0, 5)), max_size=60
)


@given(Events)
def test_whatever_happens_a_deadline_that_came_leads_to_a_dial(events: list[tuple[str, int, float]]) -> None:
    book, now = peering(), 0.0
    for what, number, wait in events:
        now += wait
        peer = PeerId(f"p{number}")
        match what:
            case "found":
                book.found(peer, (f"/ip4/127.0.0.1/tcp/{number + 1}",), now)
            case "connected":
                book.peer_connected(peer)
            case "lost":
                book.peer_lost(peer, now)
            case "failed":
                book.dial_failed(peer, now)
            case _:
                assert all(d.peer not in book.connected for d in book.due(now))
    book.due(now)
    later = book.next_deadline()
    assert later > now
    if later != float("inf"):
        assert book.due(later)


def test_the_book_is_bounded_and_keeps_the_connected() -> None:
    book = peering()
    book.found(PeerId("friend"), ADDR, 0.0)
    book.peer_connected(PeerId("friend"))
    for i in range(KNOWN_MAX + 100):
        book.found(PeerId(f"p{i}"), ADDR, float(i))
    saved = load_saved(book.save())
    assert len(saved) == SAVED_MAX
    assert saved[0] == ("friend", ADDR)


@given(st.binary(max_size=200))
def test_damaged_saved_peers_are_no_peers(data: bytes) -> None:
    assert isinstance(load_saved(data), list)
