"""The swarm that is halted, seen from the program that halts it: processes, who knows whom, and one
halt with its resume.

Every node is a process, so that one can be frozen, has its own lock on the interpreter, and gets
its own share of the processor. They are forked from one that has imported everything already
(multiprocessing's fork server): 50 interpreters that import libp2p would take a minute and 5 GB.
However this program ends, they end with it.

Who knows whom: a ring, so that the swarm is in one piece, and some random neighbours each. Nobody
is told of anybody else. Where there are relays, ring and neighbours are those of the other nodes,
each of which listens nowhere and meets its neighbours through a relay; a relay obeys orders and
passes none on, so that whatever arrives came over circuits.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, TypeVar

import trio

from swarmllm.adapters.datadir import DataDir, make_folder
from swarmllm.adapters.keyfile import load_or_create_key
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.bench.halt_flooder import FloodPlan, flood
from swarmllm.cli.bench.halt_host import AT_ONCE, LINE_BYTES_MAX, PACED, HostPlan, Pace, live
from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.errors import LocalError
from swarmllm.runtime.local_api.lines import Lines, format_line, parse_line
from swarmllm.runtime.service.record import Record
from swarmllm.testing.proxy import Link

_Plan = TypeVar("_Plan")

# That a node dials, beside the next one of the ring; so each has about eight in all.
RANDOM_NEIGHBOURS: Final = 3
FLOODER_TARGETS: Final = 12
NODES_MAX: Final = 128
# A token costs all nodes together 8 ms: so 4 tokens/s each leave two cores room for an order, as
# any node has it.
WRITERS_MAX: Final = 24
STARTING_MAX: Final = 4  # At once: those that run already must not starve meanwhile.
LOOK_EVERY_S: Final = 0.5
MOST: Final = 0.9
START_S: Final = 60.0
START_EACH_S: Final = 4.0  # And for each node: they share this machine's cores.
# Below what usual systems give to whoever dials (Linux: 32,768 and up).
LISTEN_PORTS: Final = range(12_000, 32_000)
PRELOADED: Final = ("swarmllm.cli.bench.halt_host", "swarmllm.cli.bench.halt_flooder")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the swarm goes through. `frozen` and `droppers` are shares of the nodes; `link` lies in
    front of every node; the first `relays` nodes lend circuits to all others. No more than
    `writers_max` nodes write answers, spread evenly; all serve.
    """

    name: str
    streaming: bool = False
    pace: Pace = PACED
    writers_max: int = WRITERS_MAX
    flooders: int = 0
    frozen: float = 0.0
    droppers: float = 0.0
    link: Link | None = None
    reset_every_s: float = 0.0
    relays: int = 0


SCENARIOS: Final = {
    found.name: found
    for found in (
        Scenario("plain"),
        Scenario("streaming", streaming=True),
        Scenario("saturated", streaming=True, pace=AT_ONCE, writers_max=NODES_MAX),
        Scenario("flood", streaming=True, flooders=4),
        Scenario("frozen", streaming=True, frozen=0.2),
        Scenario("droppers", streaming=True, droppers=0.3),
        # A log-normal factor of sigma 0.45 on 100 ms: two thirds of all chunks take 64 to 157 ms.
        Scenario("relayed", streaming=True, relays=2),
        Scenario("slow", streaming=True, link=Link(0.1, 0.45), reset_every_s=30.0),
    )
}


class Host:
    """One process, and the last that it told. All times are of the monotonic clock, which is one
    for the whole machine."""

    def __init__(
        self, name: str, folder: Path, process: BaseProcess, stream: trio.SocketStream
    ) -> None:
        self.name, self.folder, self.process, self._stream = name, folder, process, stream
        self.events: dict[str, Record] = {}
        self.ended = False
        self.changed = trio.Event()

    def at(self, event: str) -> float:
        """When it last happened; minus infinity if it never did."""
        return float(self.events[event]["at"]) if event in self.events else -math.inf

    async def read(self) -> None:
        lines = Lines(self._stream, LINE_BYTES_MAX)
        try:
            while (line := await lines.next()) is not None:
                record = parse_line(line)
                self.events[record["event"]] = record
                self._wake()
        except trio.ClosedResourceError:
            pass  # Closed by us, at the end.
        self.ended = True
        self._wake()

    async def ask(self, op: str, answer: str, **fields: object) -> Record:
        """LocalError if the process has ended."""
        self.events.pop(answer, None)
        await self.order(op, **fields)
        await self.until(lambda: answer in self.events)
        return self.events[answer]

    async def order(self, op: str, **fields: object) -> None:
        try:
            await self._stream.send_all(format_line({"op": op, **fields}))
        except trio.BrokenResourceError as error:
            raise LocalError(
                f"{self.name} ended in the middle of the benchmark; see {self.folder}/node.log"
            ) from error

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.ended:
                raise LocalError(
                    f"{self.name} ended in the middle of the benchmark;"
                    " run it again with fewer nodes"
                )
            await self.changed.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, number)

    def close(self) -> None:
        self._stream.socket.close()

    def _wake(self) -> None:
        before, self.changed = self.changed, trio.Event()
        before.set()


@dataclass
class Swarm:
    hosts: list[Host]
    writers: list[Host]
    publishers: list[Host]  # Whom an operator gives an order to: those that pass it on.
    flooders: list[Host]
    ring: Ring
    rng: random.Random
    neighbours: float  # Mean number of connections of a node.
    resets: bool = False

    async def each(
        self, work: Callable[[Host], Awaitable[object]], hosts: Sequence[Host] | None = None
    ) -> None:
        async with trio.open_nursery() as nursery:
            for host in self.hosts if hosts is None else hosts:
                nursery.start_soon(work, host)

    async def reports(self) -> dict[str, Record]:
        return await self.answers("report", "report")

    async def answers(self, op: str, answer: str) -> dict[str, Record]:
        """What every node says to this question."""
        found: dict[str, Record] = {}

        async def one(host: Host) -> None:
            found[host.name] = await host.ask(op, answer)

        await self.each(one)
        return found

    async def wait(
        self,
        condition: Callable[[Host], bool],
        timeout_s: float,
        hosts: Sequence[Host] | None = None,
    ) -> list[Host]:
        """Until it holds for all of them; returns those for which it did not within the time."""
        hosts = self.hosts if hosts is None else hosts

        async def one(host: Host) -> None:
            await host.until(lambda: condition(host))

        with trio.move_on_after(timeout_s):
            await self.each(one, hosts)
        return [host for host in hosts if not condition(host)]


# --- who knows whom -------------------------------------------------------------------------------


def neighbours_of(
    nodes: int, rng: random.Random, random_each: int = RANDOM_NEIGHBOURS
) -> list[tuple[int, ...]]:
    """Whom each node dials: the next one of the ring and some at random, of those that do not dial
    it already."""
    dials: list[set[int]] = [{(i + 1) % nodes} - {i} for i in range(nodes)]
    for i in range(nodes):
        others = [j for j in range(nodes) if j != i and j not in dials[i] and i not in dials[j]]
        dials[i] |= set(rng.sample(others, min(random_each, len(others))))
    return [tuple(sorted(found)) for found in dials]


def behind(relays: range, dials: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Whom each dials where so many relays come first, which dial nobody and are dialled by all."""
    first = len(relays)
    others = [tuple(j + first for j in found) for found in dials]
    return [() for _ in relays] + [(*relays, *found) for found in others]


def links_of(dials: Sequence[Sequence[int]]) -> list[set[int]]:
    """Whom each is connected to, whoever dials."""
    links: list[set[int]] = [set(found) for found in dials]
    for i, found in enumerate(dials):
        for j in found:
            links[j].add(i)
    return links


def in_one_piece(dials: Sequence[Sequence[int]], without: frozenset[int]) -> bool:
    """Whether all others still reach each other if some nodes pass nothing on. Those are then still
    told by their neighbours."""
    rest = [i for i in range(len(dials)) if i not in without]
    if not rest:
        return False
    links = links_of(dials)
    seen, todo = {rest[0]}, [rest[0]]
    while todo:
        for j in links[todo.pop()] - seen - without:
            seen.add(j)
            todo.append(j)
    return len(seen) == len(rest) and all(links[i] - without for i in without)


def choose_droppers(
    dials: Sequence[Sequence[int]], share: float, rng: random.Random
) -> frozenset[int]:
    """So many that pass nothing on, with the others in one piece: what the protocol promises is for
    those connected through honest nodes. LocalError if that cannot be found."""
    count = round(share * len(dials))
    for _ in range(1_000):
        found = frozenset(rng.sample(range(len(dials)), count))
        if in_one_piece(dials, found):
            return found
    raise LocalError(
        f"no {count} of {len(dials)} nodes can be left out without cutting the swarm;"
        " run with more --nodes"
    )


# --- coming to life -------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Different ones, free a moment ago. Not from the range out of which systems serve whoever
    dials: hundreds of connections are made before the last node listens, and one of them would have
    its port by then."""
    found: list[int] = []
    for port in random.SystemRandom().sample(LISTEN_PORTS, len(LISTEN_PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise LocalError(
        f"this machine has no {count} free TCP ports between {LISTEN_PORTS[0]} and"
        f" {LISTEN_PORTS[-1]}"
    )


def _plans(
    scenario: Scenario, nodes: int, folder: Path, charter: Path, rng: random.Random
) -> tuple[list[HostPlan], list[str]]:
    """The plan of each node, and the address at which it is dialled."""
    ports = free_ports(2 * nodes)
    ports, fronts = ports[:nodes], ports[nodes:]
    relays = range(scenario.relays)
    dials = behind(relays, neighbours_of(nodes - len(relays), rng))
    links = links_of(dials)
    droppers = choose_droppers(dials, scenario.droppers, rng) if scenario.droppers else frozenset()
    swarm = f"bench-{secrets.token_hex(4)}"
    folders = [make_folder(folder / f"n{i}") for i in range(nodes)]
    peers = [load_or_create_key(DataDir(one).key_file).peer for one in folders]
    front = [fronts[i] if scenario.link is not None else 0 for i in range(nodes)]
    addresses = [f"/ip4/127.0.0.1/tcp/{front[i] or ports[i]}/p2p/{peers[i]}" for i in range(nodes)]
    for i in range(len(relays), nodes) if relays else ():
        addresses[i] = f"{addresses[i % len(relays)]}/p2p-circuit/p2p/{peers[i]}"
    plans = [
        HostPlan(
            number=i,
            folder=str(folders[i]),
            charter=str(charter),
            swarm=swarm,
            port=ports[i],
            # Those that have been started before it.
            neighbours=tuple(addresses[j] for j in sorted(links[i]) if j < i),
            linked=frozenset(peers[j] for j in links[i]),
            front=front[i],
            link=scenario.link or Link(),
            reset_every_s=scenario.reset_every_s,
            drops=i in droppers or i in relays,
            relay=i in relays,
            hidden=bool(relays) and i not in relays,
            pace=scenario.pace,
        )
        for i in range(nodes)
    ]
    return plans, addresses


def writers_of(hosts: Sequence[Host], writers_max: int) -> list[Host]:
    """So many of them, spread evenly; all if they are no more."""
    count = min(len(hosts), writers_max)
    return [hosts[i * len(hosts) // count] for i in range(count)]


class Crew:
    """The processes, and how they are got rid of."""

    def __init__(self) -> None:
        # Threads do not survive a fork, and nothing here multiplies matrices.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        self.hosts: list[Host] = []

    async def start(
        self, name: str, folder: Path, work: Callable[[_Plan, socket.socket], None], plan: _Plan
    ) -> Host:
        ours, theirs = socket.socketpair()
        process = self._context.Process(target=work, args=(plan, theirs), daemon=True, name=name)
        with theirs:
            # The first one waits until the server has imported everything.
            await trio.to_thread.run_sync(process.start)
        host = Host(name, folder, process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self.hosts.append(host)
        return host

    def kill(self) -> None:
        """All of them, at once. Stopped processes die of SIGKILL, too."""
        for host in self.hosts:
            host.signal(signal.SIGKILL)

    def reap(self) -> None:
        self.kill()
        for host in self.hosts:
            host.process.join(5)
            host.close()


@asynccontextmanager
async def open_swarm(
    scenario: Scenario, nodes: int, crews: list[Crew], say: Say, seed: int
) -> AsyncIterator[Swarm]:
    """The swarm of a scenario, all nodes linked and running. However the block ends, no process
    outlives it."""
    rng = random.Random(seed)
    crew = Crew()
    crews.append(crew)
    with temporary_folder() as folder:
        ring = Ring()
        charter = ring.write(folder / "charter")
        async with trio.open_nursery() as nursery:
            try:
                plans, addresses = _plans(scenario, nodes, folder, charter, rng)
                for i, plan in enumerate(plans):
                    say(f"{scenario.name}: starting node {i + 1} of {nodes}")
                    host = await crew.start(f"node {i}", Path(plan.folder), live, plan)
                    nursery.start_soon(host.read)
                    if i >= STARTING_MAX:
                        before = crew.hosts[i - STARTING_MAX]
                        await before.until(partial(before.events.__contains__, "ready"))
                hosts = list(crew.hosts)
                mean = 2 * sum(len(plan.neighbours) for plan in plans) / nodes
                publishers = [
                    host for host, plan in zip(hosts, plans, strict=True) if not plan.drops
                ]
                swarm = Swarm(
                    hosts,
                    writers_of(hosts, scenario.writers_max),
                    publishers,
                    [],
                    ring,
                    rng,
                    mean,
                    scenario.reset_every_s > 0,
                )
                await _running(swarm, nodes, scenario, say)
                for number in range(scenario.flooders):
                    swarm.flooders.append(
                        await _flooder(crew, nursery, number, plans, addresses, charter, rng)
                    )
                yield swarm
            finally:
                crew.reap()
                nursery.cancel_scope.cancel()


async def _running(swarm: Swarm, nodes: int, scenario: Scenario, say: Say) -> None:
    """Until every node runs and has the connections that were planned for it. LocalError if that
    takes too long."""
    timeout_s = START_S + START_EACH_S * nodes
    if missing := await swarm.wait(
        lambda host: "ready" in host.events and "running" in host.events, timeout_s
    ):
        raise LocalError(
            f"{len(missing)} of {nodes} nodes did not start within {timeout_s:.0f} s;"
            " try --nodes with fewer"
        )
    say(f"{scenario.name}: until all are connected")
    if not await linked(swarm, timeout_s):
        raise LocalError(
            f"the {nodes} nodes were not connected within {timeout_s:.0f} s; try --nodes with fewer"
        )


async def linked(swarm: Swarm, timeout_s: float) -> bool:
    """Whether the nodes have their connections and the halt streams on them, or get them within
    the time: a connection alone carries no order. Where links are reset all the time, most of them
    count."""
    wanted = swarm.neighbours * len(swarm.hosts) * (MOST if swarm.resets else 1.0) - 0.5
    with trio.move_on_after(timeout_s):
        while await _connections(swarm) < wanted:  # noqa: ASYNC110  Hosts report when asked.
            await trio.sleep(LOOK_EVERY_S)
        return True
    return False


async def _connections(swarm: Swarm) -> int:
    """Of all hosts together, with the halt streams on them."""
    reports = (await swarm.reports()).values()
    return sum(min(int(report["peers"]), int(report["links"])) for report in reports)


async def _flooder(
    crew: Crew,
    nursery: trio.Nursery,
    number: int,
    plans: Sequence[HostPlan],
    addresses: Sequence[str],
    charter: Path,
    rng: random.Random,
) -> Host:
    targets = sorted(rng.sample(range(len(plans)), min(FLOODER_TARGETS, len(plans))))
    plan = FloodPlan(
        number, str(charter), plans[0].swarm, tuple(addresses[i] for i in targets), tuple(targets)
    )
    host = await crew.start(f"flooder {number}", charter.parent, flood, plan)
    nursery.start_soon(host.read)
    await host.until(partial(host.events.__contains__, "ready"))
    return host


def now() -> float:
    return time.monotonic()
