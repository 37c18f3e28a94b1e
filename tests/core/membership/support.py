"""Nodes of a closed swarm as their passes see it, on wires that lose nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmllm.core.effects import Emit, Hangup, NodeEffect, Save, SendFrame
from swarmllm.core.halt.charter import charter_hash, private_charter
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.state import HaltState
from swarmllm.core.inputs import ChannelOpened, FrameReceived, PeerConnected, TicketMade, TimerFired
from swarmllm.core.membership.part import OWN_PASS, TICKETS, Identity, Letter, Members
from swarmllm.messages import PeerId
from swarmllm.messages.declare import MEMBER
from swarmllm.wire.codec import encode
from swarmllm.wire.identity import peer_id_of
from tests.core.halt.support import Person, apply, new_machine, opened, signed, verify

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
TICKET = bytes(range(16))


def founded_by(person: Person) -> HaltState:
    """A swarm of one, whose owner's key has every role."""
    data = signed(private_charter(person.public_key), person)
    return apply(HaltState(charter_hash(opened(data))), data)


@dataclass
class Peer:
    """One node: its part, what it kept, and what it ordered."""

    person: Person
    part: Members
    machine: HaltMachine
    disk: dict[str, bytes] = field(default_factory=dict)
    done: list[NodeEffect] = field(default_factory=list)

    @property
    def id(self) -> PeerId:
        return peer_id_of(self.person.public_key)

    def told(self, *kinds: type) -> list[NodeEffect]:
        return [one for one in self.done if isinstance(one, kinds)]

    @property
    def hung_up(self) -> dict[PeerId, str]:
        return {one.peer: one.reason for one in self.done if isinstance(one, Hangup)}

    @property
    def turned_away(self) -> list[str]:
        return [one.event.reason for one in self.done if isinstance(one, Emit)]  # type: ignore[union-attr]


def peer(
    name: str,
    state: HaltState,
    *,
    own_pass: bytes = b"",
    tickets: bytes = b"",
    invited_by: Peer | None = None,
    ticket: bytes = TICKET,
) -> Peer:
    person = Person(name)
    machine = new_machine(state, own=person)
    letter = None if invited_by is None else Letter(invited_by.id, ticket)
    part = Members(
        Identity(person.public_key, person.sign, verify),
        machine,
        own_pass=own_pass,
        tickets=tickets,
        letter=letter,
        unix_ms_at_zero=NOW_MS,
    )
    return Peer(person, part, machine)


class Swarm:
    """Frames arrive at once, and clocks are one."""

    def __init__(self, *peers: Peer) -> None:
        self.peers = {one.id: one for one in peers}
        self.now = 0.0

    def link(self, one: Peer, two: Peer) -> None:
        """A connection and a stream, from both sides."""
        for here, there in ((one, two), (two, one)):
            for event in (PeerConnected(there.id), ChannelOpened(there.id, MEMBER)):
                passed = here.part.screened(event, self.now)
                if isinstance(passed, ChannelOpened):
                    here.done += here.part.handle(passed, self.now)
        self.settle()

    def invite(self, inviter: Peer, uses: int = 1, ends_ms: int = NOW_MS + DAY_MS) -> None:
        self.perform(inviter, inviter.part.handle(TicketMade(TICKET, uses, ends_ms), self.now))

    def settle(self) -> None:
        """Until nobody has anything to do now."""
        for _ in range(50):
            due = [one for one in self.peers.values() if one.part.next_deadline() <= self.now]
            if not due:
                return
            for one in due:
                self.perform(one, one.part.handle(TimerFired(), self.now))
        raise AssertionError("they never settle")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def perform(self, one: Peer, effects: list[NodeEffect]) -> None:
        one.done += effects
        for effect in effects:
            match effect:
                case Save(key=key, value=value):
                    one.disk[key] = value
                case SendFrame(peer=to, message=message, channel=channel) if to in self.peers:
                    event = FrameReceived(one.id, encode(message), channel)
                    self.peers[to].done += self.peers[to].part.handle(event, self.now)
                case _:
                    continue

    def is_in(self, one: Peer, at: Peer) -> bool:
        """Whether a message of this peer's would be heard at the other one."""
        return at.part.screened(PeerConnected(one.id), self.now) is not None


__all__ = ["OWN_PASS", "TICKETS"]
