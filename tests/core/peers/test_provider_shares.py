"""Who stays listed as a provider: invented identities displace nobody who is there and says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.eviction import Block, block_of
from swarmllm.core.peers.provider_shares import (
    PER_BLOCK_MAX,
    PER_WIDE_MAX,
    STALE_S,
    Place,
    who_leaves,
)

ROOM = 20


def v4(*parts: int) -> Block:
    """The /24 that these two or three bytes begin."""
    return block_of(".".join(map(str, (*parts, 0, 0)[:3])) + ".1")


def fed(held: dict[str, Place], newcomers: list[tuple[str, Place]], now: float) -> dict[str, Place]:
    for name, place in newcomers:
        is_taken, leaves = who_leaves(held, place, ROOM, now)
        if is_taken:
            held = {one: at for one, at in held.items() if one != leaves} | {name: place}
    return held


def honest(now: float) -> dict[str, Place]:
    return {f"honest {i}": Place(v4(20 + i), now) for i in range(ROOM)}


@given(st.lists(st.ip_addresses().map(str), max_size=60))
def test_any_number_of_newcomers_displaces_nobody_who_says_that_it_is_there(
    hosts: list[str],
) -> None:
    sybils = [(f"sybil {i}", Place(block_of(host), 100.0)) for i, host in enumerate(hosts)]
    assert fed(honest(0.0), sybils, 100.0) == honest(0.0)


def test_who_has_said_nothing_for_long_gives_way_the_longest_silent_first() -> None:
    held = honest(0.0) | {
        "gone": Place(v4(1, 2, 3), -STALE_S - 10),
        "going": Place(v4(1, 2, 4), -STALE_S - 1),
    }
    held.pop("honest 0")
    held.pop("honest 1")
    assert who_leaves(held, Place(v4(5, 5, 5), 0.0), ROOM, 0.0) == (True, "gone")


def test_one_address_block_has_a_share_even_where_it_comes_first() -> None:
    sybils = [(f"sybil {i}", Place(v4(1, 2, 3), 0.0)) for i in range(50)]
    held = fed({}, sybils, 0.0)
    assert len(held) == PER_BLOCK_MAX
    others = [(f"honest {i}", Place(v4(20 + i), 0.0)) for i in range(16)]
    assert len(fed(held, others, 0.0)) == ROOM


def test_a_stale_one_of_the_same_block_gives_way_to_a_newcomer_of_it() -> None:
    held = {f"old {i}": Place(v4(1, 2, 3), -STALE_S - i - 1) for i in range(PER_BLOCK_MAX)}
    assert who_leaves(held, Place(v4(1, 2, 3), 0.0), ROOM, 0.0) == (
        True,
        f"old {PER_BLOCK_MAX - 1}",
    )


def test_a_wide_block_has_a_share_so_that_one_slash_48_does_not_take_all() -> None:
    sybils = [(f"sybil {i}", Place(block_of(f"2a00:1:1:{i:x}::1"), 0.0)) for i in range(50)]
    assert len(fed({}, sybils, 0.0)) == PER_WIDE_MAX


def test_one_host_has_one_share_in_whatever_form_its_address_comes() -> None:
    hosts = [
        "9.9.9.9",
        "::ffff:9.9.9.9",
        "64:ff9b::9.9.9.9",
        "2002:909:909:1::1",
        "2002:909:909:2::1",
        "2002:909:909:3::1",
    ]
    sybils = [(f"sybil {i}", Place(block_of(host), 0.0)) for i, host in enumerate(hosts)]
    assert len(fed({}, sybils, 0.0)) == PER_BLOCK_MAX


def test_this_machine_is_one_block_unless_nobody_else_reaches_us() -> None:
    local = [
        Place(block_of(host), 0.0) for host in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.3")
    ]
    held = {str(i): place for i, place in enumerate(local)}
    assert len(held) == PER_BLOCK_MAX
    newcomer = Place(block_of("127.9.9.9"), 0.0)
    assert who_leaves(held, newcomer, ROOM, 0.0) == (False, "")
    assert who_leaves(held, newcomer, ROOM, 0.0, is_loopback=True) == (True, "")
