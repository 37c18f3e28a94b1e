"""Networks on loopback, and a peer that speaks libp2p but keeps to no rule of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.libp2p import (
    NetworkLimits,
    NetworkOptions,
    NetworkTiming,
    muxer,
    open_network,
    patches,
)
from swarmllm.adapters.libp2p.host import Host
from swarmllm.adapters.libp2p.link import EXPERT_PROTOCOL
from swarmllm.adapters.libp2p.links import libp2p_id
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.adapters.libp2p.supervisor import Supervisor
from swarmllm.adapters.libp2p.switch import Switch
from swarmllm.messages import PeerId, Ping, Pong
from swarmllm.runtime.ports import halt_channel
from swarmllm.wire.codec import EXPERT_REQUESTS, decode
from swarmllm.wire.framing import FrameReader, frame
from tests.contracts.network_contract import DEADLINE_S, Door, Member, listening

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
QUICK = NetworkTiming(
    ping_every_s=0.3,
    dead_after_s=1.5,
    ready_within_s=3.0,
    frame_within_s=0.5,
    probe_within_s=1.0,
    bootstrap_min_s=0.05,
)
"""Deadlines for tests that wait for them; everything else keeps its default."""


def options(key: KeyFile, **changes: Any) -> NetworkOptions:
    settings: dict[str, Any] = {"listen": (LOOPBACK,), "lan": False, "swarm": "test"} | changes
    return NetworkOptions(seed=key.seed, **settings)


@asynccontextmanager
async def members(count: int, **changes: Any) -> AsyncIterator[Sequence[Member]]:
    async with AsyncExitStack() as stack:
        opened: list[Member] = []
        for _ in range(count):
            opened.append(await stack.enter_async_context(member(**changes)))
        async with listening(opened):
            yield opened


@asynccontextmanager
async def member(**changes: Any) -> AsyncIterator[Member]:
    """Not yet listening."""
    key = ephemeral_key()
    door = Door()
    async with open_network(
        options(
            key,
            **({"channels": (halt_channel(door, str(changes.get("swarm", "test"))),)} | changes),
        )
    ) as network:
        yield Member(network, key, door)


class RawPeer:
    """Dials, opens streams and writes what it is told to. Answers pings only if `polite`."""

    def __init__(self, key: KeyFile, polite: bool) -> None:
        patches.apply()
        muxer.apply()
        settings = options(key, limits=NetworkLimits(streams_per_peer_max=1000))
        self.peer = key.peer
        self.switch = Switch(settings)
        self.host = Host(self.switch, settings, list, self._route, lambda peer, reason: None)
        self.polite = polite
        self.host.set_stream_handler(EXPERT_PROTOCOL, self._answer, lasting=True)

    async def _route(self, identity: Any) -> Any:
        return self.switch.get_connections(identity)[0]

    async def _answer(self, stream: Any) -> None:
        reader = FrameReader()
        while self.polite:
            for body in reader.feed(await stream.read(4096)):
                match decode(body, EXPERT_REQUESTS):
                    case Ping(nonce):
                        await stream.write(frame(Pong(nonce)))
                    case _:
                        pass
        await trio.sleep_forever()

    async def dial(self, network: Libp2pNetwork) -> Any:
        """A connection to the network, whether or not it likes us."""
        addr = Multiaddr(network.addrs[0].partition("/p2p/")[0])
        return await self.switch.dial_addr(addr, libp2p_id(PeerId(network.peer)))

    async def open(self, conn: Any, protocol: str) -> Any:
        return await self.host.open_stream(conn, [protocol])


@asynccontextmanager
async def raw_peer(polite: bool = True, key: KeyFile | None = None) -> AsyncIterator[RawPeer]:
    raw = RawPeer(key or ephemeral_key(), polite)
    async with trio.open_nursery() as nursery:
        await nursery.start(Supervisor(raw.switch).run)
        try:
            yield raw
        finally:
            raw.switch.abort_all()
            nursery.cancel_scope.cancel()


async def until(true: Callable[[], object]) -> None:
    """Look until something holds that nobody tells: the library's own state, or that nothing is
    told."""
    with trio.fail_after(DEADLINE_S):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def ended(stream: Any) -> None:
    """Until the other side has closed or reset the stream, or its connection."""
    while True:
        try:
            if not await stream.read(4096):
                return
        # Any failure to read is what is waited for; the library has a dozen types for it.
        except Exception:  # noqa: BLE001
            return
