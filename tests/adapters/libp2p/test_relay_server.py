"""The life of a circuit at a relay, step by step on a virtual clock: how long it may last, and what
becomes of one whose end reads nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing
from libp2p.network.stream.exceptions import StreamReset
from libp2p.utils.varint import encode_varint_prefixed

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import relay_messages as messages
from swarmllm.adapters.libp2p.relay_server import RelayServer
from swarmllm.adapters.libp2p.relay_stream import LINGER_S
from swarmllm.core.peers.relay_quota import RelayLimits, RelayStatus
from swarmllm.messages import PeerId
from tests.clock import under_mock_clock

LIMITS = RelayLimits()


class End:
    """The relay's end of a stream: what the peer sends is put into it, and it keeps what the relay
    writes, for as long as the peer reads."""

    def __init__(self, peer: PeerId) -> None:
        identity = SimpleNamespace(to_base58=lambda: str(peer))
        self.muxed_conn = SimpleNamespace(
            peer_id=identity, circuit=None, get_remote_address=lambda: ("8.8.8.8", 7339)
        )
        self.written = bytearray()
        self.reads = trio.Event()  # The peer does.
        self.reads.set()
        self.is_over = False
        self._sent = bytearray()
        self._news = trio.Event()

    def send(self, data: bytes) -> None:
        self._sent += data
        self._wake()

    async def read(self, n: int) -> bytes:
        while not self._sent:
            if self.is_over:
                raise StreamReset("the stream is over")
            await self._news.wait()
        data = bytes(self._sent[:n])
        del self._sent[:n]
        return data

    async def write(self, data: bytes) -> None:
        await self.reads.wait()
        self.written += data

    async def close(self) -> None:
        self.is_over = True
        self._wake()

    reset = close

    def _wake(self) -> None:
        before, self._news = self._news, trio.Event()
        before.set()


class Relay:
    """A relay at which `target` holds a reservation, and a circuit there from `source`."""

    def __init__(self, source: End, target: End) -> None:
        self.source, self.target = source, target
        self.peers = [PeerId(one.muxed_conn.peer_id.to_base58()) for one in (source, target)]
        link = SimpleNamespace(conn=None, peer=self.peers[1], is_over=False, is_relayed=False)
        host: Any = SimpleNamespace(open_stream=self._open_stream)
        links: Any = SimpleNamespace(of=lambda _: link, _by_conn={None: link})
        self.server = RelayServer(host, links, list, LIMITS)

    async def _open_stream(self, _conn: Any, _protocols: Any) -> End:
        return self.target

    async def circuit(self) -> None:
        """Until it is over."""
        self.source.send(encode_varint_prefixed(messages.connect(self.peers[1])))
        self.target.send(encode_varint_prefixed(messages.stop_status(RelayStatus.OK)))
        await self.server.answer(self.source)
        await self.source.reset()  # As the host does with a stream whose handler has returned.

    @property
    def lent(self) -> tuple[int, int]:
        return self.server.figures["circuits"], self.server.figures["reservations"]


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Relay, trio.Event]]:
    """With a circuit that has begun; the event: it is over."""
    relay = Relay(End(PeerId(ephemeral_key().peer)), End(PeerId(ephemeral_key().peer)))
    reserving = End(relay.peers[1])
    reserving.send(encode_varint_prefixed(messages.reserve()))
    await relay.server.answer(reserving)
    over = trio.Event()

    async def circuit() -> None:
        await relay.circuit()
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(circuit)
        await trio.testing.wait_all_tasks_blocked()
        assert relay.lent == (1, 1)
        yield relay, over
        nursery.cancel_scope.cancel()


@under_mock_clock
async def test_who_reads_nothing_for_ten_seconds_loses_the_circuit_and_no_more() -> None:
    async with running() as (relay, over):
        relay.target.reads = trio.Event()
        began = trio.current_time()
        relay.source.send(b"a question")
        await over.wait()
        lasted_s = trio.current_time() - began
        assert LIMITS.stall_s <= lasted_s <= LIMITS.stall_s + LINGER_S
        assert relay.source.is_over
        assert relay.target.is_over
        assert b"a question" not in relay.target.written
        assert relay.lent == (0, 1)


@under_mock_clock
async def test_who_reads_again_before_ten_seconds_have_passed_has_lost_nothing() -> None:
    async with running() as (relay, over):
        relay.target.reads = trio.Event()
        for number in range(40):
            relay.source.send(b"question %d." % number)
        await trio.sleep(LIMITS.stall_s - 0.5)
        relay.target.reads.set()
        relay.target.send(b"an answer")
        await trio.sleep(1.0)
        assert not over.is_set()
        said = b"".join(b"question %d." % number for number in range(40))
        assert bytes(relay.target.written).endswith(said)
        assert bytes(relay.source.written).endswith(b"an answer")


def test_a_circuit_in_use_ends_after_two_hours() -> None:
    trio.run(used_for_hours, clock=trio.testing.MockClock(autojump_threshold=0))


async def used_for_hours() -> None:
    async with running() as (relay, over):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def ping() -> None:
                while True:
                    relay.source.send(b"ping")
                    relay.target.send(b"pong")
                    await trio.sleep(5.0)

            nursery.start_soon(ping)
            await over.wait()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == LIMITS.circuit_s
        assert bytes(relay.target.written).count(b"ping") == LIMITS.circuit_s / 5
        assert relay.source.is_over
        assert relay.target.is_over
        assert relay.lent[0] == 0
