"""Who stays listed as a provider: invented identities displace nobody who is there and says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.sharing import PER_BLOCK_MAX, STALE_S, Place, block_of, who_leaves

ROOM = 20


def fed(held: dict[str, Place], newcomers: list[tuple[str, Place]], now: float) -> dict[str, Place]:
    for name, place in newcomers:
        is_taken, leaves = who_leaves(held, place, ROOM, now)
        if is_taken:
            held = {one: at for one, at in held.items() if one != leaves} | {name: place}
    return held


def honest(now: float) -> dict[str, Place]:
    return {f"honest {i}": Place(bytes((10, 0, i)), now) for i in range(ROOM)}


@given(st.lists(st.binary(max_size=3), max_size=60))
def test_any_number_of_newcomers_displaces_nobody_who_says_that_it_is_there(blocks: list[bytes]) -> None:
    sybils = [(f"sybil {i}", Place(block, 100.0)) for i, block in enumerate(blocks)]
    assert fed(honest(0.0), sybils, 100.0) == honest(0.0)


def test_who_has_said_nothing_for_long_gives_way_the_longest_silent_first() -> None:
    held = honest(0.0) | {"gone": Place(b"\1\2\3", -STALE_S - 10), "going": Place(b"\1\2\4", -STALE_S - 1)}
    held.pop("honest 0")
    held.pop("honest 1")
    assert who_leaves(held, Place(b"\5\5\5", 0.0), ROOM, 0.0) == (True, "gone")


def test_one_address_block_has_a_share_even_where_it_comes_first() -> None:
    sybils = [(f"sybil {i}", Place(b"\1\2\3", 0.0)) for i in range(50)]
    held = fed({}, sybils, 0.0)
    assert len(held) == PER_BLOCK_MAX
    others = [(f"honest {i}", Place(bytes((10, 0, i)), 0.0)) for i in range(16)]
    assert len(fed(held, others, 0.0)) == ROOM


def test_a_stale_one_of_the_same_block_gives_way_to_a_newcomer_of_it() -> None:
    held = {f"old {i}": Place(b"\1\2\3", -STALE_S - i - 1) for i in range(PER_BLOCK_MAX)}
    assert who_leaves(held, Place(b"\1\2\3", 0.0), ROOM, 0.0) == (True, f"old {PER_BLOCK_MAX - 1}")


def test_a_block_is_a_slash_24_or_a_slash_64_and_loopback_is_none() -> None:
    assert block_of(bytes((192, 0, 2, 7))) == bytes((192, 0, 2))
    assert block_of(bytes(range(16))) == bytes(range(8))
    assert block_of(bytes((127, 0, 0, 1))) == block_of(bytes(15) + b"\1") == block_of(b"") == b""
