"""Addresses through relays fit the records and come out of them whole."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.peers.relayed import halves, told_the_dht, whole
from swarmllm.messages import RECORD_ADDR_MAX, RECORD_ADDRS_MAX, CapacityRecord
from swarmllm.messages.bounds import EXT_MAX
from swarmllm.wire.codec import encode
from swarmllm.wire.ext import CHAT_DIGEST, addition, relayed
from swarmllm.wire.identity import peer_id_of

OWN: Final = peer_id_of(bytes(32))
RELAYS: Final = [peer_id_of(bytes([n]) * 32) for n in (1, 2, 3)]
LONG: Final = "/ip6/2001:1db8:1111:2222:3333:4444:5555:6666/tcp/65535"


def record(addrs: tuple[str, ...], ext: bytes) -> CapacityRecord:
    return CapacityRecord(
        *(1, 1, "model", bytes(32), bytes(32), 1, 4096, 16, 0, 1, 1, (), addrs, bytes(8), ext)
    )


def through(relay: str, at: str = LONG) -> str:
    return f"{at}/p2p/{relay}/p2p-circuit"


def test_the_address_through_a_relay_goes_into_a_record_and_comes_out_whole() -> None:
    direct = [f"/ip4/10.0.0.{n}/tcp/7339" for n in range(5)]
    addrs = [f"{one}/p2p/{OWN}" for one in (*direct, *map(through, RELAYS))]
    short, ext = halves(OWN, addrs)
    assert len(short) == RECORD_ADDRS_MAX
    assert all(len(one) <= RECORD_ADDR_MAX for one in short)
    made = record(short, addition(CHAT_DIGEST, bytes(8)) + ext)
    assert len(made.ext) + 6 <= EXT_MAX  # With the three additions that have no bytes.
    assert encode(made)
    assert whole(made) == (*direct[:2], through(RELAYS[0]))


def test_a_record_without_relays_is_as_it_was() -> None:
    addrs = tuple(f"/ip4/10.0.0.{n}/tcp/7339" for n in range(5))
    short, ext = halves(OWN, [f"{one}/p2p/{OWN}" for one in addrs])
    assert (short, ext) == (addrs[:3], b"")
    assert whole(record(short, ext)) == addrs[:3]


@given(st.integers(0, 255), st.binary(max_size=40))
def test_an_addition_that_names_nothing_says_nothing(at: int, key: bytes) -> None:
    made = record((LONG,), relayed(at, key))
    if at == 0 and len(key) == 32:
        assert whole(made) == (through(peer_id_of(key)),)
    else:
        assert whole(made) == (LONG,)


def test_the_dht_is_told_of_three_relays_however_many_interfaces_there_are() -> None:
    direct = [f"/ip4/10.0.0.{n}/tcp/7339/p2p/{OWN}" for n in range(9)]
    found = told_the_dht(OWN, [*direct, *(f"{through(one)}/p2p/{OWN}" for one in RELAYS)])
    assert found == (*direct[:5], *map(through, RELAYS))
