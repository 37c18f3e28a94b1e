"""Laws of the capacity table: the newest record wins in any order, nothing is believed for long, nobody takes more than a place."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarmllm.core.capacity import BURST, PEERS_MAX, RECORD_TTL_S, CapacityTable, check
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, PeerId

EVERY_S = 3.0  # How often an honest node publishes.
A, B, C = (PeerId(name) for name in "ABC")


def record(boot: int = 1, seq: int = 0, **changes: object) -> CapacityRecord:
    plain = CapacityRecord(
        boot=boot,
        seq=seq,
        model="prose",
        model_digest=bytes(32),
        vocab_fingerprint=bytes(32),
        n_params=6_000_000,
        context_max=2_048,
        rate=1_600,
        queue_depth=0,
        sessions_free=3,
        sessions_max=4,
        domains=("prose",),
        addrs=("/ip4/192.0.2.7/tcp/4001",),
        ctl_digest=bytes(8),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


versions = st.tuples(st.integers(0, 3), st.integers(0, 3))


# --- the newest wins ---------------------------------------------------------------------------------------------------------


@given(st.lists(versions, min_size=1, max_size=int(BURST)), st.floats(0, 1e9))
def test_any_order_of_delivery_ends_in_the_newest(arrivals: list[tuple[int, int]], now: float) -> None:
    table = CapacityTable()
    newest: tuple[int, int] | None = None
    for boot, seq in arrivals:
        outcome = table.hear(A, record(boot, seq), now)
        assert outcome == ("new" if newest is None else "updated" if (boot, seq) > newest else "stale")
        newest = (boot, seq) if newest is None else max(newest, (boot, seq))
        assert table.alive(now) == [(A, record(*newest))]
    assert newest == max(arrivals)


@given(st.permutations([(boot, seq) for boot in range(3) for seq in range(4)]))
def test_any_order_at_the_honest_pace_ends_in_the_newest(arrivals: list[tuple[int, int]]) -> None:
    table = CapacityTable(ttl_s=1e3)
    outcomes = [table.hear(A, record(*version), EVERY_S * i) for i, version in enumerate(arrivals)]
    assert table.get(A) == record(2, 3)
    assert "limited" not in outcomes


def test_the_same_record_again_is_stale_and_does_not_live_longer() -> None:
    table = CapacityTable()
    assert table.hear(A, record(), 0.0) == "new"
    assert table.hear(A, record(), 10.0) == "stale"
    assert table.next_deadline() == RECORD_TTL_S


def test_a_restart_counts_from_zero_again() -> None:
    table = CapacityTable()
    table.hear(A, record(5, 1_000), 0.0)
    assert table.hear(A, record(6, 0), 1.0) == "updated"
    assert table.hear(A, record(5, 1_001), 2.0) == "stale"
    assert table.get(A) == record(6, 0)


def test_peers_do_not_share_their_counting() -> None:
    table = CapacityTable()
    table.hear(A, record(9, 9), 0.0)
    assert table.hear(B, record(1, 0), 0.0) == "new"
    assert table.alive(0.0) == [(A, record(9, 9)), (B, record(1, 0))]


# --- clocks from the future --------------------------------------------------------------------------------------------------


def test_a_boot_from_the_future_locks_its_peer_out_no_longer_than_a_record_lives() -> None:
    table = CapacityTable()
    table.hear(A, record(2**63 - 1, 2**32 - 1), 0.0)
    heard = [(t, table.hear(A, record(1_700_000_000_000, seq), t)) for seq, t in enumerate((3.0, 6.0, 9.0, 12.0, 15.0, 18.0))]
    assert [outcome for _, outcome in heard] == ["stale"] * 4 + ["new", "updated"]
    assert table.get(A) == record(1_700_000_000_000, 5)


def test_forgetting_a_peer_ends_the_lock_at_once() -> None:
    table = CapacityTable()
    table.hear(A, record(2**63 - 1, 0), 0.0)
    table.forget(A)
    assert table.hear(A, record(1, 0), 0.1) == "new"


# --- time --------------------------------------------------------------------------------------------------------------------


def test_a_record_lives_until_its_deadline_and_not_at_it() -> None:
    table = CapacityTable()
    assert table.next_deadline() == math.inf
    table.hear(A, record(), 100.0)
    deadline = table.next_deadline()
    before = math.nextafter(deadline, 0)
    assert table.expire(before) == []
    assert table.alive(before) == [(A, record())]
    assert table.alive(deadline) == []
    assert table.expire(deadline) == [A]
    assert table.get(A) is None
    assert table.next_deadline() == math.inf
    assert table.expire(deadline + 1) == []


def test_four_lost_records_in_a_row_lose_no_peer() -> None:
    table = CapacityTable()
    table.hear(A, record(1, 0), 0.0)
    assert table.hear(A, record(1, 4), 4 * EVERY_S) == "updated"
    assert table.expire(RECORD_TTL_S + 1) == []


def test_the_deadline_is_that_of_the_oldest_record() -> None:
    table = CapacityTable()
    table.hear(A, record(1, 0), 0.0)
    table.hear(B, record(1, 0), 1.0)
    table.hear(A, record(1, 1), 2.0)
    assert table.next_deadline() == 1.0 + RECORD_TTL_S
    assert table.expire(2.0 + RECORD_TTL_S) == [A, B]


def test_a_peer_comes_back_after_its_deadline_even_before_anybody_cleans_up() -> None:
    table = CapacityTable()
    table.hear(A, record(7, 7), 0.0)
    assert table.hear(A, record(1, 0), RECORD_TTL_S) == "new"
    assert table.next_deadline() == 2 * RECORD_TTL_S


def test_a_clock_that_runs_backwards_stands_still() -> None:
    table = CapacityTable()
    table.hear(A, record(), 100.0)
    table.hear(B, record(), 50.0)
    assert table.next_deadline() == 100.0 + RECORD_TTL_S
    assert len(table.alive(99.0 + RECORD_TTL_S)) == 2
    assert table.expire(0.0) == []
    assert table.expire(100.0 + RECORD_TTL_S) == [A, B]


# --- bounds ------------------------------------------------------------------------------------------------------------------


def test_an_author_may_burst_and_then_speak_once_a_second() -> None:
    table = CapacityTable()
    outcomes = [table.hear(A, record(1, seq), 0.0) for seq in range(8)]
    assert outcomes == ["new"] + ["updated"] * 4 + ["limited"] * 3
    assert table.get(A) == record(1, 4)
    assert table.hear(A, record(1, 8), 0.5) == "limited"
    assert table.hear(A, record(1, 9), 1.0) == "updated"
    assert table.hear(A, record(1, 10), 1.0) == "limited"
    assert table.hear(B, record(1, 0), 1.0) == "new"


def test_silence_saves_up_no_more_than_one_burst() -> None:
    table = CapacityTable()
    table.hear(A, record(1, 0), 0.0)
    assert [table.hear(A, record(1, seq), 14.0) for seq in range(1, 8)] == ["updated"] * 5 + ["limited"] * 2


def test_a_limited_record_does_not_live_on_and_its_author_is_heard_again() -> None:
    table = CapacityTable()
    for seq in range(10):
        table.hear(A, record(1, seq), 0.0)
    assert table.next_deadline() == RECORD_TTL_S
    assert table.hear(A, record(1, 10), EVERY_S) == "updated"


def test_replays_do_not_use_up_what_their_author_may_send() -> None:
    table = CapacityTable()
    table.hear(A, record(1, 1), 0.0)
    assert {table.hear(A, record(1, seq), 0.0) for seq in (0, 1) * 50} == {"stale"}
    assert [table.hear(A, record(1, seq), 0.0) for seq in range(2, 7)] == ["updated"] * 4 + ["limited"]


@given(st.lists(st.floats(0, 2), max_size=60))
def test_no_author_is_accepted_more_often_than_its_rate_allows(pauses: list[float]) -> None:
    table = CapacityTable()
    now, accepted = 0.0, 0
    for seq, pause in enumerate(pauses):
        now += pause
        accepted += table.hear(A, record(1, seq), now) in ("new", "updated")
        assert accepted <= BURST + now + 1e-6


def test_a_full_table_drops_the_peer_whose_record_is_oldest() -> None:
    table = CapacityTable(peers_max=2)
    table.hear(A, record(1, 0), 0.0)
    table.hear(B, record(1, 0), 1.0)
    table.hear(A, record(1, 1), 2.0)
    assert table.hear(C, record(1, 0), 3.0) == "new"
    assert [peer for peer, _ in table.alive(3.0)] == [A, C]


def test_records_of_one_moment_are_dropped_in_the_order_they_came() -> None:
    table = CapacityTable(peers_max=2)
    for peer in (B, A, C):
        table.hear(peer, record(), 0.0)
    assert [peer for peer, _ in table.alive(0.0)] == [A, C]


def test_a_flood_of_strangers_never_pushes_out_a_connected_peer() -> None:
    table = CapacityTable(peers_max=3)
    connected = {A, B}
    table.hear(A, record(), 0.0)
    table.hear(B, record(), 0.0)
    for i in range(100):
        assert table.hear(PeerId(f"stranger {i}"), record(), 1.0, connected.__contains__) == "new"
    assert [peer for peer, _ in table.alive(1.0)] == [A, B, PeerId("stranger 99")]


def test_a_table_full_of_connected_peers_takes_no_stranger_but_hears_its_own() -> None:
    table = CapacityTable(peers_max=2)
    connected = {A, B}
    table.hear(A, record(1, 0), 0.0)
    table.hear(B, record(1, 0), 0.0)
    assert table.hear(C, record(), 1.0, connected.__contains__) == "full"
    assert table.get(C) is None
    assert table.hear(A, record(1, 1), 1.0, connected.__contains__) == "updated"
    assert [peer for peer, _ in table.alive(1.0)] == [A, B]


def test_the_standard_table_holds_its_bound() -> None:
    table = CapacityTable()
    for i in range(PEERS_MAX + 50):
        table.hear(PeerId(f"peer {i:06}"), record(), 0.0)
    assert len(table) == PEERS_MAX
    assert table.alive(0.0)[0][0] == "peer 000050"


# --- records that contradict themselves --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"sessions_free": 5, "sessions_max": 4},
        {"sessions_free": 1, "sessions_max": 0},
        {"context_max": 0},
        {"model": "a\x1b[2Jb"},
        {"model": "a\nb"},
        {"domains": ("prose", "co\x07de")},
        {"addrs": ("/ip4/192.0.2.7/tcp/1\u202e",)},
    ],
)
def test_a_record_that_contradicts_itself_is_a_peer_fault_and_changes_nothing(changes: dict[str, object]) -> None:
    table = CapacityTable()
    table.hear(A, record(1, 0), 0.0)
    with pytest.raises(RemoteError, match=r"^capacity record: "):
        table.hear(A, record(2, 0, **changes), 1.0)
    assert table.get(A) == record(1, 0)
    assert table.next_deadline() == RECORD_TTL_S
    assert [table.hear(A, record(1, seq), 0.0) for seq in range(1, 6)] == ["updated"] * 4 + ["limited"]


@pytest.mark.parametrize(
    "changes",
    [
        {"sessions_free": 4, "sessions_max": 4},
        {"sessions_free": 0, "sessions_max": 0},
        {"rate": 0, "n_params": 0, "queue_depth": 65_535},
        {"domains": (), "addrs": ()},
        {"model": "Prosa für Ältere 散文"},
    ],
)
def test_the_ends_of_what_makes_sense_are_accepted(changes: dict[str, object]) -> None:
    check(record(**changes))  # type: ignore[arg-type]


# --- everything at once, against a model -------------------------------------------------------------------------------------


class TableAgainstModel(RuleBasedStateMachine):
    """The table beside the plainest thing that obeys the same laws: a dict, searched from end to end each time."""

    places = 3
    ttl_s = 8.0

    def __init__(self) -> None:
        super().__init__()
        self.table = CapacityTable(ttl_s=self.ttl_s, peers_max=self.places)
        self.now = 0.0
        self.turn = 0
        self.kept: dict[PeerId, tuple[CapacityRecord, float, int]] = {}  # Record, when and as which it was accepted.
        self.accepted: dict[PeerId, list[float]] = {}  # Since the peer was last new.
        self.connected: set[PeerId] = set()

    peers = st.sampled_from([PeerId(name) for name in "ABCDE"])

    @rule(pause=st.sampled_from([0.25, 1.0, 3.0, 7.75, 8.0, 20.0]))
    def wait(self, pause: float) -> None:
        self.now += pause

    @rule(peer=peers)
    def connect(self, peer: PeerId) -> None:
        self.connected ^= {peer}

    @rule(peer=peers, boot=st.integers(0, 2), seq=st.integers(0, 5))
    def hear(self, peer: PeerId, boot: int, seq: int) -> None:
        self.turn += 1
        outcome = self.table.hear(peer, record(boot, seq), self.now, self.connected.__contains__)
        held = self.kept.get(peer)
        live = held is not None and self.now < held[1] + self.ttl_s
        if held is not None and live and (boot, seq) <= (held[0].boot, held[0].seq):
            assert outcome == "stale"
            return
        if live and not self.may_speak(peer):
            assert outcome == "limited"
            return
        if held is None and len(self.kept) >= self.places:
            strangers = [p for p in self.kept if p not in self.connected]
            if not strangers:
                assert outcome == "full"
                return
            del self.kept[min(strangers, key=lambda p: self.kept[p][1:])]
        assert outcome == ("updated" if live else "new")
        self.kept[peer] = (record(boot, seq), self.now, self.turn)
        self.accepted[peer] = [*(self.accepted[peer] if live else []), self.now]

    def may_speak(self, peer: PeerId) -> bool:
        """By the definition of burst and rate: in no window were more accepted than BURST plus one a second."""
        times = [*self.accepted[peer], self.now]
        return all(len(times) - i <= BURST + (self.now - start) for i, start in enumerate(times))

    @rule(peer=peers)
    def forget(self, peer: PeerId) -> None:
        self.table.forget(peer)
        self.kept.pop(peer, None)

    @rule()
    def expire(self) -> None:
        gone = sorted(p for p, (_, at, _) in self.kept.items() if self.now >= at + self.ttl_s)
        assert self.table.expire(self.now) == gone
        for peer in gone:
            del self.kept[peer]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        live = [(p, r) for p, (r, at, _) in sorted(self.kept.items()) if self.now < at + self.ttl_s]
        assert self.table.alive(self.now) == live
        assert len(self.table) == len(self.kept) <= self.places
        assert {p: self.table.get(p) for p in self.kept} == {p: r for p, (r, _, _) in self.kept.items()}
        assert self.table.next_deadline() == min((at + self.ttl_s for _, at, _ in self.kept.values()), default=math.inf)


TestTableAgainstModel = TableAgainstModel.TestCase
