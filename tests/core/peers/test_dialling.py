"""Laws of connecting: bounded, backed off, never to oneself, and never in a tight loop."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmllm.core.effects import Dial
from swarmllm.core.facts import Heard, RecordsHeard
from swarmllm.core.inputs import (
    AddressesChanged,
    AddressesFound,
    DialFailed,
    PeerConnected,
    PeerLost,
    VocabularyLearned,
)
from swarmllm.core.peers import dialling as module
from swarmllm.core.peers.dialling import (
    AWAY_S,
    BACKOFF_MAX_S,
    CHOSEN_MIN,
    CONNECTIONS_TARGET,
    DIALS_MAX,
    KNOWN_MAX,
    PROVEN_FAILURES_MAX,
    SAVED_MAX,
    Dialling,
    load_saved,
)
from swarmllm.messages import PeerId
from swarmllm.messages.goodbye import MEMBERS, Goodbye
from tests.core.capacity.support import record

OWN = PeerId("own")
ADDR = ("/ip4/127.0.0.1/tcp/1",)


def peering() -> Dialling:
    return Dialling(OWN, random.Random(0))


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


def test_whoever_sends_us_away_each_time_is_dialled_ever_less() -> None:
    """A closed swarm lets a stranger come, and says goodbye after five seconds."""
    book, now, waits = peering(), 0.0, []
    peer = PeerId("a")
    book.handle(AddressesFound(peer, ADDR, "lan"), now)
    for _ in range(12):
        assert [d.peer for d in book.due(now)] == [peer]
        book.handle(PeerConnected(peer, "192.0.2.1"), now)
        now += 5
        book.handle(PeerLost(peer, f"it hung up: {Goodbye(MEMBERS).meaning}"), now)
        waits.append(book.next_deadline() - now)
        now = book.next_deadline()
    assert waits[0] < 3
    assert waits[5] > 20
    assert max(waits) <= BACKOFF_MAX_S
    book.due(now)
    book.handle(PeerConnected(peer, "192.0.2.1"), now)
    book.handle(PeerLost(peer, "connection closed"), now)
    assert book.next_deadline() - now < 2, "any other end is one from which it comes back"


def failing(book: Dialling, peer: PeerId, dials: int) -> float:
    """The peer was dialled so often in vain; when it would be dialled next."""
    for _ in range(dials):
        now = book.next_deadline()
        assert [d.peer for d in book.due(now)] == [peer]
        book.handle(DialFailed(peer, "no answer"), now)
    return book.next_deadline()


def test_without_a_vocabulary_whoever_can_give_one_is_dialled() -> None:
    """A node without a model that knew a relay alone met the expert behind it after half a minute,
    when the DHT told of it: no record was of its vocabulary, for it had none."""
    ours, foreign = PeerId("ours"), PeerId("foreign")
    full = Heard(PeerId("full"), record(addrs=ADDR, sessions_max=0, sessions_free=0), False)
    book = Dialling(OWN, random.Random(0), has_vocabulary=False)
    book.handle(RecordsHeard((Heard(ours, record(addrs=ADDR), False), full)), 0.0)
    assert [d.peer for d in book.due(0.0)] == [ours]
    book.handle(VocabularyLearned(bytes(32)), 1.0)
    book.handle(RecordsHeard((Heard(foreign, record(addrs=ADDR), False),)), 2.0)
    assert book.due(2.0) == []


def test_a_peer_that_is_heard_of_after_a_long_silence_is_dialled_at_once() -> None:
    """A swarm that was cut in two for five minutes took 155 s to be one again."""
    book, peer = peering(), PeerId("a")
    heard = RecordsHeard((Heard(peer, record(addrs=ADDR), True),))
    book.handle(heard, 0.0)
    failing(book, peer, 1)
    book.handle(heard, AWAY_S - 1.0)  # It was never away: it cannot be dialled, that is all.
    waits_until = failing(book, peer, 6)
    came_back_at = 2 * AWAY_S
    assert waits_until > came_back_at + 2.0
    book.handle(heard, came_back_at)
    assert book.next_deadline() <= came_back_at + 1.0


def test_whom_the_owner_names_does_not_wait_for_a_backoff() -> None:
    book, peer = peering(), PeerId("a")
    named = AddressesFound(peer, ADDR, "bootstrap")
    book.handle(named, 0.0)
    waits_until = failing(book, peer, 8)
    assert waits_until > 100.0
    book.handle(AddressesFound(peer, ADDR, "dht"), 50.0)
    assert book.next_deadline() == waits_until
    book.handle(named, 50.0)
    assert book.next_deadline() <= 51.0


def test_dials_and_connections_are_bounded() -> None:
    book = peering()
    for i in range(100):
        book.found(PeerId(f"p{i}"), ADDR, 0.0)
    dials = book.due(0.0)
    assert len(dials) == DIALS_MAX
    while dials:
        for dial in dials:
            book.peer_connected(dial.peer)
        dials = book.due(0.0)
    assert len(book.connected) == CONNECTIONS_TARGET
    assert book.next_deadline() == float("inf")


def chosen(book: Dialling, peers: list[PeerId], now: float = 0.0) -> None:
    """The book dials them, and they are there."""
    for peer in peers:
        book.found(peer, ADDR, now)
    while dials := book.due(now):
        for dial in dials:
            book.peer_connected(dial.peer)


@given(st.integers(0, 300))
def test_whoever_connects_to_us_cannot_keep_us_from_those_that_we_choose(strangers: int) -> None:
    book = peering()
    for i in range(strangers):
        book.peer_connected(PeerId(f"stranger {i}"))
    friends = [PeerId(f"friend {i}") for i in range(100)]
    chosen(book, friends)
    assert len(book.connected & set(friends)) == max(CHOSEN_MIN, CONNECTIONS_TARGET - strangers)


def test_one_that_we_chose_and_lost_makes_room_for_another() -> None:
    book = peering()
    for i in range(CONNECTIONS_TARGET):
        book.peer_connected(PeerId(f"stranger {i}"))
    chosen(book, [PeerId(f"friend {i}") for i in range(CHOSEN_MIN)])
    book.found(PeerId("spare"), ADDR, 1.0)
    assert book.due(1.0) == []
    book.peer_lost(PeerId("friend 3"), 2.0)
    assert [dial.peer for dial in book.due(2.0)] == ["spare"]


def test_those_that_we_chose_are_saved_before_any_crowd_that_came_later() -> None:
    book = peering()
    friends = [PeerId(f"friend {i}") for i in range(10)]
    chosen(book, friends)
    for i in range(SAVED_MAX):
        book.found(PeerId(f"stranger {i}"), ADDR, 5.0)
        book.peer_connected(PeerId(f"stranger {i}"))
    assert [peer for peer, _ in load_saved(book.save())][:10] == friends


def test_anchors_outlive_a_restart_into_a_crowd_again_and_again() -> None:
    """At every start strangers are there first, as many as connect to us, and invent peers; they
    are in the saved book as well."""
    book, friends = peering(), [PeerId(f"friend {i}") for i in range(CHOSEN_MIN)]
    chosen(book, friends)
    for run in range(3):
        for i in range(SAVED_MAX):
            book.found(PeerId(f"a stranger {i}"), ADDR, 5.0)
            book.peer_connected(PeerId(f"a stranger {i}"))
        for i in range(2 * KNOWN_MAX):
            book.found(PeerId(f"a made-up peer {run} {i}"), ADDR, 5.0 + i)
        saved = load_saved(book.save())
        book = peering()
        for i in range(2 * CONNECTIONS_TARGET):
            book.peer_connected(PeerId(f"a stranger {i}"))
        # One input after another, as a driver feeds them.
        for number, (peer, addrs) in enumerate(saved):
            book.found(peer, addrs, number * 1e-3, proven=True)
            for dial in book.due(number * 1e-3):
                book.peer_connected(dial.peer)
        assert {peer for peer, _ in load_saved(book.save())[:CHOSEN_MIN]} == set(friends)
        assert set(friends) <= book.connected


def test_a_flood_of_made_up_peers_does_not_drive_anchors_out_of_the_book() -> None:
    book = peering()
    book.found(PeerId("anchor"), ADDR, 0.0, proven=True)
    book.due(0.0)
    book.dial_failed(PeerId("anchor"), 0.0)  # It is not up yet.
    for i in range(2 * KNOWN_MAX):
        book.found(PeerId(f"made up {i}"), ADDR, float(i))
    assert "anchor" in book._known
    book._known[PeerId("anchor")].failures = PROVEN_FAILURES_MAX + 1  # It never came back.
    book.found(PeerId("one more"), ADDR, 1e6)
    assert "anchor" not in book._known


Events = st.lists(
    st.tuples(
        st.sampled_from(["found", "connected", "lost", "failed", "due"]),
        st.integers(0, 12),
        st.floats(0, 5),
    ),
    max_size=60,
)


@given(Events)
def test_whatever_happens_a_deadline_that_came_leads_to_a_dial(
    events: list[tuple[str, int, float]],
) -> None:
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


class PlainPeering(Dialling):
    """The same book, looked through from end to end each time."""

    def _waiters(self) -> list[PeerId]:
        return [p for p, k in self._known.items() if p not in self.connected and not k.dialling]

    def due(self, now: float) -> list[Dial]:
        ready = [p for p in self._waiters() if self._known[p].next_dial_at <= now]
        ready.sort(key=lambda p: (self._known[p].failures, self._known[p].next_dial_at, p))
        dialled = ready[: max(0, self._free())]
        for peer in dialled:
            self._known[peer].dialling = True
        return [Dial(peer, self._known[peer].addrs) for peer in dialled]

    def next_deadline(self) -> float:
        if self._free() <= 0:
            return float("inf")
        return min((self._known[p].next_dial_at for p in self._waiters()), default=float("inf"))

    def _free(self) -> int:
        dialling = sum(k.dialling for k in self._known.values())
        missing = max(
            module.CONNECTIONS_TARGET - len(self.connected), module.CHOSEN_MIN - len(self._chosen)
        )
        return min(module.DIALS_MAX, missing) - dialling


Steps = st.lists(
    st.tuples(
        st.sampled_from(["found", "found", "connected", "lost", "failed", "due"]),
        st.integers(0, 12),
        st.integers(1, 3),
        st.sampled_from([0.0, 0.25, 1.0, 5.0, 300.0]),
    ),
    max_size=80,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(Steps)
def test_the_heaps_say_what_a_look_through_the_book_says(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int, int, float]]
) -> None:
    for name, small in (
        ("KNOWN_MAX", 8),
        ("DIALS_MAX", 2),
        ("CONNECTIONS_TARGET", 4),
        ("CHOSEN_MIN", 2),
    ):
        monkeypatch.setattr(module, name, small)
    books, now = (peering(), PlainPeering(OWN, random.Random(0))), 0.0
    for what, number, port, wait in steps:
        now += wait
        peer = PeerId(f"p{number}")
        for book in books:
            match what:
                case "found":
                    book.found(peer, (f"/ip4/127.0.0.1/tcp/{port}",), now)
                case "connected":
                    book.peer_connected(peer)
                case "lost":
                    book.peer_lost(peer, now)
                case "failed":
                    book.dial_failed(peer, now)
                case _:
                    pass
        assert books[0].next_deadline() == books[1].next_deadline()
        if what == "due":
            assert books[0].due(now) == books[1].due(now)
            assert books[0].next_deadline() == books[1].next_deadline()
        assert books[0].save() == books[1].save()


def test_addresses_that_change_for_ever_do_not_fill_the_memory() -> None:
    book = peering()
    chosen(book, [PeerId(f"friend {i}") for i in range(CONNECTIONS_TARGET)])
    for i in range(5 * KNOWN_MAX):
        book.found(PeerId(f"p{i % 3}"), (f"/ip4/127.0.0.1/tcp/{i + 1}",), float(i))
        assert len(book._waiting) + len(book._ready) <= 2 * KNOWN_MAX + 1


@given(st.binary(max_size=200))
def test_damaged_saved_peers_are_no_peers(data: bytes) -> None:
    assert isinstance(load_saved(data), list)


def test_after_a_move_those_that_waited_are_dialled_at_once_and_those_that_always_fail_wait() -> (
    None
):
    book = peering()
    book.found(PeerId("often"), ("/ip4/11.1.0.2/tcp/7339",), 0.0)
    now = 0.0
    for _ in range(PROVEN_FAILURES_MAX + 1):
        now = book.next_deadline()
        assert [one.peer for one in book.due(now)] == ["often"]
        book.handle(DialFailed(PeerId("often"), "no route"), now)
    book.found(PeerId("once"), ("/ip4/11.2.0.2/tcp/7339",), now)
    assert [one.peer for one in book.due(now)] == ["once"]
    book.handle(DialFailed(PeerId("once"), "no route"), now)
    assert book.due(now) == []
    book.handle(AddressesChanged(("/ip4/192.168.7.2/tcp/7339",)), now)
    assert [one.peer for one in book.due(now)] == ["once"]
