"""Laws of the capacity table: the newest record wins in any order, nothing is believed for long,
nobody takes more than a share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.capacity.table import (
    PASSED_OVER_MAX,
    PEERS_MAX,
    RECORD_TTL_S,
    SHARE_MIN,
    TOMBSTONE_S,
    TOMBSTONES_MAX,
    CapacityTable,
    check,
)
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from tests.core.capacity.support import FRIEND, OTHER, A, B, C, hear, record, sealed


def alive(table: CapacityTable, now: float) -> list[PeerId]:
    return [peer for peer, _ in table.alive(now)]


versions = st.tuples(st.integers(0, 3), st.integers(0, 3))


# --- the newest wins ------------------------------------------------------------------------------


@given(st.lists(versions, min_size=1, max_size=10), st.floats(0, 1e9))
# CAP-3
def test_any_order_of_delivery_ends_in_the_newest(
    arrivals: list[tuple[int, int]], now: float
) -> None:
    table = CapacityTable()
    newest: tuple[int, int] | None = None
    for version in arrivals:
        outcome = hear(table, A, version, now)
        assert outcome == ("new" if newest is None else "updated" if version > newest else "stale")
        newest = version if newest is None else max(newest, version)
        assert table.alive(now) == [(A, record(*newest))]
    assert newest == max(arrivals)


@given(
    st.lists(
        st.tuples(versions, st.sampled_from([FRIEND, OTHER]), st.floats(0, RECORD_TTL_S - 1)),
        min_size=1,
    ),
    st.randoms(),
)
def test_order_repetition_and_carriers_change_nothing(
    arrivals: list[tuple[tuple[int, int], PeerId, float]], rng: object
) -> None:
    shuffled = arrivals * 2
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    tables = CapacityTable(), CapacityTable()
    for table, order in zip(tables, (arrivals, shuffled), strict=True):
        for version, carrier, age_s in order:
            hear(table, A, version, 1000.0, age_s, carrier)
    assert tables[0].alive(1000.0) == tables[1].alive(1000.0)


def test_the_same_bytes_are_known_and_do_not_live_longer() -> None:  # CAP-4
    table = CapacityTable()
    assert not table.holds(sealed(A), 0.0)
    assert hear(table, A) == "new"
    assert table.holds(sealed(A), 10.0)
    assert hear(table, A, now=10.0) == "stale"
    assert alive(table, RECORD_TTL_S - 0.1) == [A]
    assert alive(table, RECORD_TTL_S) == []
    assert not table.holds(sealed(A), RECORD_TTL_S)


def test_an_older_record_is_not_held_any_more() -> None:
    table = CapacityTable()
    hear(table, A, (1, 0))
    hear(table, A, (1, 1))
    assert not table.holds(sealed(A, 1, 0), 0.0)
    assert table.holds(sealed(A, 1, 1), 0.0)


def test_a_restart_counts_from_zero_again() -> None:
    table = CapacityTable()
    hear(table, A, (5, 1_000), 0.0)
    assert hear(table, A, (6, 0), 1.0) == "updated"
    assert hear(table, A, (5, 1_001), 2.0) == "stale"
    assert table.get(A) == record(6, 0)


def test_peers_do_not_share_their_counting() -> None:
    table = CapacityTable()
    hear(table, A, (9, 9))
    assert hear(table, B, (1, 0)) == "new"
    assert table.alive(0.0) == [(A, record(9, 9)), (B, record(1, 0))]


# --- age ------------------------------------------------------------------------------------------


def test_a_record_is_as_old_as_its_carrier_says_and_lives_for_the_rest() -> None:
    table = CapacityTable()
    assert hear(table, A, now=100.0, age_s=60.0) == "new"
    assert table._entries[A].born_at == 40.0
    assert alive(table, 40.0 + RECORD_TTL_S - 0.1) == [A]
    assert alive(table, 40.0 + RECORD_TTL_S) == []


def test_a_record_beyond_its_time_is_not_taken() -> None:  # CAP-5
    table = CapacityTable()
    assert hear(table, A, now=100.0, age_s=RECORD_TTL_S) == "old"
    assert len(table) == 0


def test_a_carrier_that_says_less_or_more_changes_nothing_about_bytes_that_are_known() -> None:
    table = CapacityTable()
    hear(table, A, now=0.0, age_s=10.0)
    assert hear(table, A, now=5.0, age_s=0.0, by=OTHER) == "stale"
    assert hear(table, A, now=5.0, age_s=80.0, by=OTHER) == "stale"
    assert table._entries[A].born_at == -10.0


def test_what_is_given_is_never_younger_than_it_was_when_it_came() -> None:
    table = CapacityTable()
    hear(table, A, now=10.0, age_s=7.0)
    (entry,) = table.give(5, 30.0, OTHER, ())
    assert 30.0 - entry.born_at == 27.0


def test_what_is_too_old_is_swept_away_and_what_is_connected_stays() -> None:
    table = CapacityTable()
    table.peer_connected(A)
    for peer in (A, B, C):
        hear(table, peer, now=0.0 if peer != C else 50.0)
    table.sweep(RECORD_TTL_S)
    assert alive(table, RECORD_TTL_S) == [A, C]
    assert len(table) == 2


# --- clocks from the future -----------------------------------------------------------------------


@pytest.mark.parametrize("connected", [False, True])
# CAP-5
def test_a_boot_from_the_future_locks_its_peer_out_no_longer_than_a_record_lives(
    connected: bool,
) -> None:
    table = CapacityTable()
    if connected:
        table.peer_connected(A)
    hear(table, A, (2**63 - 1, 2**32 - 1), 0.0)
    times = (3.0, RECORD_TTL_S - 1, RECORD_TTL_S, RECORD_TTL_S + 3)
    outcomes = [hear(table, A, (1_700_000_000_000, seq), t) for seq, t in enumerate(times)]
    assert outcomes == ["stale", "stale", "new", "updated"]
    assert table.get(A) == record(1_700_000_000_000, 3)


def test_a_clock_that_runs_backwards_stands_still() -> None:
    table = CapacityTable()
    hear(table, A, now=100.0)
    hear(table, B, now=50.0)
    assert alive(table, 99.0 + RECORD_TTL_S) == [A, B]
    assert alive(table, 0.0) == [A, B]
    assert alive(table, 100.0 + RECORD_TTL_S) == []


# --- ghosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["dial failed", "lost"])
def test_who_was_found_gone_is_not_believed_in_again_by_the_same_word(way: str) -> None:  # CAP-12
    table = CapacityTable()
    if way == "lost":
        table.peer_connected(A)
    hear(table, A, (1, 5))
    table.peer_lost(A, 1.0) if way == "lost" else table.dial_failed(A, 1.0)
    assert table.get(A) is None
    assert [hear(table, A, (1, seq), 2.0) for seq in (0, 5)] == ["tombstoned"] * 2
    assert hear(table, A, (0, 99), 2.0) == "tombstoned"
    assert hear(table, A, (1, 6), 2.0) == "new"


def test_a_tombstone_ends_after_its_time_and_at_once_when_its_author_connects() -> None:
    table = CapacityTable()
    hear(table, A)
    table.dial_failed(A, 0.0)
    assert hear(table, A, now=TOMBSTONE_S - 0.1) == "tombstoned"
    assert hear(table, A, now=TOMBSTONE_S) == "new"
    table.dial_failed(A, TOMBSTONE_S)
    table.peer_connected(A)
    assert hear(table, A, now=TOMBSTONE_S) == "new"


def test_a_failed_dial_says_nothing_about_a_peer_that_is_connected() -> None:
    table = CapacityTable()
    table.peer_connected(A)
    hear(table, A)
    table.dial_failed(A, 0.0)
    assert table.get(A) == record()


def test_the_graveyard_is_bounded_and_its_oldest_graves_go_first() -> None:
    table = CapacityTable()
    for i in range(TOMBSTONES_MAX + 1):
        hear(table, PeerId(f"ghost {i}"))
        table.dial_failed(PeerId(f"ghost {i}"), 0.0)
    assert hear(table, PeerId("ghost 0")) == "new"
    assert hear(table, PeerId("ghost 1")) == "tombstoned"


# --- what is passed on ----------------------------------------------------------------------------


def given_by(
    table: CapacityTable,
    count: int,
    now: float = 10.0,
    to: PeerId = OTHER,
    but: tuple[bytes, ...] = (),
) -> list[PeerId]:
    return [entry.peer for entry in table.give(count, now, to, but)]


def test_the_youngest_goes_first_and_what_was_given_comes_later() -> None:  # CAP-7
    table = CapacityTable()
    for age_s, peer in ((3.0, A), (1.0, B), (2.0, C)):
        hear(table, peer, now=10.0, age_s=age_s)
    assert given_by(table, 2) == [B, C]
    assert given_by(table, 2) == [A, B]
    hear(table, C, (1, 1), 10.0)
    assert given_by(table, 1) == [C]


# CAP-7
def test_nobody_is_given_its_own_record_nor_what_it_brought_nor_what_it_just_said() -> None:
    table = CapacityTable()
    for peer in (A, B, C, OTHER):
        hear(table, peer, now=10.0, by=FRIEND if peer != B else OTHER)
    assert given_by(table, 4, to=OTHER, but=(sealed(C),)) == [A]
    assert sorted(given_by(table, 4, to=PeerId("third"))) == [A, B, C, OTHER]
    assert given_by(table, 4, to=FRIEND) == [B]


def test_what_is_too_old_is_not_given_even_of_connected_peers_until_it_is_renewed() -> None:
    table = CapacityTable()
    table.peer_connected(A)
    hear(table, A)
    assert given_by(table, 1, RECORD_TTL_S) == []
    hear(table, A, (1, 1), RECORD_TTL_S)
    assert given_by(table, 1, RECORD_TTL_S) == [A]


def test_a_receiver_that_has_everything_costs_a_bounded_look() -> None:
    table = CapacityTable()
    for i in range(PASSED_OVER_MAX):
        hear(table, PeerId(f"p{i}"), now=10.0, by=OTHER)
    hear(table, A, now=10.0, age_s=1.0)
    assert given_by(table, 1) == []
    assert given_by(table, 1, to=FRIEND) != []


def test_records_that_change_for_ever_do_not_fill_the_memory() -> None:
    table = CapacityTable(peers_max=16)
    for seq in range(1000):
        hear(table, A, (1, seq), 0.0)
        assert len(table._line) <= 2 * 16 + 1
    assert given_by(table, 1, 0.0) == [A]


# --- bounds ---------------------------------------------------------------------------------------


def test_whoever_invents_authors_fills_only_its_own_share() -> None:  # CAP-11
    table = CapacityTable(peers_max=4 * SHARE_MIN)
    for peer in (FRIEND, OTHER):
        table.peer_connected(peer)
    honest = [PeerId(f"honest {i}") for i in range(SHARE_MIN)]
    for peer in honest:
        hear(table, peer, by=FRIEND)
    for i in range(1000):
        assert hear(table, PeerId(f"invented {i:04}"), by=OTHER) == "new"
    assert set(honest) <= set(alive(table, 0.0))
    share = 4 * SHARE_MIN // 2
    assert [peer for peer in alive(table, 0.0) if peer not in honest] == [
        f"invented {i:04}" for i in range(1000 - share, 1000)
    ]


def test_a_record_that_a_flooder_brings_again_is_counted_for_who_brought_it_first() -> None:
    table = CapacityTable(peers_max=4 * SHARE_MIN)
    for peer in (FRIEND, OTHER):
        table.peer_connected(peer)
    hear(table, A, (1, 0), by=FRIEND)
    hear(table, A, (1, 1), by=OTHER)
    for i in range(1000):
        hear(table, PeerId(f"invented {i}"), by=OTHER)
    assert table.get(A) == record(1, 1)


def test_a_flood_pushes_out_those_of_who_brought_most_and_never_a_connected_peer() -> None:
    table = CapacityTable(peers_max=4)
    for peer in (A, B):
        table.peer_connected(peer)
        hear(table, peer)
    hear(table, C, by=A)
    for i in range(100):
        assert hear(table, PeerId(f"stranger {i}"), by=B) == "new"
    assert len(table) == 4
    assert alive(table, 0.0) == [A, B, PeerId("stranger 98"), PeerId("stranger 99")] or C in alive(
        table, 0.0
    )
    assert {A, B} <= set(alive(table, 0.0))


def test_a_table_full_of_connected_peers_takes_no_stranger_but_hears_its_own() -> None:
    table = CapacityTable(peers_max=2)
    for peer in (A, B):
        table.peer_connected(peer)
        hear(table, peer)
    assert hear(table, C) == "full"
    assert hear(table, A, (1, 1)) == "updated"
    assert alive(table, 0.0) == [A, B]


def test_the_standard_table_holds_its_bound() -> None:
    table = CapacityTable()
    for i in range(PEERS_MAX + 50):
        hear(table, PeerId(f"peer {i:06}"), by=PeerId(f"carrier {i % 50}"))
    assert len(table) == PEERS_MAX


# --- records that contradict themselves -----------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"sessions_free": 5, "sessions_max": 4},
        {"sessions_free": 1, "sessions_max": 0},
        {"context_max": 0},
        {"model": "a\x1b[2Jb"},
        {"model": "a\nb"},
        {"model": "[/x]"},
        {"model": "shaking \U0001fae8"},  # Printable on Python 3.12 and not on 3.11.
        {"model": " a"},
        {"domains": ("B\u00fccher",)},
        {"addrs": ("/ip6/fe80::1%eth0/tcp/1",)},
        {"domains": ("prose", "co\x07de")},
        {"addrs": ("/ip4/192.0.2.7/tcp/1\u202e",)},
    ],
)
# CAP-1
def test_a_record_that_contradicts_itself_is_a_peer_fault(changes: dict[str, object]) -> None:
    with pytest.raises(RemoteError, match=r"^capacity record: "):
        check(A, record(2, 0, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"sessions_free": 4, "sessions_max": 4},
        {"sessions_free": 0, "sessions_max": 0},
        {"rate": 0, "n_params": 0, "queue_depth": 65_535},
        {"domains": (), "addrs": ()},
        {"model": "Prosa (alt), v1.0+x@y:z/w_"},
    ],
)
def test_the_ends_of_what_makes_sense_are_accepted(changes: dict[str, object]) -> None:
    check(A, record(**changes))  # type: ignore[arg-type]
