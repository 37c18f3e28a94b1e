"""Measures how long a halt frame takes from `tell` to `received`, between two processes on
loopback, in quiet and under load. Prints; asserts nothing; both processes read the same clock:

    python -m tests.adapters.libp2p.measure_halt_stream
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Final

import trio
import trio.lowlevel

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import NetworkLimits, open_network
from swarmllm.core.inputs import Received
from swarmllm.messages import NO_HALT_DIGEST, PeerId, Score, Scores
from swarmllm.messages.declare import HALT
from swarmllm.runtime.ports import halt_channel
from tests.adapters.libp2p.halt_stream_support import Flooder
from tests.adapters.libp2p.support import members, options, raw_peer
from tests.contracts.network_contract import Door, Member

SAMPLES: Final = 200
# A busy node reads some thirty frames a second; faster samples would queue behind each other.
EVERY_S: Final = 0.1
SESSIONS: Final = 16
# An honest node sends a handful a second; this is for the samples.
LIMITS: Final = NetworkLimits(channel_frames_per_s=1_000.0)
ENOUGH: Final = b"enough"


class Echo(Door):
    """Notes the age of every frame in us, and tells all of them on request."""

    def __init__(self) -> None:
        super().__init__()
        self.ages_us: list[int] = []
        self.answer: Callable[[PeerId, bytes], None] = lambda peer, frame: None

    def received(self, peer: PeerId, frame: bytes) -> None:
        if frame == ENOUGH:
            self.answer(peer, struct.pack(f">{len(self.ages_us)}I", *self.ages_us))
            self.ages_us.clear()
        else:
            self.ages_us.append((time.monotonic_ns() - int.from_bytes(frame, "big")) // 1_000)


async def answer_everything() -> None:
    """The other process: an expert that answers at once, with 2 kB."""
    door = Echo()
    async with open_network(
        options(ephemeral_key(), channels=(halt_channel(door, ""),), limits=LIMITS)
    ) as network:
        door.answer = partial(network.send_frame, HALT)
        print(network.addrs[0], flush=True)
        async for happened in network.inputs:
            if isinstance(happened, Received) and isinstance(happened.message, Score):
                asked = happened.message
                lists = (bytes(2_000),) if len(asked.tokens) < 1_000 else ()
                network.send(
                    happened.peer,
                    Scores(
                        asked.session, asked.round, asked.epoch, lists, b"", 0, 0, NO_HALT_DIGEST
                    ),
                )


async def flood_it(addr: str) -> None:
    """A third process: two peers that send as much gossip as is taken."""
    async with raw_peer() as one, raw_peer() as two, trio.open_nursery() as nursery:
        for raw in (one, two):
            flooder = Flooder(raw)
            await flooder.connect(SimpleNamespace(addrs=(addr,), peer=addr.rpartition("/")[2]))
            nursery.start_soon(partial(flooder.run, asks=False))
        print("flooding", flush=True)


@asynccontextmanager
async def process(*words: str) -> AsyncIterator[str]:
    """A process of this module; its first line."""
    command = [sys.executable, "-m", "tests.adapters.libp2p.measure_halt_stream", *words]
    async with trio.open_nursery() as nursery:
        child = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        )
        line = b""
        while not line.endswith(b"\n"):
            line += await child.stdout.receive_some()
        try:
            yield line.decode().strip()
        finally:
            child.kill()


async def sessions(us: Member, peer: PeerId) -> None:
    """Sixteen answers at full speed: 600 B up, 2 kB down, the next round when the last is there."""
    done: dict[int, trio.Event] = {}

    async def one(session: int) -> None:
        for turn in range(1 << 30):
            done[session] = trio.Event()
            us.network.send(
                peer,
                Score(
                    session, turn, 0, 0, bytes(8), tuple(range(130)), (), (), 1, 0, NO_HALT_DIGEST
                ),
            )
            await done[session].wait()
            us.told.clear()

    rounds = 0
    began = time.monotonic()
    note = us._wake

    def wake() -> None:
        nonlocal rounds
        match us.told[-1:]:
            case [Received(message=Scores(session=session))]:
                rounds += 1
                done[session].set()
            case _:
                pass
        note()

    us._wake = wake  # type: ignore[method-assign]
    try:
        async with trio.open_nursery() as nursery:
            for session in range(SESSIONS):
                nursery.start_soon(one, session)
    finally:
        us._wake = note  # type: ignore[method-assign]
        print(f"    ({rounds / (time.monotonic() - began):.0f} rounds/s over {SESSIONS} sessions)")


async def bulk(us: Member, peer: PeerId) -> None:
    """Prompts of 64 KB, forty under way, as fast as they are taken."""
    link = us.network._links.of(peer)  # type: ignore[attr-defined]
    while True:
        if len(link._ask._queue) < 40:
            us.network.send(
                peer,
                Score(1, 0, 0, 0, bytes(8), tuple(range(16_000)), (), (), 1, 0, NO_HALT_DIGEST),
            )
        await trio.lowlevel.checkpoint()
        us.told.clear()


async def measure(
    name: str,
    us: Member,
    peer: PeerId,
    load: Callable[[Member, PeerId], Awaitable[None]] | None = None,
) -> None:
    async with trio.open_nursery() as nursery:
        if load is not None:
            nursery.start_soon(load, us, peer)
            await trio.sleep(1.0)
        for _ in range(SAMPLES):
            us.network.send_frame(HALT, peer, time.monotonic_ns().to_bytes(8, "big"))
            await trio.sleep(EVERY_S)
        nursery.cancel_scope.cancel()
    us.door.calls.clear()
    us.network.send_frame(HALT, peer, ENOUGH)
    data = await us.door.sees("received", peer)
    ages = sorted(struct.unpack(f">{len(data) // 4}I", data))
    p50, p99 = ages[len(ages) // 2] / 1e3, ages[int(0.99 * len(ages))] / 1e3
    print(
        f"{name:44} n={len(ages)}  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  max {ages[-1] / 1e3:6.2f}"
        " ms",
        flush=True,
    )


async def main() -> None:
    async with process("expert") as addr, members(1, limits=LIMITS) as (us,):
        peer = PeerId(addr.rpartition("/")[2])
        us.network.dial(peer, (addr,))
        await us.door.sees("opened", peer)
        await measure("idle", us, peer)
        await measure("16 sessions at full speed", us, peer, sessions)
        await measure("prompts of 64 KB at full speed", us, peer, bulk)
        async with process("flooders", addr):
            await measure("two flooders", us, peer)
            await measure("two flooders and 16 sessions", us, peer, sessions)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["expert"]:
            trio.run(answer_everything)
        case ["flooders", where]:
            trio.run(flood_it, where)
        case _:
            trio.run(main)
