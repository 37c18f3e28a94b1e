"""Passes and tickets between the peers of a closed swarm: each shows the other that it belongs to
it; a newcomer shows the ticket of its invite to the inviter, and gets a membership for it.

Frames are only put down when they come, and read with the clock: what is counted must be on disk
before it is answered, and only there effects keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.effects import Emit, Hangup, NodeEffect, Penalise, RecordChecked, Save, SendFrame
from swarmllm.core.events import NotLetIn
from swarmllm.core.facts import Fact, HaltStateChanged
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    Input,
    TicketMade,
)
from swarmllm.core.membership.door import Door
from swarmllm.core.membership.passes import LIFE_MS, Judged, judged
from swarmllm.core.membership.tickets import TicketBook, load_tickets
from swarmllm.core.part import Part
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import BOTH, MEMBER, kinds_on
from swarmllm.messages.goodbye import MEMBERS
from swarmllm.messages.membership import (
    MAY_NOT,
    NOT_ADMITTED,
    Admitted,
    MemberFrame,
    Membership,
    NotAdmitted,
    Pass,
    TicketShown,
)
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.envelope import Sign, Verify
from swarmllm.wire.identity import public_key_of
from swarmllm.wire.signed import sign_record

TICKETS: Final = "tickets"  # Keys in the store.
OWN_PASS: Final = "pass"
FRAMES: Final = kinds_on(MEMBER, BOTH)


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's key, and how signatures are checked."""

    public_key: bytes
    sign: Sign
    verify: Verify


@dataclass(frozen=True, slots=True)
class Letter:
    """What an invite to a closed swarm says to its bearer: whom to show this ticket."""

    inviter: PeerId
    ticket: bytes


@dataclass(frozen=True, slots=True)
class MembersView:
    """How many peers have shown a good pass, until when this node's own is good (0: it has none),
    and why it belongs to the swarm no more, or not yet."""

    members: int
    own_ends_ms: int
    may_invite: bool
    fault: str


class Members(Part):
    """`core.part.Screen`. `own_pass` is what the owner gave this node, or what it was given before;
    `letter` what it joins with. `unix_ms_at_zero`: the wall clock where `now` is 0."""

    channel = MEMBER
    inputs = (TicketMade, HaltStateChanged)

    def __init__(
        self,
        own: Identity,
        machine: HaltMachine,
        *,
        own_pass: bytes,
        tickets: bytes,
        letter: Letter | None,
        unix_ms_at_zero: int,
    ) -> None:
        self._door = Door()
        self._own, self._machine, self._letter = own, machine, letter
        self._book = load_tickets(tickets)
        self._unix_ms_at_zero = unix_ms_at_zero
        self._pass = _read_pass(own_pass)
        self._worth = Judged("not looked at yet")
        self._roots: frozenset[bytes] = frozenset()  # Under which all that counts was looked at.
        # Whether we have shown on a stream what we have; bounded by the connections.
        self._streams: dict[PeerId, bool] = {}
        self._frames: dict[PeerId, dict[type, MemberFrame]] = {}
        self._due_at = math.inf
        self._fault = ""

    def screened(self, event: Input, now: float) -> Input | RecordChecked | None:
        return self._door.screened(event, now)

    def released(self) -> Sequence[Input]:
        return self._door.released()

    def handle(self, event: Input | Fact, now: float) -> list[NodeEffect]:
        match event:
            case ChannelOpened(peer=peer):
                self._streams[peer] = False
                self._due_at = now
            case ChannelClosed(peer=peer):
                self._streams.pop(peer, None)
                self._frames.pop(peer, None)
            case FrameReceived(peer=peer, frame=frame):
                try:
                    message: MemberFrame = decode(frame, FRAMES)
                except RemoteError as fault:
                    return [Penalise(peer, str(fault))]
                if peer in self._streams:
                    self._frames.setdefault(peer, {})[type(message)] = message
                    self._due_at = now
            case TicketMade(ticket=ticket, uses=uses, ends_ms=ends_ms):
                self._book = self._book.with_ticket(ticket, uses, ends_ms, self._unix_ms(now))
                return [Save(TICKETS, self._book.pack())]
            case HaltStateChanged():
                self._due_at = now
            case _:
                return self._timer(now)
        return []

    def next_deadline(self) -> float:
        return min(self._due_at, self._door.next_deadline())

    def view(self, now: float) -> MembersView:
        worth = self._own_worth(now)
        ends_ms = 0 if worth.fault else worth.ends_ms
        may_invite = worth.may_invite and not worth.fault
        return MembersView(self._door.members(now), ends_ms, may_invite, self._fault or worth.fault)

    def _timer(self, now: float) -> list[NodeEffect]:
        self._due_at = math.inf
        effects: list[NodeEffect] = []
        # Without a charter nobody knows whose signatures count; it is on its way.
        charter = self._machine.state.charter
        if charter is not None:
            if (roots := frozenset(charter.root)) != self._roots:
                self._look_again(roots, now)
            taken, self._frames = self._frames, {}
            for peer, frames in sorted(taken.items()):
                for kind in sorted(frames, key=lambda one: one.__name__):
                    effects += self._taken(peer, frames[kind], now)
            effects += self._shown(now)
        return [*effects, *self._door.due(now)]

    def _look_again(self, roots: frozenset[bytes], now: float) -> None:
        """Other root keys: who was let in by one that is none any more is so no longer."""
        self._roots, self._worth = roots, Judged("not looked at yet")
        for peer, shown in self._door.shown():
            worth = self._worth_of(shown, public_key_of(peer), self._unix_ms(now))
            if worth.fault:
                self._door.shut_out(peer, worth.fault)

    # --- what this node shows ---------------------------------------------------------------------

    def _shown(self, now: float) -> list[NodeEffect]:
        """Our pass, to all who have not seen it; to the inviter the ticket, while we have none."""
        own: Pass | TicketShown | None = None if self._own_worth(now).fault else self._pass
        effects: list[NodeEffect] = []
        for peer, has_seen in sorted(self._streams.items()):
            message = own
            if own is None and self._letter is not None and peer == self._letter.inviter:
                message = TicketShown(self._letter.ticket)
            if message is not None and not has_seen:
                self._streams[peer] = True
                effects.append(SendFrame(peer, message, MEMBER))
        return effects

    def _own_worth(self, now: float) -> Judged:
        """What our pass is worth now; a root key gives itself one, and anew at its half."""
        unix_ms = self._unix_ms(now)
        if self._machine.state.charter is None:
            return Judged("the charter has not come yet")
        if self._is_root and unix_ms >= self._worth.ends_ms - LIFE_MS // 2:
            own = self._signed(self._own.public_key, unix_ms, unix_ms + LIFE_MS, may_invite=True)
            self._take_pass(Pass(own, b""))
        if self._pass is None:
            return Judged("this node has no membership of this closed swarm")
        if self._worth.fault or unix_ms >= self._worth.ends_ms:
            self._worth = self._worth_of(self._pass, self._own.public_key, unix_ms)
        return self._worth

    @property
    def _is_root(self) -> bool:
        charter = self._machine.state.charter
        return charter is not None and self._own.public_key in charter.root

    def _take_pass(self, own: Pass) -> None:
        """From now on this is what we show, to all."""
        self._pass, self._worth, self._fault = own, Judged("not looked at yet"), ""
        self._streams = dict.fromkeys(self._streams, False)

    def _worth_of(self, shown: Pass | Admitted, member: bytes, unix_ms: int) -> Judged:
        charter = self._machine.state.charter
        assert charter is not None, "who may sign a membership is not known without a charter"
        swarm, roots = self._machine.state.swarm, frozenset(charter.root)
        return judged(shown, member, swarm, roots, unix_ms, self._own.verify)

    def _signed(self, member: bytes, now_ms: int, ends_ms: int, *, may_invite: bool) -> bytes:
        swarm = self._machine.state.swarm
        record = Membership(swarm, member, int(may_invite), now_ms, ends_ms)
        return sign_record(record, [(self._own.public_key, self._own.sign)])

    # --- what others show -------------------------------------------------------------------------

    def _taken(self, peer: PeerId, message: MemberFrame, now: float) -> list[NodeEffect]:
        match message:
            case Pass():
                worth = self._worth_of(message, public_key_of(peer), self._unix_ms(now))
                if worth.fault:
                    return [Hangup(peer, worth.fault, MEMBERS)]
                self._door.let_in(peer, self._on_clock(worth.ends_ms), message)
                return []
            case TicketShown(ticket=ticket):
                return self._ticket(peer, ticket, now)
            case Admitted():
                return self._admitted(peer, message, now)
            case NotAdmitted(code=code):
                if not self._awaits(peer, now):
                    return []
                self._fault = NOT_ADMITTED.get(code, f"reason {code}") + "; ask for another one"
                return [Emit(NotLetIn(self._fault))]

    def _ticket(self, peer: PeerId, ticket: bytes, now: float) -> list[NodeEffect]:
        """Somebody wants to be let in. What was counted is on disk before it is answered."""
        own, unix_ms, member = self._own_worth(now), self._unix_ms(now), public_key_of(peer)
        taken: TicketBook | int = MAY_NOT
        if own.may_invite and not own.fault:
            taken = self._book.taken(ticket, member, unix_ms)
        if isinstance(taken, int):
            return [SendFrame(peer, NotAdmitted(taken), MEMBER)]
        assert self._pass is not None, "whoever may invite has a pass"
        # What a delegate gives ends with what it was given.
        ends_ms = unix_ms + LIFE_MS if self._is_root else min(unix_ms + LIFE_MS, own.ends_ms)
        membership = self._signed(member, unix_ms, ends_ms, may_invite=False)
        delegation = b"" if self._is_root else self._pass.membership
        self._book = taken
        self._door.let_in(peer, self._on_clock(ends_ms), Pass(membership, delegation))
        return [
            Save(TICKETS, taken.pack()),
            SendFrame(peer, Admitted(membership, delegation), MEMBER),
        ]

    def _awaits(self, peer: PeerId, now: float) -> bool:
        """Whether we have shown this peer our ticket, and wait for what it says."""
        has_pass = not self._own_worth(now).fault
        return self._letter is not None and peer == self._letter.inviter and not has_pass

    def _admitted(self, peer: PeerId, message: Admitted, now: float) -> list[NodeEffect]:
        if not self._awaits(peer, now):
            return []  # Nobody asked for it.
        worth = self._worth_of(message, self._own.public_key, self._unix_ms(now))
        if worth.fault:
            self._fault = f"what the inviter sent does not let this node in: {worth.fault}"
            return [Emit(NotLetIn(self._fault))]
        own = Pass(message.membership, message.delegation)
        self._take_pass(own)
        return [Save(OWN_PASS, encode(own))]

    # --- clocks -----------------------------------------------------------------------------------

    def _unix_ms(self, now: float) -> int:
        return max(0, self._unix_ms_at_zero + round(now * 1000))

    def _on_clock(self, unix_ms: int) -> float:
        return (unix_ms - self._unix_ms_at_zero) / 1000


def _read_pass(data: bytes) -> Pass | None:
    """What was kept; anything else is none."""
    try:
        found: Pass = decode(data, (Pass,))
    except RemoteError:
        return None
    return found
