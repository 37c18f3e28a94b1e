"""What must hold in every world, whatever happens in it: checked at every step of every host.

    `HaltedIsSilent`     no token, and no request for one, leaves a halted host
    `HaltsAreKept`       the kill switch's state never goes back, restarts included
    `AnswersEnd`         every request ends exactly once, in time, and no token of it is lost or doubled
    `SoundPicks`         only experts that are listed, connected and able are asked
    `Bounded`            every collection keeps its bound
    `HaltsArrive`        an order reaches whoever is connected through honest hosts, within its time
    `TablesAgree`        when nothing changes any more, everybody lists those connected to it, and nobody lists the dead

The laws are about what others can see and what survives, so none of them knows how a machine does it, with one exception: `Bounded` looks
at the machines' collections.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from swarmllm.core import answers, capacity, decoding, peering, router, serving
from swarmllm.core.control_link import StopNow
from swarmllm.core.events import Emit, Ended, Send, TokenChosen
from swarmllm.core.halt import HaltState
from swarmllm.core.halt_file import load
from swarmllm.messages import Halt, Open, PeerId, Score, Scores
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.fabric import CONNECTIONS_MAX
from swarmllm.testing.world.host import HONEST, Answer, Host
from swarmllm.wire.signed import open_record

if TYPE_CHECKING:
    from swarmllm.core.node import NodeEffect

TOKEN_S: Final = (
    decoding.ROUND_MAX_S + decoding.EXPERT_WAIT_S + 5.0
)  # The longest that a token can take before the request is given up.
LOOK_EVERY: Final = 64  # Steps of a host between two looks at its collections.
HOP_S: Final = 0.05  # What one host may take to pass an order on, beside the way.
DELAYS: Final = 8.0  # Medians that one way may take: 5 sigma of a log-normal with sigma 0.4.
LOSS_S: Final = 3.0  # Per hop where packets are lost: four retransmissions in a row.


class HaltedIsSilent(Checker):
    """HALT-15, HALT-26."""

    LAW: Final = "a halted host is silent"

    def decided(self, host: Host, event: object, effects: list[NodeEffect]) -> None:
        is_halted = host.is_halted
        for effect in effects:
            if isinstance(effect, StopNow):
                is_halted = True
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
        case Send(message=Score() | Scores()) | Emit(event=TokenChosen()):
            return True
        case _:
            return False


class HaltsAreKept(Checker):
    """HALT-11, HALT-17, HALT-31, HALT-32: within a life the vectors only rise; a new life begins with what was on disk."""

    LAW: Final = "the state of the kill switch never goes back"

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, HaltState]] = {}

    def stepped(self, host: Host, event: object) -> None:
        control = host.control
        if control is None or not host.alive:
            return
        life, before = self._last.get(host.number, (0, None))
        state = control.state
        if life == host.life and before is state:
            return
        self._last[host.number] = (host.life, state)
        if before is None:
            return
        if life == host.life:
            self._compare(host, before, state, "forgot")
            return
        disk = host.disk
        if disk.first is None and disk.second is None:
            if disk.genesis is not None and not (state.lost or host.is_halted):
                raise self.broken(self.LAW, host, "its state was lost, and it runs")
            return
        found = load(disk.first, disk.second, disk.genesis, host.private, host.world.founders.swarm)
        self._compare(host, found.state, state, "did not load")

    def _compare(self, host: Host, before: HaltState, after: HaltState, verb: str) -> None:
        if after.version < before.version:
            raise self.broken(self.LAW, host, f"{verb} charter {before.version}")
        if after.version > before.version:
            return  # L begins again, and keys may have gone.
        for name, old, new in (("halt", before.highs, after.highs), ("lift", before.lifts, after.lifts)):
            for key in sorted(old):
                if new.get(key, 0) < old[key]:
                    raise self.broken(self.LAW, host, f"{verb} {name} {old[key]} of key {key.hex()}")


class AnswersEnd(Checker):
    """Every request ends once; its tokens are numbered without gap; between two of them lies no more than `TOKEN_S`."""

    LAW: Final = "every request ends exactly once, in time and whole"

    def token(self, host: Host, answer: Answer, chosen: TokenChosen) -> None:
        if answer.ends:
            raise self.broken(self.LAW, host, f"token {chosen.index} of request {answer.request} after its end")
        if chosen.index != len(answer.tokens) - 1:
            raise self.broken(
                self.LAW, host, f"request {answer.request}: token {chosen.index} comes as number {len(answer.tokens) - 1}"
            )
        self._in_time(host, answer, answer.times[-2] if len(answer.times) > 1 else answer.asked_at)

    def ended(self, host: Host, answer: Answer, end: Ended) -> None:
        if len(answer.ends) != 1:
            raise self.broken(self.LAW, host, f"request {answer.request} ended {len(answer.ends)} times: {answer.ends}")
        if end.tokens != len(answer.tokens):
            raise self.broken(
                self.LAW, host, f"request {answer.request} ended with {end.tokens} tokens, and {len(answer.tokens)} came"
            )
        if end.reason == "length" and end.tokens != answer.order.max_tokens:
            raise self.broken(
                self.LAW, host, f"request {answer.request} ended by length at {end.tokens} of {answer.order.max_tokens}"
            )
        self._in_time(host, answer, answer.times[-1] if answer.times else answer.asked_at)

    def settled(self) -> None:
        for answer in self.world.answers:
            if not answer.ends and answer.host.alive and answer.life == answer.host.life:
                self._in_time(answer.host, answer, answer.times[-1] if answer.times else answer.asked_at)

    def _in_time(self, host: Host, answer: Answer, since: float) -> None:
        waited_s = self.world.now - max(since, host.thawed_at)
        if waited_s > TOKEN_S and not host.frozen:
            raise self.broken(self.LAW, host, f"request {answer.request} waited {waited_s:.1f} s at token {len(answer.tokens)}")


class SoundPicks(Checker):
    """Whoever is asked stands in the table of who asks, with a fitting vocabulary and context, and is connected."""

    LAW: Final = "only experts that are listed, connected and able are asked"

    def leaves(self, host: Host, peer: PeerId, message: Any) -> None:
        if host.habits is not HONEST or not isinstance(message, (Open, Score)):
            return
        record = next((e.record for e in host.node.view(host.clock()).experts if e.peer == peer and e.connected), None)
        if isinstance(message, Open):
            if record is None:
                raise self.broken(self.LAW, host, f"it opens a session at {peer}, which it does not list as connected")
            if record.vocab_fingerprint != message.vocab_fingerprint or record.model_digest != message.model_digest:
                raise self.broken(self.LAW, host, f"it opens a session at {peer} for another model or vocabulary than it offers")
        elif record is not None and message.base + len(message.tokens) > record.context_max:
            raise self.broken(
                self.LAW, host, f"{message.base + len(message.tokens)} tokens for {peer}, which takes {record.context_max}"
            )


class Bounded(Checker):
    """Looked at every `LOOK_EVERY` steps of a host, since collections grow by one at a time."""

    LAW: Final = "every collection keeps its bound"

    def __init__(self) -> None:
        self._steps: dict[int, int] = {}

    def stepped(self, host: Host, event: object) -> None:
        count = self._steps[host.number] = self._steps.get(host.number, 0) + 1
        if count % LOOK_EVERY == 0 and host.alive:
            for name, size, most in sizes(host):
                if size > most:
                    raise self.broken(self.LAW, host, f"{name} holds {size} of at most {most}")


def sizes(host: Host) -> Iterator[tuple[str, int, int]]:
    """(what, how many it holds, how many it may hold) of one host."""
    node = host.node
    yield "the capacity table", len(node._table), capacity.PEERS_MAX
    yield "the address book", len(node._peering._known), peering.KNOWN_MAX
    yield "the router's histories", len(node._router.histories()), router.HISTORY_MAX
    yield "answers", len(node._answers), answers.ANSWERS_MAX
    yield "rounds served", node._serving.rounds_open, serving.ROUNDS_MAX
    yield "connections", len(host.connections), CONNECTIONS_MAX
    for requester in node._serving._requesters.values():
        yield "sessions of one peer", len(requester.sessions), serving.SESSIONS_PER_PEER_MAX
        yield "rounds of one peer", requester.rounds, serving.ROUNDS_PER_PEER_MAX
    if host.control is not None:
        yield "control links", len(host.control._links), CONNECTIONS_MAX


class HaltsArrive(Checker):
    """From the host at which an order is published, through honest hosts that are up and awake all the while, over connections that
    last: along the quickest of these ways, each hop within `DELAYS` times its median and `HOP_S`."""

    LAW: Final = "an order reaches whoever is connected through honest hosts"

    def published(self, host: Host, record: bytes) -> None:
        opened = open_record(record).record
        if not isinstance(opened, Halt) or host.control is None or host.control.state.highs.get(opened.key, 0) != opened.seq:
            return
        lives = {h.number: h.life for h in self.world.hosts if h.alive and not h.frozen}
        links = {c.number for h in self.world.hosts for c in h.connections.values() if _speaks(h, c.other(h))}
        within_s = 1.0 + len(lives) * (HOP_S + (LOSS_S if self.world.fabric.delays.model.loss else 0.0))
        self.world.agenda.after(within_s, self._look, host, opened, lives, links, self.world.now)

    def _look(self, origin: Host, order: Halt, lives: dict[int, int], links: set[int], since: float) -> None:
        for host, limit_s in self._reached(origin, lives, links, since):
            if limit_s > self.world.now - since:
                continue
            assert host.control is not None
            if host.control.state.highs.get(order.key, 0) < order.seq:
                raise self.broken(
                    self.LAW, host, f"order {order.seq} of {since:.3f} s at {origin.peer} has not come within {limit_s:.2f} s"
                )

    def _reached(self, origin: Host, lives: dict[int, int], links: set[int], since: float) -> Iterator[tuple[Host, float]]:
        """Who must have it, and after how long at the latest (Dijkstra)."""
        loss_s = LOSS_S if self.world.fabric.delays.model.loss else 0.0
        todo: list[tuple[float, int]] = [(0.0, origin.number)]
        done: set[int] = set()
        while todo:
            limit_s, number = heapq.heappop(todo)
            host = self.world.hosts[number]
            if number in done or not self._stayed(host, lives, since):
                continue
            done.add(number)
            yield host, limit_s
            if not host.habits.relays(host):
                continue
            for connection in host.connections.values():
                if connection.number in links and connection.cut_at < 0:
                    hop_s = DELAYS * connection.base_s + HOP_S + loss_s
                    heapq.heappush(todo, (limit_s + hop_s, connection.other(host).number))

    def _stayed(self, host: Host, lives: dict[int, int], since: float) -> bool:
        return host.alive and not host.frozen and lives.get(host.number) == host.life and host.thawed_at <= since


def _speaks(one: Host, two: Host) -> bool:
    """Whether both have greeted on the control stream between them."""
    return one.control is not None and two.control is not None and one.control.is_kin(two.peer) and two.control.is_kin(one.peer)


class TablesAgree(Checker):
    """Asked once faults have been off for long enough: whoever runs an expert and is connected to a host is listed by it, and nobody
    lists a peer that has been gone for longer than records are believed."""

    LAW: Final = "tables agree when nothing changes"

    def settled(self) -> None:
        for host in self.world.alive():
            listed = {e.peer for e in host.node.view(host.clock()).experts}
            for peer, connection in host.connections.items():
                other = connection.other(host)
                if other.engine is not None and not other.frozen and peer not in listed:
                    raise self.broken(self.LAW, host, f"it does not list {peer}, to which it is connected")
            for peer in sorted(listed - {host.peer}):
                other = self.world.host_of(peer)
                if not other.alive and self.world.now - other.died_at > capacity.RECORD_TTL_S + 1.0:
                    raise self.broken(
                        self.LAW, host, f"it lists {peer}, which has been gone for {self.world.now - other.died_at:.0f} s"
                    )


def all_laws() -> tuple[Checker, ...]:
    """One of each, for one world."""
    return (HaltedIsSilent(), HaltsAreKept(), AnswersEnd(), SoundPicks(), Bounded(), HaltsArrive(), TablesAgree())
