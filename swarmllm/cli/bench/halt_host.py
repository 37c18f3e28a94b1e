"""One node of the halting swarm, in a process of its own: everything is real but the model.

The composition root, driver, kill switch, its two files (flushed to the disk), libp2p over loopback
TCP: as in any node. Scripted are the engine (distributions drawn from a seed, no worker process and
so no lease) and the vocabulary; the answers that stream through them take the real control path.
The node is told its neighbours and dials nobody but them, for in a swarm that is small enough for
one machine everybody would otherwise be connected to everybody.

The engine takes the time of the model that this network is made for, `PACED`. With one that answers
at once fifty nodes ask each other as often as two cores let them: the machine is then full of work
that no swarm has, for no expert decodes hundreds of tokens a second, and what is measured is the
queue in front of its cores. For the same reason no more than 24 of the nodes write; all of them
serve. Where every node writes, of engines that answer at once, the scenario is called `saturated`:
the worst that load alone can do.

It stamps what happens (`halt_log`): when the flag is set (in the very call), when tokens are read
and scores are sent. Its parent asks for these over a socket; a parent that is gone takes the
process along.
"""

from __future__ import annotations

import ctypes
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import trio

from swarmllm.adapters.keyfile import KeyFile
from swarmllm.adapters.libp2p import open_network
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.assembly import Parts, configure, network_options, open_node
from swarmllm.cli import collector
from swarmllm.cli.bench.halt_log import Log
from swarmllm.core.inputs import NetworkInput
from swarmllm.errors import SwarmError
from swarmllm.messages import ExpertMessage, Halted, PeerId, Records, Scores
from swarmllm.messages.goodbye import OTHER
from swarmllm.runtime.config import Config
from swarmllm.runtime.driver import Driver
from swarmllm.runtime.local_api.lines import Lines, format_line, parse_line
from swarmllm.runtime.ports import Network, halt_channel
from swarmllm.runtime.service.answer import Piece
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.request import TextRequest
from swarmllm.testing.proxy import Link, Proxy, open_proxy
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.scripted_text import ScriptedText
from swarmllm.wire.codec import decode

PROMPT: Final = "a text that goes on"
WHOLE: Final = {"temperature": 1.0, "top_p": 1.0}  # The distribution as it is.
K: Final = 3
LONG: Final = 3_500  # Tokens: the scripted context holds 4,096.
# After a resume, before the next answer begins: its experts have then agreed on it, too.
SETTLE_S: Final = 0.3
LINE_BYTES_MAX: Final = 1 << 20
MODELS: Final = 8  # Different ones; replicas among many nodes are as usual.
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """What a decoding step takes, and each session that it serves on top of it."""

    step_s: float
    session_s: float


PACED: Final = Pace(0.1, 0.005)
"""LLaMA-3-8B at 4 bits on a volunteer's machine: 4.7 GB of weights pass once through a memory of 50
GB/s, and each session costs 16 GFLOP on a processor of 3 TFLOP/s. So about 9 tokens/s for one
session alone, as such machines are measured (5 to 20)."""
AT_ONCE: Final = Pace(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class HostPlan:
    """`neighbours` are the multiaddrs of those that the node dials from the start; `linked` also
    has the others that it knows, and looks for when their connection is lost, as any node does.
    `front`, if it is not 0, is the port that others dial: a proxy with `link` between it and the
    node's own `port`, which resets all its connections at random every `reset_every_s` on average
    (0: never). `drops`: halt records are obeyed, and passed on to nobody. `relay`: it lends
    circuits; `hidden`: it listens nowhere, and others reach it through a relay."""

    number: int
    folder: str
    charter: str
    swarm: str
    port: int
    neighbours: tuple[str, ...]
    linked: frozenset[PeerId]
    front: int = 0
    link: Link = field(default_factory=Link)
    reset_every_s: float = 0.0
    drops: bool = False
    relay: bool = False
    hidden: bool = False
    pace: Pace = PACED


def model_of(number: int) -> ScriptedModel:
    return ScriptedModel(f"scripted-{number % MODELS}", 1 + number % MODELS)


def live(plan: HostPlan, line: socket.socket) -> None:
    """The process: a node until the other end of `line` closes."""
    die_with_parent()
    log = Log()
    trio.run(_live, plan, line, log, instruments=[log.turns])


def die_with_parent() -> None:
    """Ctrl-C is for the parent to decide, and its end is ours: the kernel sees to that even if we
    are stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class WatchedEngine(ScriptedEngine):
    """`stop` is called in the same breath in which the flag is set."""

    def __init__(self, model: ScriptedModel, pace: Pace, log: Log) -> None:
        batch_max = model.load.sessions_max if pace.step_s else 1
        super().__init__(model, service_s=pace.step_s, round_s=pace.session_s, batch_max=batch_max)
        self._log = log

    def stop(self) -> None:
        self._log.flag(False)
        super().stop()

    def resume(self) -> None:
        super().resume()
        self._log.flag(True)


class Fence:
    """The real network, which dials only the neighbours that it was given, and whose sent scores
    are stamped. With `drops` no halt record leaves it."""

    def __init__(self, inner: Libp2pNetwork, log: Log, plan: HostPlan) -> None:
        self._inner, self._log, self._drops, self._linked = inner, log, plan.drops, plan.linked

    @property
    def peer(self) -> PeerId:
        return self._inner.peer

    @property
    def addrs(self) -> tuple[str, ...]:
        return self._inner.addrs

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[NetworkInput]:
        return self._inner.inputs

    def send(self, peer: PeerId, message: ExpertMessage) -> None:
        if isinstance(message, Scores):
            self._log.scores.append(time.monotonic())
        self._inner.send(peer, message)

    def send_frame(
        self, channel: str, peer: PeerId, frame: bytes, *, droppable: bool = False
    ) -> None:
        if not (self._drops and is_records(frame)):
            self._inner.send_frame(channel, peer, frame, droppable=droppable)

    def publish(self, channel: str, record: bytes) -> None:
        if not self._drops:
            self._inner.publish(channel, record)

    def end_streams(self, message: Halted) -> None:
        self._inner.end_streams(message)

    def dial(self, peer: PeerId, addrs: tuple[str, ...]) -> None:
        """Nobody but neighbours."""
        if peer in self._linked:
            self._inner.dial(peer, addrs)

    def hang_up(self, peer: PeerId, reason: str, goodbye: int = OTHER) -> None:
        self._inner.hang_up(peer, reason, goodbye)

    def penalise(self, peer: PeerId, reason: str) -> None:
        self._inner.penalise(peer, reason)

    def advertise(self, key: bytes, record: bytes) -> None:
        self._inner.advertise(key, record)

    def look_up(self, key: bytes) -> None:
        self._inner.look_up(key)


def is_records(frame: bytes) -> bool:
    """Whether one of our own halt frames carries records; others are digests, vectors and
    acknowledgements."""
    try:
        decode(frame, (Records,))
    except SwarmError:
        return False
    return True


class Door:
    """`runtime.ports.Door`: the driver's, with the streams that are up counted. With `drops` that
    of a node that obeys what it hears by gossip, and lets none of it through."""

    def __init__(self, driver: Driver, log: Log, *, drops: bool) -> None:
        self.received = driver.received
        self._driver, self._log, self._drops = driver, log, drops

    def opened(self, peer: PeerId) -> None:
        self._log.linked(peer)
        self._driver.opened(peer)

    def closed(self, peer: PeerId) -> None:
        self._log.unlinked(peer)
        self._driver.closed(peer)

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        passes = self._driver.heard(forwarder, data)
        return passes and not self._drops


@asynccontextmanager
async def _network(
    plan: HostPlan, config: Config, log: Log, keyring: KeyFile, driver: Driver
) -> AsyncIterator[Network]:
    door = Door(driver, log, drops=plan.drops)
    options = network_options(config, keyring, driver)
    options = replace(
        options,
        dht=False,
        relay=plan.relay,
        behind_nat=plan.hidden,
        listen=() if plan.hidden else options.listen,
        channels=(halt_channel(door, driver.charter_swarm or config.swarm),),
    )
    async with open_network(options) as inner:
        yield Fence(inner, log, plan)


async def _live(plan: HostPlan, line: socket.socket, log: Log) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(line))
    announce = (f"/ip4/127.0.0.1/tcp/{plan.front}",) if plan.front else ()
    config = configure(
        data_dir=plan.folder,
        swarm=plan.swarm,
        charter=plan.charter,
        model="none",
        listen_host="127.0.0.1",
        port=plan.port,
        peers=plan.neighbours,
        announce=announce,
        lan=False,
    )
    parts = Parts(
        engine=WatchedEngine(model_of(plan.number), plan.pace, log),
        text=ScriptedText(stop_tokens=frozenset()),
        network=partial(_network, plan, config, log),
    )
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        if plan.front:
            proxy = await stack.enter_async_context(
                open_proxy("127.0.0.1", plan.port, plan.link, port=plan.front, seed=plan.number)
            )
            nursery.start_soon(_reset, proxy, plan)
        local = await stack.enter_async_context(open_node(config, parts=parts))
        nursery.start_soon(_tell, stream, log)
        nursery.start_soon(_write, local, log, plan.number)
        collector.leave_alone()  # As `swarmllm join` does.
        log.tell(event="ready", peer=local.peer)
        await _obey(stream, local, log)


async def _reset(proxy: Proxy, plan: HostPlan) -> None:
    rng = random.Random(plan.number)
    while plan.reset_every_s:
        await trio.sleep(rng.expovariate(1 / plan.reset_every_s))
        proxy.reset()


async def _tell(stream: trio.SocketStream, log: Log) -> None:
    async for record in log.receiver:
        await stream.send_all(format_line(record))


async def _obey(stream: trio.SocketStream, local: LocalNode, log: Log) -> None:
    """The parent's questions, until it is gone."""
    lines = Lines(stream, LINE_BYTES_MAX)
    while (line := await lines.next()) is not None:
        question = parse_line(line)
        match question["op"]:
            case "mark":
                log.mark()
            case "report":
                log.tell(event="report", **log.report(len(local.view().peers)))
            case "stream":
                log.streaming = bool(question["on"])
                log.wake()
            case other:
                raise AssertionError(f"the parent sent the unknown question {other!r}")


async def _write(local: LocalNode, log: Log, seed: int) -> None:
    """One answer after the other for as long as they are wanted and allowed."""
    while True:
        while not (log.streaming and log.running):
            await log.changed.wait()
        await trio.sleep(SETTLE_S)
        request = TextRequest(PROMPT, k=K, extra=1, max_tokens=LONG, sampling=WHOLE, seed=seed)
        try:
            async with local.answer(request) as answer:
                while log.streaming and (part := await answer.next_part()) is not None:
                    if isinstance(part, Piece):
                        log.token(0 if part.chosen is None else part.chosen.k)
        except SwarmError:
            # No expert to be had just now; the pause above is before the next attempt, too.
            continue
