"""The world's models of connections, gossip and look-ups beside real py-libp2p on loopback: `python
-m tests.adapters.libp2p.measure_world`. Prints a table; asserts nothing. The real hosts share one
process and one event loop, so that their work comes on top of every delay, which the world leaves
out or names (`Overlay.hop_s`); the delay proxy in front of each makes loopback a distance."""

from __future__ import annotations

import random
import statistics
import sys
import time
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from swarmllm.core.inputs import AddressesFound, ChannelOpened, PeerConnected
from swarmllm.messages import ExpertRecord, PeerId
from swarmllm.messages.declare import HALT
from swarmllm.testing.proxy import Link, open_proxy
from swarmllm.testing.world import Checker, Host, LinkModel, Overlay, Spec, World
from swarmllm.wire.envelope import seal
from tests.adapters.libp2p.support import members
from tests.contracts.network_contract import Member

SIZES: Final = (10, 25)
DELAYS_S: Final = (0.0, 0.02)
DIALS: Final = 4  # Of each host: some eight connections.
RECORDS: Final = 20
LOOK_UPS: Final = 10
KEY: Final = bytes(range(32))
WITHIN_S: Final = 5.0

Figures = dict[str, list[float]]
Edges = list[tuple[int, int]]


def edges_of(count: int, seed: int) -> Edges:
    """Each host dials some others; the same graph for both."""
    rng = random.Random(seed)
    found = {tuple(sorted((one, (one + 1) % count))) for one in range(count)}
    for one in range(count):
        found |= {
            tuple(sorted((one, two)))
            for two in rng.sample([n for n in range(count) if n != one], DIALS - 1)
        }
    return sorted((one, two) for one, two in found)


# --- py-libp2p ------------------------------------------------------------------------------------


async def real(count: int, delay_s: float) -> Figures:
    figures: Figures = {
        "connected": [],
        "control": [],
        "gossip": [],
        "gossip, all": [],
        "look-up": [],
    }
    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(members(count))
        ports = []
        for member in hosts:
            port = int(member.network.addrs[0].split("/")[4])
            proxy = await stack.enter_async_context(open_proxy("127.0.0.1", port, Link(delay_s)))
            ports.append(proxy.port)
        for one, two in edges_of(count, 1):
            await _dial(hosts[one], hosts[two], ports[two], figures)
        await trio.sleep(4.0)  # Some heartbeats, until the meshes stand.
        rng = random.Random(2)
        for number in range(RECORDS):
            await _publish(hosts, rng.randrange(count), number.to_bytes(160, "big"), figures)
        await _look_up(hosts, rng, figures)
    return figures


async def _dial(caller: Member, called: Member, port: int, figures: Figures) -> None:
    began = time.monotonic()
    caller.network.dial(called.peer, (f"/ip4/127.0.0.1/tcp/{port}",))
    await caller.hears(PeerConnected, lambda one: one.peer == called.peer)
    figures["connected"].append(time.monotonic() - began)
    await caller.door.sees("opened", called.peer)
    figures["control"].append(time.monotonic() - began)


async def _publish(hosts: Any, origin: int, record: bytes, figures: Figures) -> None:
    """By gossip alone: nobody writes it to a halt stream."""
    times: list[float] = []
    done = trio.Event()
    for host in hosts:
        heard = type(host.door).heard

        def note(forwarder: PeerId, data: bytes, door: Any = host.door, heard: Any = heard) -> bool:
            passes: bool = heard(door, forwarder, data)
            if passes and data == record:
                times.append(time.monotonic())
                if len(times) >= len(hosts) - 1:
                    done.set()
            return passes

        host.door.heard = note
    began = time.monotonic()
    hosts[origin].network.publish(HALT, record)
    with trio.move_on_after(WITHIN_S):
        await done.wait()
    figures["gossip"] += [at - began for at in times]
    figures["gossip, all"].append(max(times) - began if done.is_set() else WITHIN_S)
    await trio.sleep(0.2)


async def _look_up(hosts: Any, rng: random.Random, figures: Figures) -> None:
    for number, host in enumerate(hosts):
        record = ExpertRecord(
            1, "demo", bytes(32), KEY, 1, (f"/ip4/127.0.0.1/tcp/{4000 + number}",)
        )
        host.network.advertise(KEY, seal(record, host.keyring.public_key, host.keyring.sign))
    await trio.sleep(5.0)
    for asker in rng.sample(range(len(hosts)), min(LOOK_UPS, len(hosts))):
        before, began = hosts[asker].count(AddressesFound), time.monotonic()
        hosts[asker].network.look_up(KEY)
        with trio.move_on_after(WITHIN_S):
            await hosts[asker].hears(AddressesFound, skip=before)
        figures["look-up"].append(time.monotonic() - began)


# --- the world ------------------------------------------------------------------------------------


class Notes(Checker):
    """When each host was connected, had its halt stream, heard a record first, and was told of a
    provider."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, PeerId, object], float] = {}

    def stepped(self, host: Host, event: object) -> None:
        match event:
            case PeerConnected(peer=peer):
                self.at.setdefault(("connected", host.peer, peer), self.world.now)
            case ChannelOpened(peer=peer):
                self.at.setdefault(("control", host.peer, peer), self.world.now)
            case ("heard", _, record):
                self.at.setdefault(("heard", host.peer, record), self.world.now)
            case AddressesFound(source="dht"):
                self.at.setdefault(("found", host.peer, int(self.world.now)), self.world.now)
            case _:
                pass


def simulated(count: int, delay_s: float) -> Figures:
    figures: Figures = {
        "connected": [],
        "control": [],
        "gossip": [],
        "gossip, all": [],
        "look-up": [],
    }
    notes = Notes()
    world = World(
        1, link=LinkModel(delay_s or 0.00005, sigma=0.0), overlay=Overlay(), checkers=[notes]
    )
    hosts = [world.add(Spec(model=None), starts=False) for _ in range(count)]
    for host in hosts:
        world.start(host, introduced=0)
    for one, two in edges_of(count, 1):
        began = world.now
        world.network.dial(hosts[one], hosts[two].peer, hosts[two].addrs)
        world.run_for(2.0)
        for what in ("connected", "control"):
            figures[what].append(notes.at[what, hosts[one].peer, hosts[two].peer] - began)
    world.run_for(4.0)
    world.network.tell = lambda *_: None  # type: ignore[method-assign]  # By gossip alone.
    rng = random.Random(2)
    for seq in range(1, RECORDS + 1):
        origin, record, began = rng.randrange(count), world.founders.halt(seq), world.now
        hosts[origin].import_record(record)
        world.network.gossip(hosts[origin], record)
        world.run_for(WITHIN_S)
        times = [
            at - began
            for (what, peer, data), at in notes.at.items()
            if what == "heard" and data == record
        ]
        figures["gossip"] += times
        figures["gossip, all"].append(max(times) if len(times) >= count - 1 else WITHIN_S)
    for host in hosts:
        world.network.advertise(host, KEY, host.addrs)
    for asker in rng.sample(range(count), min(LOOK_UPS, count)):
        began = world.now
        world.network.look_up(hosts[asker], KEY)
        world.run_for(2.0)
        figures["look-up"].append(
            min(at for (what, _, _), at in notes.at.items() if what == "found" and at > began)
            - began
        )
    return figures


def main() -> int:
    print(
        f"{'':34}{'py-libp2p':>24}{'the world':>24}\n"
        f"{'ms':34}{'median':>12}{'most':>12}{'median':>12}{'most':>12}"
    )
    for count in SIZES:
        for delay_s in DELAYS_S:
            pairs = (trio.run(real, count, delay_s), simulated(count, delay_s))
            for name in pairs[0]:
                shown = "".join(
                    f"{1000 * statistics.median(f[name]):12.1f}{1000 * max(f[name]):12.1f}"
                    for f in pairs
                )
                print(
                    f"{f'{count} hosts, {1000 * delay_s:.0f} ms apart: {name}':34}{shown}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
