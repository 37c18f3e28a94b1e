"""What a relay pays for those that it serves: processor time, memory and bytes of an idle relay by
the number of its reservations and circuits, and how fast a circuit is beside a direct connection.

    python -m scripts.relay_load [--counts 1 10 50 100] [--window 12]

The relay is `swarmllm join --model none --relay`, a process of its own; its clients are whole nodes
without models, all in one other process, each with a connection and a reservation of its own. Both
sit in a network namespace where nobody else is, so that its loopback counts their bytes. Needs root
and `ip`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any, Final, TypeVar

import psutil
import trio

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.libp2p import NetworkOptions, open_network
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.assembly import Parts, configure, network_options, open_node
from swarmllm.cli.processes import NodeProcess, open_fleet
from swarmllm.core.inputs import PeerConnected
from swarmllm.core.peers.relay_quota import RelayLimits
from swarmllm.messages import PeerId
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.ports import Network
from tests.reach.lab import MISSING, built

COUNTS: Final = (1, 10, 50, 100)
WINDOW_S: Final = 12.0
SETTLE_S: Final = 4.0  # After the last client came, for greetings and look-ups to be over.
WITHIN_S: Final = 180.0
LOOK_S: Final = 0.1
MIB: Final = 1 << 20
SENT_BYTES: Final = 32 * MIB
SENT_BOUNDED_BYTES: Final = 4 * MIB
CONNECTIONS: Final = 50
CHUNK_BYTES: Final = 64 << 10
SIZE_BYTES: Final = 8
LISTEN: Final = "/ip4/127.0.0.1/tcp/0"
BYTES_PROTOCOL: Final = "/swarmllm/measured-bytes/1"
UNBOUNDED: Final = RelayLimits(
    circuit_bytes_max=1 << 40, circuit_bytes_per_s=1 << 40, bytes_per_s=1 << 40
)


_Figure = TypeVar("_Figure")

# --- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """One relay at one number of clients, over a while in which nobody asks anything."""

    reservations: int
    circuits: int
    cpu_s_per_hour: float
    memory_bytes: int
    bytes_per_s: float  # Both ways, with the headers of TCP and IP.


def slope(loads: Sequence[Load], of: str, by: str) -> float:
    """How much `of` grows with each of `by`: least squares."""
    xs, ys = ([float(getattr(load, name)) for load in loads] for name in (by, of))
    return linear_regression(xs, ys).slope


# --- the clients' process -------------------------------------------------------------------------


class Clients:
    """Nodes without models that listen nowhere."""

    def __init__(self, relay: str, folder: Path, stack: AsyncExitStack) -> None:
        self._relay, self._folder, self._stack = relay, folder, stack
        self._networks: list[Network] = []

    async def open(self, count: int, *, reserve: bool) -> None:
        """So many more. `reserve`: each wants a place at the relay."""
        for _ in range(count):
            config = configure(
                data_dir=self._folder / str(len(self._networks)),
                model="none",
                lan=False,
                peers=(self._relay,),
                behind_nat=reserve,
                log_level="error",
            )
            parts = Parts(network=partial(self._network, config))
            await self._stack.enter_async_context(open_node(config, parts=parts))

    @asynccontextmanager
    async def _network(
        self, config: Config, keyring: KeyFile, driver: Driver
    ) -> AsyncIterator[Network]:
        options = replace(network_options(config, keyring, driver), listen=())
        async with open_network(options) as network:
            self._networks.append(network)
            yield network

    def connect(self, first: int, count: int) -> None:
        """The circuits from number `first` on: each node to the one behind it, then to the next."""
        size = len(self._networks)
        for number in range(first, first + count):
            at, step = number % size, number // size + 1
            hidden = self._networks[(at + step) % size]
            self._networks[at].dial(hidden.peer, hidden.addrs)


async def serve_clients(relay: str, folder: Path) -> None:
    """Obeys its parent's lines until there are no more."""
    async with AsyncExitStack() as stack:
        clients = Clients(relay, folder, stack)
        async for line in trio.wrap_file(sys.stdin):
            match json.loads(line):
                case {"open": count, "reserve": reserve}:
                    await clients.open(count, reserve=reserve)
                case {"first": first, "circuits": count}:
                    clients.connect(first, count)
                case other:
                    raise AssertionError(f"the parent sent the unknown order {other!r}")
            print("done", flush=True)


# --- the ends of one circuit ----------------------------------------------------------------------


async def run_relay(limits: RelayLimits) -> None:
    async with open_network(_alone(listen=(LISTEN,), relay=True, relay_limits=limits)) as network:
        print(*network.addrs, flush=True)
        await _idle(network)


async def run_sink(relay: str) -> None:
    """Behind the relay, or on loopback where there is none."""
    listen = () if relay else (LISTEN,)
    reached = _alone(listen=listen, behind_nat=bool(relay), bootstrap=(relay,) if relay else ())
    async with open_network(reached) as network:
        network._host.set_stream_handler(BYTES_PROTOCOL, _swallow, lasting=True)
        while not network.addrs:  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
        print(*network.addrs, flush=True)
        await _idle(network)


async def run_source(addr: str, size_bytes: int) -> None:
    """Seconds until the other end has said that it has so many bytes, after some to warm up."""
    peer = PeerId(addr.rpartition("/")[2])
    async with open_network(_alone(listen=(), bootstrap=(addr,))) as network:
        async for happened in network.inputs:
            if isinstance(happened, PeerConnected) and happened.peer == peer:
                await _push(network, peer, CHUNK_BYTES)
                print(await _push(network, peer, size_bytes), flush=True)
                return


def _alone(**settings: Any) -> NetworkOptions:
    return NetworkOptions(seed=ephemeral_key().seed, lan=False, dht=False, swarm="load", **settings)


async def _idle(network: Libp2pNetwork) -> None:
    async for _ in network.inputs:
        pass


async def _push(network: Libp2pNetwork, peer: PeerId, size_bytes: int) -> float:
    link = network._links.of(peer)
    assert link is not None
    stream = await network._host.open_stream(link.conn, [BYTES_PROTOCOL])
    began = trio.current_time()
    await stream.write(size_bytes.to_bytes(SIZE_BYTES, "big"))
    for _ in range(size_bytes // CHUNK_BYTES):
        await stream.write(bytes(CHUNK_BYTES))
    await stream.read(1)
    took_s = trio.current_time() - began
    await stream.close()
    return took_s


async def _swallow(stream: Any) -> None:
    left = int.from_bytes(await stream.read(SIZE_BYTES), "big")
    while left > 0:
        left -= len(await stream.read(CHUNK_BYTES))
    await stream.write(b"!")
    await stream.close()


# --- the parent -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """A relay and the process of its clients, in the namespace `space`."""

    space: str
    relay: NodeProcess
    clients: trio.Process
    window_s: float

    async def order(self, **what: object) -> None:
        assert self.clients.stdin is not None
        assert self.clients.stdout is not None
        await self.clients.stdin.send_all(json.dumps(what).encode() + b"\n")
        if not await self.clients.stdout.receive_some(64):
            raise SystemExit("the process of the clients has ended")

    async def until(self, what: str, count: int) -> None:
        """Until the relay has so many of them."""
        with trio.fail_after(WITHIN_S):
            while (await self.has())[what] < count:  # noqa: ASYNC110  Nodes tell nobody.
                await trio.sleep(LOOK_S)
        await trio.sleep(SETTLE_S)

    async def has(self) -> dict[str, int]:
        found = await ask(self.relay.folder, "status")
        return {"peers": len(found["peers"]), **found["relay"]}

    async def load(self) -> Load:
        """Over the window, in which nobody asks for anything."""
        process = psutil.Process(self.relay.pid)
        has, began = await self.has(), trio.current_time()
        cpu, carried = _cpu_s(process), self._bytes()
        await trio.sleep(self.window_s)
        took_s = trio.current_time() - began
        return Load(
            has["reservations"],
            has["circuits"],
            (_cpu_s(process) - cpu) / took_s * 3600,
            process.memory_info().rss,
            (self._bytes() - carried) / took_s,
        )

    def _bytes(self) -> int:
        """What the loopback of the namespace has carried."""
        path = "/sys/class/net/lo/statistics/rx_bytes"
        return int(subprocess.check_output(["ip", "netns", "exec", self.space, "cat", path]))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def opened(window_s: float) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="swarmllm-relay-") as name, built("relay") as lab:
        space = lab.space("relay")
        prefix = ("ip", "netns", "exec", space)
        async with open_fleet(Path(name)) as fleet:
            told = (
                "--model",
                "none",
                "--relay",
                "--no-lan",
                "--listen",
                "127.0.0.1",
                "--port",
                "7339",
            )
            relay = await fleet.start("relay", told, prefix=prefix)
            await relay.wait_for("ready", WITHIN_S)
            addr = f"/ip4/127.0.0.1/tcp/7339/p2p/{relay.peer}"
            command = [*prefix, sys.executable, "-m", "scripts.relay_load", "clients", addr, name]
            clients = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            try:
                yield Bench(space, relay, clients, window_s)
            finally:
                clients.kill()


async def measured(counts: Sequence[int], window_s: float) -> list[Load]:
    """By the number of reservations, then with as many circuits beside the most of them."""
    async with opened(window_s) as bench:
        await trio.sleep(SETTLE_S)
        loads = [_told(await bench.load())]
        have = 0
        for count in counts:
            await bench.order(open=count - have, reserve=True)
            await bench.until("reservations", count)
            loads.append(_told(await bench.load()))
            have = count
        circuits = 0
        for count in counts:
            await bench.order(first=circuits, circuits=count - circuits)
            await bench.until("circuits", count)
            loads.append(_told(await bench.load()))
            circuits = count
    return loads


async def of_connections(count: int, window_s: float) -> Load:
    """As many clients that reserve nothing: what a connection costs by itself."""
    async with opened(window_s) as bench:
        await bench.order(open=count, reserve=False)
        await bench.until("peers", count)
        return _told(await bench.load())


@contextmanager
def _end(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """One of the processes above, and the first word that it says."""
    command = [sys.executable, "-m", "scripts.relay_load", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0], process
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes from one peer to another. The processor time is the relay's."""

    mib_per_s: float
    cpu_s_per_mib: float


def direct_rate(size_bytes: int) -> Rate:
    with _end("sink", "") as (there, _), _end("source", there, str(size_bytes)) as (took_s, _):
        return Rate(size_bytes / MIB / float(took_s), 0.0)


def relayed_rate(size_bytes: int, *, bounded: bool) -> Rate:
    with _end("relay", "bounded" if bounded else "") as (relay, process):
        with _end("sink", relay) as (there, _):
            before = _cpu_s(psutil.Process(process.pid))
            with _end("source", there, str(size_bytes)) as (took_s, _):
                spent = _cpu_s(psutil.Process(process.pid)) - before
    size_mib = size_bytes / MIB
    return Rate(size_mib / float(took_s), spent / size_mib)


def _told(figure: _Figure) -> _Figure:
    print(figure, file=sys.stderr, flush=True)
    return figure


def main() -> int:
    match sys.argv[1:]:
        case ["clients", addr, folder]:
            trio.run(serve_clients, addr, Path(folder))
            return 0
        case ["relay", bounds]:
            trio.run(run_relay, RelayLimits() if bounds else UNBOUNDED)
            return 0
        case ["sink", addr]:
            trio.run(run_sink, addr)
            return 0
        case ["source", addr, size]:
            trio.run(run_source, addr, int(size))
            return 0
        case _:
            pass
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds of each figure")
    given = parser.parse_args()
    if MISSING:
        print(MISSING, file=sys.stderr)
        return 1
    print("\n".join(section(given.counts, given.window)))
    return 0


def section(counts: Sequence[int] = COUNTS, window_s: float = WINDOW_S) -> list[str]:
    """Measured now, as a part of a document."""
    rates = {
        "a direct connection": _told(direct_rate(SENT_BYTES)),
        "a circuit, nothing bounded": _told(relayed_rate(SENT_BYTES, bounded=False)),
        "a circuit": _told(relayed_rate(SENT_BOUNDED_BYTES, bounded=True)),
    }
    loads = trio.run(measured, counts, window_s)
    return page(loads, trio.run(of_connections, CONNECTIONS, window_s), rates)


def page(loads: Sequence[Load], connections: Load, rates: Mapping[str, Rate]) -> list[str]:
    """`connections`: what `CONNECTIONS` peers without reservations cost."""
    idle = [load for load in loads if not load.circuits]
    most = max(load.reservations for load in loads)
    full = [load for load in loads if load.reservations == most]
    return [
        "## What a relay pays",
        "",
        "`python -m scripts.relay_load`: a whole node without a model, and its clients; nobody"
        " asks anything.",
        f"Alone it has {loads[0].memory_bytes / MIB:.0f} MiB and spends"
        f" {loads[0].cpu_s_per_hour:.0f} s of processor time an hour.",
        "",
        "| reservations | circuits | processor time, s an hour | memory, MiB | bytes/s |",
        "|---:|---:|---:|---:|---:|",
        *(_row(load) for load in loads[1:]),
        f"| 0, {CONNECTIONS} connections | 0 | {connections.cpu_s_per_hour:.0f} |"
        f" {connections.memory_bytes / MIB:.1f} | {connections.bytes_per_s:.0f} |",
        _each("reservation", idle, "reservations"),
        _each("circuit", full, "circuits"),
        "",
        "| from one peer to another | MiB/s | the relay's processor time, s a MiB |",
        "|---|---:|---:|",
        *(
            f"| {name} | {rate.mib_per_s:.2f} | {rate.cpu_s_per_mib:.3f} |"
            for name, rate in rates.items()
        ),
    ]


def _row(load: Load) -> str:
    return (
        f"| {load.reservations} | {load.circuits} | {load.cpu_s_per_hour:.0f} |"
        f" {load.memory_bytes / MIB:.1f} | {load.bytes_per_s:.0f} |"
    )


def _each(name: str, loads: Sequence[Load], by: str) -> str:
    kib = slope(loads, "memory_bytes", by) / 1024
    return (
        f"| **each {name}** | | **{slope(loads, 'cpu_s_per_hour', by):.1f}** |"
        f" **{kib:.0f} KiB** | **{slope(loads, 'bytes_per_s', by):.0f}** |"
    )


if __name__ == "__main__":
    sys.exit(main())
