"""Relay messages: what a stranger may write into them is bounded and never anything but a
RemoteError."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p import relay_messages as messages
from swarmllm.adapters.libp2p.addresses import is_circuit, parse_circuit
from swarmllm.core.peers.relay_quota import RelayLimits, RelayStatus
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

# Always the same one: it is part of the names of tests.
PEER = PeerId("12D3KooWE99JggmAJt3f6wT6dnW1W5fMFhQ7Jeje4MZ338ARWPVM")
LIMITS = RelayLimits()
RELAY = f"/ip4/192.0.2.7/tcp/7339/p2p/{PEER}"


class Bytes:
    """A stream that holds these bytes and ends."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    async def read(self, n: int) -> bytes:
        data, self.left = self.left[:n], self.left[n:]
        return data


def test_what_is_written_is_read() -> None:
    assert messages.hop_request(messages.reserve()) == messages.Reserve()
    assert messages.hop_request(messages.connect(PEER)) == messages.Connect(PEER)
    assert messages.stop_request(messages.stop(PEER, LIMITS)) == PEER
    for status in RelayStatus:
        assert messages.stop_answer(messages.stop_status(status)) == status
        assert messages.hop_answer(messages.hop_status(status)).status == status
        assert status is RelayStatus.OK or messages.meaning(status) in messages.MEANING.values()
    answer = messages.hop_answer(messages.reserved(1_800_000_000, [Multiaddr(RELAY)], LIMITS))
    assert (answer.status, answer.expire) == (RelayStatus.OK, 1_800_000_000)
    assert [str(one) for one in answer.addrs] == ["/ip4/192.0.2.7/tcp/7339"]
    assert answer.addrs[0].peer == PEER


def test_the_bytes_are_those_of_the_specification() -> None:
    """By hand from circuit-v2's protocol buffers: type 1, peer 2, reservation 3, limit 4, status
    5."""
    assert messages.reserve() == bytes.fromhex("0800")
    assert messages.hop_status(RelayStatus.NO_RESERVATION) == bytes.fromhex("0802 28cc01")
    assert messages.stop_status(RelayStatus.OK) == bytes.fromhex("0801 2064")
    assert messages.connect(PEER)[:6] == bytes.fromhex("0801 1228 0a26")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_the_senders_fault(data: bytes) -> None:
    for parse in (
        messages.hop_request,
        messages.hop_answer,
        messages.stop_request,
        messages.stop_answer,
    ):
        try:
            parse(data)
        except RemoteError:
            continue


@given(st.lists(st.binary(max_size=300), max_size=40))
def test_a_relay_names_at_most_eight_addresses_that_are_some(addrs: list[bytes]) -> None:
    hop = HopMessage(type=HopMessage.STATUS)
    hop.reservation.addrs.extend([*addrs, Multiaddr(RELAY).to_bytes()])
    assert len(messages.hop_answer(hop.SerializeToString()).addrs) <= messages.ADDRS_MAX


def test_nothing_is_read_beyond_a_message_and_nothing_long_is_read_at_all() -> None:
    async def main() -> None:
        stream = Bytes(encode_varint_prefixed(messages.reserve()) + b"ciphertext")
        assert await messages.read(stream) == messages.reserve()
        assert stream.left == b"ciphertext"
        for data in (
            encode_varint_prefixed(bytes(messages.MESSAGE_MAX + 1)),
            b"\xff" * 20,
            encode_varint_prefixed(messages.connect(PEER))[:-1],
            b"",
        ):
            with pytest.raises(RemoteError):
                await messages.read(Bytes(data))

    trio.run(main)


def test_an_address_through_a_relay_names_the_relay_and_perhaps_the_peer() -> None:
    for text, peer in ((f"{RELAY}/p2p-circuit", None), (f"{RELAY}/p2p-circuit/p2p/{PEER}", PEER)):
        addr = parse_circuit(text)
        assert is_circuit(text)
        assert str(addr) == f"{RELAY}/p2p-circuit"
        assert (addr.peer, addr.relay.peer) == (peer, PEER)


@pytest.mark.parametrize(
    "text",
    [
        f"/p2p/{PEER}/p2p-circuit",
        "/ip4/192.0.2.7/tcp/7339/p2p-circuit",
        f"{RELAY}/p2p-circuit/",
        f"{RELAY}/p2p-circuit/p2p/x",
        f"{RELAY}/p2p-circuit/tcp/1",
        f"{RELAY}/p2p-circuit{RELAY}/p2p-circuit",
        f"{RELAY}/p2p-circuit/p2p-circuit",
        "/p2p-circuit",
    ],
)
def test_chains_of_relays_and_halves_of_addresses_are_none(text: str) -> None:
    with pytest.raises(RemoteError):
        parse_circuit(text)


@given(st.text(max_size=200))
def test_any_text_behind_a_relay_is_a_peer_or_the_senders_fault(text: str) -> None:
    with pytest.raises(RemoteError):
        parse_circuit(f"{RELAY}/p2p-circuit/p2p/{text}x")
