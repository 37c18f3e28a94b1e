"""The node as one pure state machine: an input and the time go in, effects come out.

It composes parts (`core.part`), the kill switch first: each hears what it names, and what one finds
out and others act upon goes from part to part as a fact. The trio driver and the simulator both
drive this class and nothing else.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from swarmllm.core.capacity.advertising import Advertising
from swarmllm.core.capacity.exchange import CapacityExchange, Sealing
from swarmllm.core.capacity.table import CapacityTable
from swarmllm.core.decoding.requests import Requests
from swarmllm.core.effects import NodeEffect, RecordChecked
from swarmllm.core.facts import Fact
from swarmllm.core.halt.clearance import Clearance
from swarmllm.core.halt.held import HeldInputs
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.halt.part import HaltPart
from swarmllm.core.inputs import (
    Input,
    NodeStops,
    OwnerStarts,
    OwnerStops,
    Persisted,
    RecordOffered,
    TimerFired,
    Woke,
)
from swarmllm.core.part import Part, Screen, hearers, key_of
from swarmllm.core.peers.dialling import Dialling
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.roster import Roster
from swarmllm.core.peers.router import Router
from swarmllm.core.peers.saving import AddressSaving
from swarmllm.core.peers.sightings import Sightings
from swarmllm.core.peers.subset_routers import SubsetRouters
from swarmllm.core.peers.view import NodeView
from swarmllm.core.peers.vocabularies import vocabularies
from swarmllm.core.serving.admission import Serving
from swarmllm.core.settings.holder import Settings
from swarmllm.core.trust.audits import Audits, Surroundings, Trust
from swarmllm.core.trust.signing import SessionSigning
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.messages import PeerId
from swarmllm.messages.declare import HALT

# Performed at once, whatever waits.
_URGENT = frozenset({HALT, Persisted, OwnerStops, OwnerStarts, Woke, NodeStops})


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Intervals in seconds; every one is spread by +-20 % so that a swarm started at once does not
    beat in step."""

    # Empty: this node has no model, and learns the vocabulary of the swarm (`VocabularyLearned`).
    vocab_fingerprint: bytes
    # The short hash of its name: with peers of another swarm no records are exchanged.
    swarm: bytes = bytes(8)
    advertise_every_s: float = 600.0
    look_up_every_s: float = 30.0
    look_up_below: int = 16  # Experts known; with more there is nobody to look for.
    save_every_s: float = 120.0


class Node:
    """`boot` is the Unix time in milliseconds at start; `rng` decides every choice that is left to
    chance; `sealing` signs our capacity records and opens those of others.

    `halts` is the kill switch, started already; None leaves it out, for tests of other parts.
    `parts` are further machines, heard after the node's own in their order. `settings` are read at
    each decision; None: the defaults, for good. `track_records`: what was seen of other experts
    before this start. `trust`: how experts are audited; None: they are not. `screen`: one of the
    `parts`, before which the others hear nothing from peers; None: anybody is heard.
    """

    def __init__(
        self,
        config: NodeConfig,
        peer: PeerId,
        boot: int,
        rng: random.Random,
        sealing: Sealing,
        halts: HaltMachine | None = None,
        parts: Sequence[Part] = (),
        settings: Settings | None = None,
        track_records: TrackRecords | None = None,
        trust: Trust | None = None,
        screen: Screen | None = None,
    ) -> None:
        self._peer = peer
        self.settings = settings or Settings()
        clearance = Clearance(peer, halts)
        self._table = CapacityTable()
        self._router = Router(peer, rng, self.settings, track_records)
        self._peering = Dialling(peer, rng, has_vocabulary=bool(config.vocab_fingerprint))
        self._serving = Serving(clearance, self.settings)
        connected = self._peering.connected
        known = (self._table, self._router, self._peering, self._serving)
        self._roster = Roster(peer, boot, config.vocab_fingerprint, known, clearance)
        routers = SubsetRouters(self._router, peer, self.settings)
        pool = partial(ExpertPool, self._roster, self._router, subsets=routers)
        self._requests = Requests(peer, rng, pool, clearance, self.settings)
        self._exchange = CapacityExchange(
            *(peer, rng, self._table, sealing, self._roster.next_record, self.settings),
            *(config.swarm, self._roster.is_usable),
        )
        every_s = config.advertise_every_s, config.look_up_every_s
        self._halts = None if halts is None else HaltPart(halts, connected)
        self._screen = screen
        self._held = HeldInputs()
        self._holding = False
        self._further = (*parts, *self._trust_parts(trust, clearance))
        # In this order each hears what several want: who knows before who acts upon it.
        self._parts: tuple[Part, ...] = (
            *(() if self._halts is None else (self._halts,)),
            routers,
            self._peering,
            AddressSaving(self._peering, rng, config.save_every_s),
            self._roster,
            Sightings(self._roster, connected),
            self._table,
            self._exchange,
            self._serving,
            self._requests,
            Advertising(self._roster, connected, rng, *every_s, config.look_up_below),
            *self._further,
        )
        self._hearers = hearers(self._parts)
        # Of each part, as it was after what it handled last. Looked up once, like their calls: this
        # stands in the way of every input.
        self._deadlines = [part.next_deadline() for part in self._parts]
        self._dialling_at = self._parts.index(self._peering)
        self._screen_at = -1 if screen is None else self._parts.index(screen)
        self._calls = [(part.handle, _deadline_of(part)) for part in self._parts]
        self._holds = _never if halts is None else halts.holds

    def _trust_parts(self, trust: Trust | None, clearance: Clearance) -> tuple[Part, ...]:
        """What signs our own expert's sessions, and what audits those of others."""
        if trust is None:
            return ()
        roster = self._roster
        around = Surroundings(
            self._peer, roster.askable, lambda: clearance.digest, clearance.is_cleared
        )
        audits = Audits(trust, around, self._router.track_records)
        roster.trust, roster.standing, roster.signs = audits.trust, audits.standing, True
        return SessionSigning(trust.seal), audits

    def handle(self, event: Input, now: float) -> list[NodeEffect]:
        """Everything that this input brings about, in order."""
        if self._screen is not None:
            passed = self._screen.screened(event, now)
            self._deadlines[self._screen_at] = self._screen.next_deadline()
            if passed is None or isinstance(passed, RecordChecked):
                return [] if passed is None else [passed]
            event = passed
        self._holding = self._holds(now)
        key = key_of(event)
        if key not in _URGENT:
            if self._holding and key is not TimerFired:
                return [*self._held.hold(event)]
            # Who offers a record is answered at once, whatever still waits.
            if self._held and not self._holding and not isinstance(event, RecordOffered):
                event = self._held.next(event)
                key = key_of(event)
        effects: list[NodeEffect] = []
        if key is TimerFired:
            self._tick(event, now, effects)
        else:
            self._deliver(key, event, now, effects)
        for one in () if self._screen is None else self._screen.released():
            self._deliver(key_of(one), one, now, effects)
        self._holding = self._holds(now)
        effects += self._peering.due(now)  # Behind all else, and so its deadline changes here.
        self._deadlines[self._dialling_at] = self._peering.next_deadline()
        return effects

    def next_deadline(self) -> float:
        """When a `TimerFired` is wanted, on the clock of `now`; infinity if never."""
        if self._holding:
            return self._deadlines[0]  # The kill switch's; others may have passed, and wait.
        if self._held:
            return -math.inf
        return min(self._deadlines)

    def halted(self, now: float) -> tuple[str, ...]:
        """Why no text may be written, a sentence each."""
        return () if self._halts is None else self._halts.view(now)

    def view(self, now: float) -> NodeView:
        """What `status` and `experts` show."""
        dropped, refused = self._exchange.view(now)
        return NodeView(
            peer=self._peer,
            boot=self._roster.boot,
            card=self._serving.card,
            load=self._serving.load,
            addrs=self._roster.addrs,
            peers=self._peering.view(now),
            experts=self._roster.view(now),
            answers_open=self._requests.view(now),
            rounds_served_open=self._serving.view(now),
            paused=self._serving.paused,
            halted=self.halted(now),
            records_dropped=dropped,
            records_refused=refused,
            parts=tuple(part.view(now) for part in self._further),
            vocabulary=self._roster.fingerprint,
            vocabularies=vocabularies(
                self._table.alive(now), self._peering.connected, self._roster.own_record()
            ),
        )

    def _deliver(
        self, key: object, event: Input | Fact, now: float, effects: list[NodeEffect]
    ) -> None:
        """To every part that wants it, in their order."""
        for place in self._hearers.get(key, ()):
            self._tell(place, event, now, effects)

    def _tell(self, place: int, event: Input | Fact, now: float, effects: list[NodeEffect]) -> None:
        """To one part. What it brings about is added to `effects`; facts are delivered where they
        stand."""
        handle, next_deadline = self._calls[place]
        told = handle(event, now)
        if next_deadline is not None:
            self._deadlines[place] = next_deadline()
        for one in told:
            if isinstance(one, Fact):
                self._deliver(type(one), one, now, effects)
            else:
                effects.append(one)

    def _tick(self, event: Input, now: float, effects: list[NodeEffect]) -> None:
        """The clock, to every part whose deadline has come, until the kill switch makes the others
        wait."""
        for place, deadline in enumerate(self._deadlines):
            if deadline <= now:
                self._tell(place, event, now, effects)
            if place == 0:
                self._holding = self._holds(now)
                if self._holding:
                    return


def _deadline_of(part: Part) -> Callable[[], float] | None:
    """How to ask the part for its deadline after what it handles; None if it never has one, and of
    connections, which are asked behind all else."""
    is_plain = getattr(type(part), "next_deadline", None) is Part.next_deadline
    return None if is_plain or isinstance(part, Dialling) else part.next_deadline


def _never(now: float) -> bool:
    """Without a kill switch nothing has to wait."""
    return False
