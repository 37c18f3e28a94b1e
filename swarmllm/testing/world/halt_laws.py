"""What must hold of the kill switch in every world: see `testing.world.laws`, which lists all of
them.

`HaltedIsSilent`     no token, and no request for one, leaves a halted host
`HaltsAreKept`       the kill switch's state never goes back, restarts included
`OrdersAreGenuine`   nobody obeys an order that was not signed by those who may
`StartsFromDisk`     who runs would run after a restart, too
`OrdersAreWritten`   what is obeyed is written down soon
`AcksAreTrue`        what a host says is on its disk is there
`OrdersAgree`        when nothing changes any more, all hold the same orders, in memory and on disk
`AsksFirst`          who has just started asks others for halts before its first token
`OrdersArePassedOn`  who hears an order passes it on at once
`HaltsArrive`        an order reaches whoever is connected through honest hosts, within its time
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core.effects import (
    Announce,
    Emit,
    Relay,
    RunScore,
    Send,
    SendFrame,
    StartAgain,
    StopNow,
)
from swarmllm.core.events import HaltHeard, TokenChosen
from swarmllm.core.halt.link import SYNC_ALONE_S, SYNC_PEERS, SYNC_QUIET_S
from swarmllm.core.halt.state import HaltState
from swarmllm.core.halt.state_file import load
from swarmllm.core.inputs import OwnerStarts, Persisted
from swarmllm.errors import RemoteError
from swarmllm.messages import Ack, Halt, PeerId, Resume, Score, Scores
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.roles import Answer
from swarmllm.wire.marks import vector_of
from swarmllm.wire.signed import good_signers, key_id, open_record

if TYPE_CHECKING:
    from swarmllm.core.effects import NodeEffect
    from swarmllm.testing.world.network import Connection
    from swarmllm.testing.world.world import World

HOP_S: Final = 0.05  # What one host may take to pass an order on, beside the way.
FRAME_BYTES: Final = 4096  # An order, and the records that went over the link just before it.
# For whom a frame may be dropped that comes too soon: it asks a second later, and is answered.
ASKED_S: Final = 2.0
# Two attempts, the first of which another state on its way to the disk may have had to wait for.
WRITTEN_S: Final = 2.0


class HaltedIsSilent(Checker):
    """HALT-15, HALT-26: and it stops before it tells anybody."""

    LAW: Final = "a halted host is silent"

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        is_halted, has_told = host.is_halted, False
        for effect in effects:
            if isinstance(effect, StopNow):
                if has_told:
                    raise self.broken(
                        self.LAW,
                        host,
                        f"it passes the order on before it stops, after {type(event).__name__}",
                    )
                is_halted = True
            elif isinstance(effect, StartAgain):
                is_halted = False  # What it held back until now may follow in the same step.
            elif isinstance(effect, Relay) and not is_halted:
                assert host.halt_machine is not None
                # One that was lifted before it came stops nobody, and may stand in one frame with
                # another that does.
                has_told = (
                    has_told
                    or open_record(effect.record).record in host.halt_machine.state.standing
                )
            elif is_halted and _is_inference(effect):
                raise self.broken(self.LAW, host, f"{effect} after {type(event).__name__}")

    def leaves(self, host: Host, peer: PeerId, message: Any) -> None:
        if host.is_halted and isinstance(message, (Score, Scores)):
            raise self.broken(self.LAW, host, f"{type(message).__name__} to {peer}")

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None:
        if host.is_halted:
            raise self.broken(self.LAW, host, f"token {chosen.index} of request {answer.request}")


def _is_inference(effect: NodeEffect) -> bool:
    match effect:
        case Send(message=Score() | Scores()) | RunScore() | Emit(event=TokenChosen()):
            return True
        case _:
            return False


class HaltsAreKept(Checker):
    """HALT-11, HALT-17, HALT-31, HALT-32: within a life the vectors only rise; a new life begins
    with no less than was once known to be on disk, as long as one copy is unharmed, and halted if
    none is."""

    LAW: Final = "the state of the kill switch never goes back"

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, HaltState]] = {}
        # What was once known to be on disk, and has not been lost since.
        self._saved: dict[int, HaltState] = {}
        # Host -> the life that begins without a readable copy, although there was one.
        self._lost: dict[int, int] = {}

    def starting(self, host: Host) -> None:
        if host.disk.is_new:
            self._saved.pop(host.number, None)
        elif host.disk.is_lost:
            self._saved.pop(host.number, None)
            self._lost[host.number] = host.life + 1

    def stepped(self, host: Host, event: object) -> None:
        halt_machine = host.halt_machine
        if halt_machine is None or not host.alive:
            return
        if isinstance(event, Persisted) and event.ok and halt_machine.durable is not None:
            self._saved[host.number] = halt_machine.durable
        life, before = self._last.get(host.number, (0, None))
        state = halt_machine.state
        if life == host.life and before is state:
            return
        self._last[host.number] = (host.life, state)
        if life == host.life and before is not None:
            self._compare(host, before, state, "forgot")
        elif self._lost.get(host.number) == host.life:
            # The flag says nothing yet: every life begins with it.
            if not (state.lost or isinstance(event, OwnerStarts)):
                raise self.broken(self.LAW, host, "its state was lost, and it does not know")
        elif host.number in self._saved:
            self._compare(host, self._saved[host.number], state, "did not load")

    def _compare(self, host: Host, before: HaltState, after: HaltState, verb: str) -> None:
        if after.version < before.version:
            raise self.broken(self.LAW, host, f"{verb} charter {before.version}")
        if after.version > before.version:
            return  # L begins again, and keys may have gone.
        for name, old, new in (
            ("halt", before.highs, after.highs),
            ("lift", before.lifts, after.lifts),
        ):
            for key in sorted(old):
                if new.get(key, 0) < old[key]:
                    raise self.broken(
                        self.LAW, host, f"{verb} {name} {old[key]} of key {key.hex()}"
                    )


class OrdersAreGenuine(Checker):
    """HALT-2, HALT-8, HALT-12: beside the machines stands a plain book of what was really signed,
    which knows nothing of theirs."""

    LAW: Final = "nobody obeys an order that nobody gave"

    def __init__(self) -> None:
        self._halts: set[tuple[bytes, int]] = set()
        self._lifts: dict[bytes, int] = {}
        self._last: dict[int, HaltState] = {}

    def handed(self, host: Host, record: bytes) -> None:
        """What really was signed by those who may goes into the book."""
        founders, verify = self.world.founders, self.world.verify
        try:
            opened = open_record(record)
            halters = frozenset(p.public_key for p in founders.halters)
            resumers = frozenset(p.public_key for p in founders.resumers)
            match opened.record:
                case Halt(swarm=founders.swarm, key=key, seq=seq):
                    by = good_signers(
                        opened, frozenset(k for k in halters if key_id(k) == key), verify
                    )
                    self._halts |= {(key, seq)} if by else set()
                case Resume(swarm=founders.swarm, lifts=lifts) if (
                    len(good_signers(opened, resumers, verify)) >= 2
                ):
                    for key, seq in vector_of(lifts).items():
                        self._lifts[key] = max(seq, self._lifts.get(key, 0))
        except RemoteError:
            return  # A forgery: that is what nobody may obey.

    def stepped(self, host: Host, event: object) -> None:
        halt_machine = host.halt_machine
        if halt_machine is None or self._last.get(host.number) is halt_machine.state:
            return
        state = self._last[host.number] = halt_machine.state
        for key, seq in sorted(state.highs.items()):
            if (key, seq) not in self._halts:
                raise self.broken(
                    self.LAW, host, f"halt {seq} of key {key.hex()} after {type(event).__name__}"
                )
        for key, seq in sorted(state.lifts.items()):
            if seq > self._lifts.get(key, 0):
                raise self.broken(
                    self.LAW, host, f"lift {seq} of key {key.hex()} after {type(event).__name__}"
                )


class StartsFromDisk(Checker):
    """HALT-16, HALT-33: whoever runs has nothing that halts it, neither in memory nor on disk."""

    LAW: Final = "who runs would run after a restart, too"

    def __init__(self) -> None:
        self._starting = False

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        self._starting = any(isinstance(effect, StartAgain) for effect in effects)

    def stepped(self, host: Host, event: object) -> None:
        halt_machine, disk = host.halt_machine, host.disk
        if halt_machine is None or host.is_halted or not host.alive:
            return
        if halt_machine.state.reasons:
            raise self.broken(
                self.LAW, host, f"it runs although it is {halt_machine.state.reasons[0]}"
            )
        if self._starting:
            reasons = on_disk(host).reasons
            if reasons or disk.first is None:
                raise self.broken(
                    self.LAW, host, f"it runs, and its disk says: {(*reasons, 'nothing')[0]}"
                )


class AsksFirst(Checker):
    """HALT-33: it agrees with three peers, or with all that it is connected to for a second, or has
    waited for five."""

    LAW: Final = "who has just started asks others for halts before its first token"

    def __init__(self) -> None:
        # Host -> (life, the most peers that it agreed with at once).
        self._agreed: dict[int, tuple[int, int]] = {}

    def stepped(self, host: Host, event: object) -> None:
        halt_machine = host.halt_machine
        if halt_machine is None or not host.alive or host.clock() >= host.booted_at + SYNC_ALONE_S:
            return
        links = [
            link
            for link in halt_machine._links.values()
            if link.swarm in (None, halt_machine.state.swarm)
        ]
        settled = sum(link.digest == halt_machine.digest for link in links)
        life, most = self._agreed.get(host.number, (0, 0))
        if settled == len(links) and host.clock() >= host.booted_at + SYNC_QUIET_S:
            settled = SYNC_PEERS if links else 0
        self._agreed[host.number] = (host.life, max(settled, most if life == host.life else 0))
        if not host.is_halted and self._agreed[host.number][1] < SYNC_PEERS:
            waited_s = host.clock() - host.booted_at
            raise self.broken(
                self.LAW,
                host,
                f"it runs after {waited_s:.3f} s, and agrees with {settled} of {len(links)} peers",
            )


class OrdersAreWritten(Checker):
    """HALT-15 (e), HALT-31: what a host obeys is on its disk `WRITTEN_S` later, as long as it
    lives, is awake, and has room."""

    LAW: Final = "what is obeyed is written down"

    def __init__(self) -> None:
        self._last: dict[int, HaltState] = {}

    def stepped(self, host: Host, event: object) -> None:
        halt_machine = host.halt_machine
        if halt_machine is None or self._last.get(host.number) is halt_machine.state:
            return
        self._last[host.number] = halt_machine.state
        self.world.event_queue.after(WRITTEN_S, self._look, host, host.life, halt_machine.state)

    def _look(self, host: Host, life: int, state: HaltState) -> None:
        if life != host.life:
            return
        if (
            host.frozen
            or host.disk.full
            or self.world.now - max(host.thawed_at, host.disk.cleared_at) < WRITTEN_S
        ):
            self.world.event_queue.after(WRITTEN_S, self._look, host, life, state)
            return
        written = on_disk(host)
        for name, old, new in (
            ("halt", state.highs, written.highs),
            ("lift", state.lifts, written.lifts),
        ):
            for key in sorted(old):
                if new.get(key, 0) < old[key] and written.version <= state.version:
                    raise self.broken(
                        self.LAW, host, f"{name} {old[key]} of key {key.hex()} is not on disk"
                    )


class AcksAreTrue(Checker):
    """HALT-17: what a host says is on its disk is there."""

    LAW: Final = "an acknowledgement says what is on disk"

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        for effect in effects:
            if (
                isinstance(effect, SendFrame)
                and isinstance(effect.message, Ack)
                and on_disk(host).digest != effect.message.ctl_digest
            ):
                raise self.broken(
                    self.LAW,
                    host,
                    f"it acknowledges {effect.message.ctl_digest.hex()} to {effect.peer}",
                )


class OrdersAgree(Checker):
    """HALT-20, HALT-31. Asked once faults have been off for long enough: all hosts hold the same
    orders, in memory and on disk. One that passes nothing on may hold an old one that it alone was
    told."""

    LAW: Final = "orders agree when nothing changes"

    def settled(self) -> None:
        hosts = [host for host in self.world.alive() if host.halt_machine is not None]
        tellers = [host for host in hosts if host.behaviour.relays(host)]
        for host in hosts:
            assert host.halt_machine is not None
            assert tellers[0].halt_machine is not None
            differs = host.halt_machine.digest != tellers[0].halt_machine.digest
            if differs and host.behaviour.relays(host):
                raise self.broken(self.LAW, host, f"it holds other orders than {tellers[0].peer}")
            if on_disk(host).digest != host.halt_machine.digest:
                raise self.broken(self.LAW, host, "its disk holds other orders than its memory")


def on_disk(host: Host) -> HaltState:
    """What a restart would begin with."""
    disk = host.disk
    return load(
        disk.first, disk.second, disk.genesis, host.private, host.world.founders.swarm
    ).state


class OrdersArePassedOn(Checker):
    """HALT-15 (c): in the step in which an order comes, it goes to everybody but the peer that it
    came from. Others would hear of it when they ask, which is too late."""

    LAW: Final = "who hears an order passes it on at once"

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Announce) and isinstance(effect.event, HaltHeard):
                self._heard(host, effect.event, effects)

    def _heard(self, host: Host, heard: HaltHeard, effects: list[NodeEffect]) -> None:
        told = {
            peer
            for effect in effects
            if isinstance(effect, Relay) and open_record(effect.record).record == heard.order
            for peer in effect.to
        }
        assert host.halt_machine is not None
        swarm_of, own = host.halt_machine.swarm_of, host.halt_machine.state.swarm
        owed = {p for p in host.connections if swarm_of(p) == own and p != heard.peer}
        if not owed <= told:
            raise self.broken(
                self.LAW, host, f"order {heard.order.seq} does not go to {min(owed - told)}"
            )


class HaltsArrive(Checker):
    """From the host at which an order is published, through honest hosts that are up and awake all
    the while, over connections that last: along the quickest of these ways, each hop within `HOP_S`
    and the longest that its link takes. Who hears of it only by asking is late."""

    LAW: Final = "an order reaches whoever is connected through honest hosts"

    def __init__(self) -> None:
        self._last: dict[int, HaltState] = {}
        self._given: list[Given] = []

    def published(self, host: Host, record: bytes) -> None:
        try:
            opened = open_record(record).record
        except RemoteError:
            return
        if (
            not isinstance(opened, Halt)
            or host.halt_machine is None
            or host.halt_machine.state.highs.get(opened.key, 0) != opened.seq
        ):
            return
        given = Given.now(self.world, host, opened)
        self._given.append(given)
        within_s = max((limit_s for _, limit_s in self._reached(given)), default=0.0)
        self.world.event_queue.after(within_s + HOP_S, self._look, given)

    def stepped(self, host: Host, event: object) -> None:
        machine = host.halt_machine
        if machine is None or self._last.get(host.number) is machine.state:
            return
        state = self._last[host.number] = machine.state
        for given in self._given:
            if state.highs.get(given.order.key, 0) >= given.order.seq:
                given.came_at.setdefault(host.number, self.world.now)

    def _look(self, given: Given) -> None:
        self._given.remove(given)
        for host, limit_s in self._reached(given):
            due_at = given.at + limit_s
            if due_at < min(self.world.now, given.came_at.get(host.number, math.inf)):
                raise self.broken(
                    self.LAW,
                    host,
                    f"order {given.order.seq} of {given.at:.3f} s at {given.origin.peer} "
                    f"has not come within {limit_s:.2f} s",
                )

    def _reached(self, given: Given) -> Iterator[tuple[Host, float]]:
        """Who must have it, and after how long at the latest (Dijkstra)."""
        longest_s = self.world.network.delays.longest_s
        todo: list[tuple[float, int]] = [(0.0, given.origin.number)]
        done: set[int] = set()
        while todo:
            limit_s, number = heapq.heappop(todo)
            host = self.world.hosts[number]
            if number in done or not given.still(host):
                continue
            done.add(number)
            yield host, limit_s
            if number in given.silent:
                continue
            for connection in host.connections.values():
                other = connection.other(host).number
                if other not in done and given.lasts(connection):
                    hop_s = HOP_S + longest_s(connection.base_s, FRAME_BYTES)
                    hop_s += ASKED_S if other in given.slow else 0.0
                    heapq.heappush(todo, (limit_s + hop_s, other))


@dataclass(frozen=True, slots=True)
class Given:
    """An order, and what there was when it was given: who was up and awake, in which life, which
    connections spoke, who keeps it to itself, who may have to ask for it (its frames come second
    where it is halted by that key already, and mean nothing without the charter). `came_at`: when
    each host had it."""

    order: Halt
    origin: Host
    at: float
    lives: dict[int, int]
    links: set[int]
    silent: set[int]
    slow: set[int]
    came_at: dict[int, float]

    @classmethod
    def now(cls, world: World, origin: Host, order: Halt) -> Given:
        assert origin.halt_machine is not None
        up = [host for host in world.hosts if host.alive and not host.frozen]
        version = origin.halt_machine.state.version
        return cls(
            order,
            origin,
            world.now,
            lives={host.number: host.life for host in up},
            links={
                c.number
                for host in up
                for c in host.connections.values()
                if _speaks(host, c.other(host))
            },
            silent={host.number for host in up if not host.behaviour.relays(host)},
            slow={
                host.number
                for host in up
                if host.halt_machine is None
                or host.halt_machine.state.version != version
                or any(halt.key == order.key for halt in host.halt_machine.state.standing)
            },
            came_at={
                host.number: world.now
                for host in up
                if host.halt_machine is not None
                and host.halt_machine.state.highs.get(order.key, 0) >= order.seq
            },
        )

    def still(self, host: Host) -> bool:
        """Whether it has been up and awake ever since."""
        return (
            host.alive
            and not host.frozen
            and self.lives.get(host.number) == host.life
            and host.thawed_at <= self.at
        )

    def lasts(self, connection: Connection) -> bool:
        """Whether nothing has cut it ever since."""
        is_whole = connection.cut_at < 0 and connection.healed_at < self.at
        return is_whole and connection.number in self.links


def _speaks(one: Host, two: Host) -> bool:
    """Whether both have greeted on the halt stream between them."""
    return (
        one.halt_machine is not None
        and two.halt_machine is not None
        and one.halt_machine.swarm_of(two.peer) == one.halt_machine.state.swarm
        and two.halt_machine.swarm_of(one.peer) == two.halt_machine.state.swarm
    )
