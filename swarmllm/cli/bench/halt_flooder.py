"""A hostile peer: it speaks every protocol correctly, and as much as each limit lets through.

On halt streams, questions that must be answered, at the rate at which frames are read. By
gossip, a known halt record again and again. On expert streams, rounds that make the engine work,
with as many under way as a peer may have, and as often as is looked at them as many capacity
records as fit, of authors who do not exist, each with a key and a good signature of its own. It
never breaks a rule, so it earns no strike.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import NetworkOptions, open_network
from swarmllm.adapters.libp2p.network import Libp2pNetwork
from swarmllm.adapters.record_files import read_sheets
from swarmllm.cli.bench.halt_host import LINE_BYTES_MAX, MODELS, die_with_parent, model_of
from swarmllm.core.halt.charter import charter_hash
from swarmllm.core.halt.link import HALT_FRAMES
from swarmllm.core.halt.state import HaltState
from swarmllm.core.inputs import PeerConnected, PeerLost, Received
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    NO_HALT_DIGEST,
    SHUFFLE_RECORDS_MAX,
    CapacityRecord,
    HaltDigest,
    Open,
    PeerId,
    Score,
    Shuffle,
    Shuffled,
)
from swarmllm.messages.declare import HALT
from swarmllm.runtime.local_api.lines import Lines, format_line
from swarmllm.runtime.ports import halt_channel
from swarmllm.testing.scripted_text import ScriptedText
from swarmllm.wire import context
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.envelope import seal
from swarmllm.wire.identity import swarm_hash
from swarmllm.wire.signed import open_record

HALT_FRAMES_PER_S: Final = 15.0  # Of 16 that are read; a queue that fills would end the connection.
SHUFFLE_EVERY_S: Final = 1.0  # To each peer; what comes faster is not looked at.
KNOWN_PER_S: Final = 5.0  # Halt records: all that are read.
ROUNDS_OPEN: Final = 32  # Half of what a peer may have open, and of its queue.
TOKENS: Final = tuple(range(100, 108))
OPEN_EVERY: Final = 64  # Rounds: an order to halt ends sessions.


@dataclass(frozen=True, slots=True)
class FloodPlan:
    """`targets` are the multiaddrs of the nodes that it connects to, and `numbers` which nodes
    these are."""

    number: int
    charter: str
    swarm: str
    targets: tuple[str, ...]
    numbers: tuple[int, ...]


def flood(plan: FloodPlan, line: socket.socket) -> None:
    """The process: a flood until the other end of `line` closes."""
    die_with_parent()
    trio.run(_flood, plan, line)


class EchoingDoor:
    """`runtime.ports.Door`: says of itself whatever a peer says of itself, so that peers make
    tokens with it."""

    def __init__(self, greeting: HaltDigest) -> None:
        self.network: Libp2pNetwork | None = None
        self._greeting = encode(greeting)
        self.digests: dict[PeerId, bytes] = {}
        self.open: set[PeerId] = set()

    def opened(self, peer: PeerId) -> None:
        self.open.add(peer)
        if self.network is not None:
            self.network.send_frame(HALT, peer, self._greeting)

    def closed(self, peer: PeerId) -> None:
        self.open.discard(peer)

    def received(self, peer: PeerId, frame: bytes) -> None:
        try:
            message = decode(frame, HALT_FRAMES)
        except RemoteError:
            return
        if isinstance(message, HaltDigest) and self.network is not None:
            self.digests[peer] = message.ctl_digest
            self.network.send_frame(HALT, peer, frame)

    def heard(self, forwarder: PeerId, data: bytes) -> bool:
        return False


@dataclass
class Flood:
    network: Libp2pNetwork
    door: EchoingDoor
    plan: FloodPlan
    charter: bytes
    rng: random.Random
    sent: int = 0

    async def ask_halt(self) -> None:
        """Vectors of a swarm that was never halted: they must be answered."""
        frame = encode(_never_halted(self.charter).vectors)
        while True:
            for peer in tuple(self.door.open):
                self.network.send_frame(HALT, peer, frame)
                self.sent += 1
            await trio.sleep(1 / HALT_FRAMES_PER_S)

    async def shuffle(self) -> None:
        swarm = swarm_hash(self.plan.swarm)
        while True:
            for peer in self.network.peers:
                records = tuple(self._invented() for _ in range(SHUFFLE_RECORDS_MAX))
                self.network.send(
                    peer, Shuffle(swarm, (0,) * len(records), records, SHUFFLE_RECORDS_MAX)
                )
                self.sent += 1
            await trio.sleep(SHUFFLE_EVERY_S)

    def _invented(self) -> bytes:
        author = ephemeral_key()
        return seal(self._record(self.rng.randrange(MODELS)), author.public_key, author.sign)

    def _record(self, number: int) -> CapacityRecord:
        card = model_of(number).card
        return CapacityRecord(
            boot=1 + self.rng.getrandbits(40),
            seq=1,
            model=card.name,
            model_digest=card.digest,
            vocab_fingerprint=ScriptedText().vocabulary.fingerprint,
            n_params=card.n_params,
            context_max=card.context_max,
            rate=16_000,
            queue_depth=0,
            sessions_free=16,
            sessions_max=16,
            domains=(),
            addrs=(),
            ctl_digest=NO_HALT_DIGEST,
        )

    async def gossip_known(self) -> None:
        while True:
            self.network.publish(HALT, self.charter)
            await trio.sleep(1 / KNOWN_PER_S)

    async def score(self) -> None:
        """Rounds to everybody who connects; every reply makes room for the next one."""
        numbers = {
            PeerId(target.rsplit("/", 1)[1]): number
            for target, number in zip(self.plan.targets, self.plan.numbers, strict=True)
        }
        waiting: dict[PeerId, Rounds] = {}
        async for event in self.network.inputs:
            match event:
                case PeerConnected(peer=peer) if peer in numbers:
                    waiting[peer] = Rounds(self, peer, numbers[peer])
                    for _ in range(ROUNDS_OPEN):
                        waiting[peer].send()
                case PeerLost(peer=peer):
                    waiting.pop(peer, None)
                case Received(peer=peer, message=message) if peer in waiting and not isinstance(
                    message, Shuffle | Shuffled
                ):
                    waiting[peer].send()
                case _:
                    pass


@dataclass
class Rounds:
    """The rounds of one session with one peer."""

    flood: Flood
    peer: PeerId
    number: int
    round: int = 0

    def send(self) -> None:
        digest = self.flood.door.digests.get(self.peer, NO_HALT_DIGEST)
        if self.round % OPEN_EVERY == 0:
            card = model_of(self.number).card
            self.flood.network.send(self.peer, Open(1, card.digest, card.vocab_fingerprint, digest))
        self.round += 1
        request = Score(
            1, self.round, 0, 0, context.EMPTY, TOKENS, (len(TOKENS) - 1,), (), 256, 0, digest
        )
        self.flood.network.send(self.peer, request)
        self.flood.sent += 1


def _never_halted(charter: bytes) -> HaltState:
    opened = open_record(charter)
    return HaltState(charter_hash(opened), (opened,))


async def _flood(plan: FloodPlan, line: socket.socket) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(line))
    charter = read_sheets(Path(plan.charter))[0].data
    state = _never_halted(charter)
    door = EchoingDoor(HaltDigest(state.swarm, state.version, state.digest))
    options = NetworkOptions(
        seed=ephemeral_key().seed,
        channels=(halt_channel(door, plan.swarm),),
        listen=("/ip4/127.0.0.1/tcp/0",),
        bootstrap=plan.targets,
        lan=False,
        dht=False,
        swarm=plan.swarm,
    )
    async with open_network(options) as network, trio.open_nursery() as nursery:
        door.network = network
        found = Flood(network, door, plan, charter, random.Random(plan.number))
        for work in (found.ask_halt, found.shuffle, found.gossip_known, found.score):
            nursery.start_soon(work)
        await stream.send_all(format_line({"event": "ready", "peer": network.peer}))
        lines = Lines(stream, LINE_BYTES_MAX)
        while await lines.next() is not None:
            await stream.send_all(
                format_line({"event": "report", "sent": found.sent, "peers": len(network.peers)})
            )
        nursery.cancel_scope.cancel()
