"""Laws of giving way: a crowd from few places costs itself its place, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.eviction import Block, Guest, block_of, evicted, hurried, spared


def block(number: int) -> Block:
    return Block(f"10.0.{number}.0/24", "10.0.0.0/16")


Guests = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.floats(0, 1e4),
        st.integers(0, 3),
        st.booleans(),
        st.floats(0.001, 1.0) | st.just(float("inf")),
    ),
    max_size=60,
).map(lambda rows: [Guest(key, block(row[0]), *row[1:]) for key, row in enumerate(rows)])


@given(Guests)
def test_whoever_comes_from_a_fresh_block_gets_in(guests: list[Guest]) -> None:
    assert (evicted(guests, block(99)) is None) == (not guests)


@given(Guests, st.integers(0, 7))
def test_the_spared_stay_whoever_comes(guests: list[Guest], where: int) -> None:
    assert evicted(guests, block(where)) not in spared(guests)
    assert evicted(guests, None) not in spared(guests)


@given(Guests, st.integers(0, 7))
def test_who_goes_is_of_the_most_crowded_block_and_the_youngest_there(
    guests: list[Guest], where: int
) -> None:
    key = evicted(guests, block(where))
    left = [one for one in guests if one.key not in spared(guests)]
    crowd = {one.block: [other for other in left if other.block == one.block] for one in left}
    fullest = max(map(len, crowd.values()), default=0)
    if key is None:
        assert not left or len(crowd.get(block(where), [])) == fullest
    else:
        (gone,) = [one for one in guests if one.key == key]
        assert len(crowd[gone.block]) == fullest > len(crowd.get(block(where), []))
        assert all(other.since <= gone.since for other in crowd[gone.block])


@given(
    st.integers(1, 8),
    st.lists(
        st.tuples(st.integers(0, 11), st.booleans(), st.sampled_from([0.001, 0.1, float("inf")])),
        min_size=1,
        max_size=300,
    ),
)
def test_a_crowd_from_few_blocks_displaces_neither_the_useful_nor_the_old(
    honest: int, attackers: list[tuple[int, bool, float]]
) -> None:
    """Of 64 places, eight are held by peers that answered rounds and sixteen by peers that were
    there first; then attackers come, who look near and like peers of our swarm, but whom we never
    asked."""
    most = 64
    useful = [Guest(key, block(100 + key), 100.0, answered=1 + key) for key in range(honest)]
    old = [Guest(1000 + key, block(200 + key), float(key)) for key in range(16)]
    guests = [*useful, *old]
    for number, (where, is_same_swarm, ping_s) in enumerate(attackers):
        if len(guests) >= most:
            key = evicted(guests, block(where))
            if key is None:
                continue
            guests = [one for one in guests if one.key != key]
        guests.append(
            Guest(10_000 + number, block(where), 200.0 + number, 0, is_same_swarm, ping_s)
        )
        assert len(guests) <= most
    here = {one.key for one in guests}
    assert here >= {one.key for one in useful}
    assert here >= {one.key for one in old[:8]}


@given(st.lists(st.integers(0, 3), min_size=64, max_size=200))
def test_after_any_flood_from_four_blocks_a_dozen_newcomers_from_blocks_of_their_own_are_all_there(
    flood: list[int],
) -> None:
    most = 64
    guests: list[Guest] = []

    def come(number: int, where: int) -> None:
        if len(guests) >= most:
            key = evicted(guests, block(where))
            if key is None:
                return
            guests[:] = [one for one in guests if one.key != key]
        guests.append(Guest(number, block(where), float(number)))

    for number, where in enumerate(flood):
        come(number, where)
    newcomers = range(1_000, 1_012)
    for number in newcomers:
        come(number, number)
        for where in range(4):  # The flood goes on.
            come(10 * number + where, where)
    assert {one.key for one in guests} >= set(newcomers)


def test_the_wider_network_decides_between_blocks_that_are_equally_crowded() -> None:
    """Whoever has a /48 has 65,536 blocks."""
    rented = [Guest(key, block_of(f"2001:db8:1:{key:x}::1"), float(key)) for key in range(20)]
    single = [
        Guest(100 + key, block_of(f"2001:db8:{key + 2:x}::1"), key + 0.5) for key in range(20)
    ]
    gone = evicted([*rented, *single], block_of("192.0.2.1"))
    assert gone == 19  # Although the youngest is one of the others.


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("64:ff9b::203.0.113.77", "203.0.113.0/24"),
        ("2002:cb00:714d::1", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_blocks_are_what_one_party_has(host: str, name: str) -> None:
    assert block_of(host).name == name
    assert not block_of(host).is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_no_block_of_others(host: str) -> None:
    assert block_of(host).is_local


# --- handshakes -----------------------------------------------------------------------------------

Comers = st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=150)


@given(Comers)
def test_handshakes_are_bounded_and_each_comer_gets_one(comers: list[tuple[int, bool]]) -> None:
    most, share = 16, 4
    waiting: dict[int, Block] = {}
    for number, (where, finishes) in enumerate(comers):
        late = hurried(waiting, block(where), most, share)
        if late is not None:
            counts = list(waiting.values())
            gone = waiting.pop(late)
            assert counts.count(gone) == share or (
                len(counts) == most and counts.count(gone) >= counts.count(block(where))
            )
        waiting[number] = block(where)
        assert len(waiting) <= most
        assert list(waiting.values()).count(block(where)) <= share
        if finishes:
            del waiting[number]


@given(st.lists(st.integers(0, 7), min_size=16, max_size=100))
def test_no_flood_from_eight_blocks_ends_a_handshake_from_a_block_of_its_own(
    flood: list[int],
) -> None:
    most, share = 16, 4
    waiting: dict[int, Block] = {}
    for number, where in enumerate([*flood, 99, *flood]):
        late = hurried(waiting, block(where), most, share)
        if late is not None:
            assert waiting.pop(late) != block(99)
        waiting[number] = block(where)
    assert block(99) in waiting.values()
