"""The kill switch of one node: records come in from anywhere, and out come the orders to stop, tell
and remember.

A HALT is **stop, tell, remember**: flag, relay, end of streams, then the disk. Nothing that can
fail or wait stands before the flag, so a full disk or a slow peer delays nothing. A RESUME is the
other way round, **remember first**: the flag is cleared only when a state without any standing halt
is known to be on disk. An acknowledgement says "on disk", never "seen".

A node calls `start(now)` before any listener opens, then `handle(input, now)` for every input of
the kill switch and `timer(now)` at `next_deadline(now)`; the effects are performed in list order.
Whoever makes tokens asks `may_serve` and `may_infer`, whoever reads a digest in a message calls
`settle`, and `holds` says whether everything else has to wait.

A link carries digests, then vectors, then records; which of them are news the state says
(`core.halt.state.validate`). Equal digests: silence. Else both send their vectors, and each answers
with the signed records that the other lacks, charters first; records are answered by an Ack with
the digest that is on disk. Vectors are sent again after 1 s, 2 s, ... 10 s while the two differ:
one lost frame costs a second.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Final, assert_never

from swarmllm.core.effects import (
    Announce,
    EndStreams,
    HaltEffect,
    Penalise,
    PublishRecord,
    RecordChecked,
    Relay,
    SendFrame,
    StartAgain,
    StopNow,
)
from swarmllm.core.events import (
    AckHeard,
    CharterHeard,
    HaltHeard,
    RecordRefused,
    ResumeHeard,
    StateSaved,
)
from swarmllm.core.halt.charter import Rejected, is_private
from swarmllm.core.halt.gossip import DelayedGossip
from swarmllm.core.halt.link import Link, Sync, frames_of, may_be_urgent, read_frame
from swarmllm.core.halt.links import Links
from swarmllm.core.halt.persistence import HaltPersistence
from swarmllm.core.halt.state import (
    Applied,
    HaltState,
    Known,
    Outcome,
    is_fork,
    is_urgent,
    lacks,
    missing,
)
from swarmllm.core.halt.state_file import Boot
from swarmllm.core.halt.validator import Validator
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    FrameReceived,
    HaltInput,
    OwnerStarts,
    OwnerStops,
    Persisted,
    RecordOffered,
    Woke,
)
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    Ack,
    Charter,
    Halt,
    HaltDigest,
    Halted,
    Live,
    PeerId,
    Records,
    Resume,
    Vectors,
)
from swarmllm.wire.envelope import Verify
from swarmllm.wire.signed import SignedRecord

# How often somebody is asked although nothing is known to be wrong; not in step.
ENTROPY_S: Final = (8.0, 12.0)


class HaltMachine:
    """One node's. `own_key` is its public key; `unix_ms_at_zero` the wall clock in ms where `now`
    (s) is 0: only beacons look at it. `rng` picks whom to ask every 10 s. There are no more links
    than the connections that the network allows."""

    def __init__(
        self, boot: Boot, own_key: bytes, verify: Verify, rng: random.Random, unix_ms_at_zero: int
    ) -> None:
        self._state = boot.state
        self._own_key = own_key
        self._validator = Validator(verify, unix_ms_at_zero)
        self._rng = rng
        self._links = Links()
        self.serves = False  # Whether the shared flag is clear: from `StartAgain` to `StopNow`.
        self._sync, self._waking = Sync(patient=True), Sync(done=True)
        self._entropy_at = math.inf
        self._saving = HaltPersistence(boot)
        self._gossip = DelayedGossip()

    # --- the seam ---------------------------------------------------------------------------------

    def handle(self, event: HaltInput, now: float) -> list[HaltEffect]:
        """What one input brings about, in order."""
        match event:
            case ChannelOpened(peer=peer):
                return self.opened(peer, now)
            case ChannelClosed(peer=peer):
                return self.closed(peer, now)
            case FrameReceived(peer=peer, frame=frame):
                return self.received(peer, frame, now)
            case RecordOffered():
                return self.offered(event, now)
            case Persisted(number=number, ok=ok):
                return self.persisted(number, ok, now)
            case OwnerStops():
                return self.stop_here(now)
            case OwnerStarts():
                return self.start_here(now)
            case Woke():
                return self.woke(now)
            case _:
                assert_never(event)

    # --- questions --------------------------------------------------------------------------------

    @property
    def state(self) -> HaltState:
        """The records and vectors; for publishing, proposing, export and the API."""
        return self._state

    @property
    def digest(self) -> bytes:
        return self._state.digest

    @property
    def durable(self) -> HaltState | None:
        """What a restart would begin with; None before the first state is on disk."""
        return self._saving.durable

    @property
    def halted(self) -> tuple[str, ...]:
        """Why this node is halted by order, by its owner, or for fear of an order it lost; empty if
        it is not."""
        if self._state.reasons:
            return self._state.reasons
        if self.durable is not None and self.durable.reasons:
            return ("the order to start again is not on disk yet",)
        return ()

    def swarm_of(self, peer: PeerId) -> bytes | None:
        """The id of the swarm that the peer has said to be of; None while it has said nothing.
        From the point of view of another one than ours our records are a breach."""
        link = self._links.get(peer)
        return None if link is None else link.swarm

    @property
    def acknowledged(self) -> frozenset[PeerId]:
        """The peers that have our whole halt state on disk."""
        return frozenset(peer for peer, link in self._links.items() if link.durable == self.digest)

    def may_serve(self, now: float) -> str:
        """Why no token may be made here now; empty if one may. Never before `StartAgain` has been
        given."""
        return next(iter(self._obstacles(now)), "" if self.serves else "about to start")

    def may_infer(self, peer: PeerId, now: float) -> str:
        """Why no token may be made with this peer now; empty if one may. Unsettled peers are
        already being asked."""
        if obstacle := self.may_serve(now):
            return obstacle
        link = self._links.get(peer)
        if link is None:
            return f"no halt stream to {peer} is open"
        if self._state.named is not None and link.swarm != self._state.swarm:
            return f"{peer} is of another swarm than the invite names"
        return "" if link.digest == self.digest else f"{peer} has other halt records than this node"

    def _obstacles(self, now: float) -> tuple[str, ...]:
        charter = self._state.charter
        if self.halted:
            return self.halted
        if charter is None:
            return (f"the charter of swarm {self._state.swarm.hex()[:16]} has not come yet",)
        if self._state.lacks_named:
            return ("the charter that the invite names has not come yet",)
        if not self.serves and self._saving.is_behind:
            return ("what this node was told last is not on disk yet",)
        if silent := self._validator.beacons.silent(charter, now):
            return (silent,)
        return (
            ()
            if self._agreed(self._sync, now)
            else ("asking peers for halts that were issued meanwhile",)
        )

    def holds(self, now: float) -> bool:
        """Whether this node woke and has not heard yet what happened meanwhile: no token, and
        nothing that leads to one."""
        return not self._waking.done and not self.halted and not self._agreed(self._waking, now)

    def is_isolated(self, now: float) -> bool:
        """Whether all of several links to our swarm were lost, and no order could have come since:
        no token is made alone."""
        return not self._agreed(self._links.isolated, now)

    def _agreed(self, sync: Sync, now: float) -> bool:
        if sync.done:
            return True
        alone = (
            self._state.charter is not None
            and is_private(self._state.charter)
            and self._state.charter.root[0] == self._own_key
        )
        return sync.is_done(
            *self._links.count(self._state, known_only=sync is self._links.isolated), alone, now
        )

    # --- life -------------------------------------------------------------------------------------

    def start(self, now: float) -> list[HaltEffect]:
        """The state has been loaded; nothing listens yet and the shared flag is set."""
        self._sync.started_at = now
        self._entropy_at = now + self._rng.uniform(*ENTROPY_S)
        effects: list[HaltEffect] = [StopNow(self.halted)] if self.halted else []
        # Killed between halting and taking back: the journal knows what is done already.
        self._saving.owe_revert(self._state)
        return [*effects, *self._saving.save(self._state), *self._flag(now)]

    def timer(self, now: float, connected: int = 0) -> list[HaltEffect]:
        """`next_deadline` has come. `connected` peers there are, with a halt stream or
        without."""
        effects = self._flag(now)
        if now >= self._gossip.due_at:
            all_have_it = connected <= len(self._links) == len(self.acknowledged)
            effects += self._gossip.due(all_have_it, now)
        if now >= self._saving.retry_at:
            effects += self._saving.save(self._state)
        if now >= self._entropy_at:
            self._entropy_at = now + self._rng.uniform(*ENTROPY_S)
            if peers := self._links.same_swarm(self._state):
                effects.append(self._greeting(peers[self._rng.randrange(len(peers))]))
        if now >= self._links.ask_at(self._state):
            self._links.touched()
            for peer, link in sorted(self._links.items()):
                effects += self._ask(peer, link, now)
        return effects

    def next_deadline(self, now: float) -> float:
        """When `timer` is wanted next; infinite before `start`."""
        found = (
            self._saving.retry_at,
            self._entropy_at,
            self._gossip.due_at,
            self._links.ask_at(self._state),
        )
        beacon_at = self._validator.beacons.next_deadline(self._state.charter, now)
        return min(
            *found, beacon_at, self._sync.next_deadline(now), self._waking.next_deadline(now)
        )

    def woke(self, now: float) -> list[HaltEffect]:
        """Nobody knows for how long, so it is as at the start: all are asked, and what they said
        before counts no more."""
        self._waking = Sync(started_at=now)
        self._links.touched()
        effects: list[HaltEffect] = []
        for peer, link in sorted(self._links.items()):
            if link.swarm == self._state.swarm:
                link.digest = None  # What it said before is old.
                link.told(now)  # Asked again after a second.
                effects.append(SendFrame(peer, self._state.vectors))
        return effects

    def stop_here(self, now: float) -> list[HaltEffect]:
        """The owner stops this node: no key, no network."""
        if self._state.stopped_here:
            return []
        self._state = replace(self._state, stopped_here=True)
        return [*self._flag(now), *self._saving.save(self._state)]

    def start_here(self, now: float) -> list[HaltEffect]:
        """The owner takes back the local stop, and answers for a lost record of halts. Orders of
        the swarm stay in force."""
        if not (self._state.stopped_here or self._state.lost):
            return []
        self._state = replace(self._state, stopped_here=False, lost=False)
        return [*self._saving.save(self._state), *self._flag(now)]

    def persisted(self, number: int, ok: bool, now: float) -> list[HaltEffect]:
        """The `Persist` of this number is on disk in both copies (`ok`), or could not be written:
        then it is tried again."""
        if not self._saving.done(number, ok, now):
            return []
        if self._saving.again:
            return [*self._saving.save(self._state), *self._flag(now)]
        effects: list[HaltEffect] = [*self._saving.owed_revert()]
        for record, skip in self._saving.owed_relays():
            effects.append(self._relay(record, skip))
            self._gossip.add(record, now)
        effects.append(Announce(StateSaved()))
        for peer, link in sorted(self._links.items()):
            effects += self._acknowledge(peer, link)
        return [*effects, *self._flag(now)]

    # --- links ------------------------------------------------------------------------------------

    def opened(self, peer: PeerId, now: float) -> list[HaltEffect]:
        """A halt stream to the peer is up, in place of any before."""
        self._links[peer] = Link(spent_at=now)
        self._links.touched()
        return [self._greeting(peer)]

    def closed(self, peer: PeerId, now: float) -> list[HaltEffect]:
        self._links.close(peer, self._state, now)
        return self._flag(now)  # Those that are left may all agree with us.

    def received(self, peer: PeerId, frame: bytes, now: float) -> list[HaltEffect]:
        """One frame, without its length, from a halt stream."""
        link = self._links.get(peer)
        if link is None:
            return []  # Its stream is gone.
        within = link.spend(now, len(self._links))
        if not within and not may_be_urgent(frame):
            return []  # Whatever it was, the next exchange makes up for it.
        try:
            message = read_frame(frame, is_first=not link.greeted)
        except RemoteError as fault:
            return [Penalise(peer, str(fault))]
        if isinstance(message, HaltDigest) and link.says(message):
            return []  # Nothing has changed; while the two of us differ, the clock asks.
        self._links.touched()
        if isinstance(message, Records):
            return self._records(peer, link, message, within, now)
        return [*self._exchange(peer, link, message, now), *self._flag(now)]

    def settle(
        self, peer: PeerId, digest: bytes, now: float, *, is_fresh: bool = True
    ) -> list[HaltEffect]:
        """A digest stood in an expert message of this peer, or (not `is_fresh`) in a capacity
        record, which may be seconds old and therefore only makes us ask."""
        link = self._links.get(peer)
        if link is None or (digest == self.digest and (not is_fresh or digest == link.digest)):
            return []  # As a rule; and this stands in the way of every token.
        self._links.touched()
        if is_fresh:
            link.agrees(digest)
        asked = self._ask(peer, link, now, on_suspicion=True) if digest != self.digest else []
        return [*asked, *self._flag(now)]

    def _exchange(
        self, peer: PeerId, link: Link, message: HaltDigest | Vectors | Ack, now: float
    ) -> list[HaltEffect]:
        match message:
            case HaltDigest(swarm=swarm, charter_version=version, ctl_digest=digest):
                link.swarm, link.version = swarm, version
                link.agrees(digest)
                return self._ask(peer, link, now)
            case Ack(ctl_digest=digest):
                link.agrees(digest)
                link.durable = digest
                acked: list[HaltEffect] = (
                    [Announce(AckHeard(peer))] if digest == self.digest else []
                )
                return acked + self._ask(peer, link, now)
            case Vectors():
                link.swarm, link.version, link.forked = (
                    message.swarm,
                    message.charter_version,
                    is_fork(self._state, message),
                )
                if message == self._state.vectors:
                    link.agrees(self.digest)
                    link.ack_due = True
                    return self._acknowledge(peer, link)
                effects: list[HaltEffect] = [
                    SendFrame(peer, one) for one in frames_of(missing(self._state, message))
                ]
                if lacks(self._state, message):
                    effects += self._ask(peer, link, now, on_suspicion=True)
                elif not effects and message.swarm == self._state.swarm:
                    link.ack_due = True
                    effects += self._acknowledge(peer, link)
                return effects
            case _:
                assert_never(message)

    def _records(
        self, peer: PeerId, link: Link, message: Records, within: bool, now: float
    ) -> list[HaltEffect]:
        effects: list[HaltEffect] = []
        link.ack_due = link.ack_due or within
        for data in message.records:
            if not within and not is_urgent(self._state, data):
                continue
            outcome, more = self._take(data, peer, link, now)
            effects += more
            if not isinstance(outcome, (Applied, Known)) and outcome.penalise:
                # One strike a frame, one bad signature a strike: what a liar costs is bounded.
                break
        return effects + self._acknowledge(peer, link)

    def _ask(
        self, peer: PeerId, link: Link, now: float, *, on_suspicion: bool = False
    ) -> list[HaltEffect]:
        """Send our vectors if the two of us differ and it is time."""
        wanted = link.swarm == self._state.swarm and (on_suspicion or link.differs(self._state))
        return [SendFrame(peer, self._state.vectors)] if wanted and link.may_ask(now) else []

    def _greeting(self, peer: PeerId) -> SendFrame:
        return SendFrame(peer, HaltDigest(self._state.swarm, self._state.version, self.digest))

    def _acknowledge(self, peer: PeerId, link: Link) -> list[HaltEffect]:
        if not link.ack_due or self.durable is None or self.durable.digest != self.digest:
            return []
        link.ack_due = False
        return [SendFrame(peer, Ack(self.digest))]

    # --- records ----------------------------------------------------------------------------------

    def offered(self, offer: RecordOffered, now: float) -> list[HaltEffect]:
        """A record from gossip, inside the validator, or by hand. A resume is published when it is
        on disk, not before."""
        outcome, effects = self._take(offer.record, offer.forwarder, None, now)
        passes = isinstance(outcome, Applied) and not isinstance(outcome.opened.record, Resume)
        return [RecordChecked(offer.check, outcome, passes), *effects]

    def _take(
        self, data: bytes, peer: PeerId | None, link: Link | None, now: float
    ) -> tuple[Outcome, list[HaltEffect]]:
        self._links.touched()
        outcome = self._validator.outcome(self._state, data, link, now)
        match outcome:
            case Known():
                return outcome, []
            case Applied(opened=opened, state=state):
                self._state = state
                return outcome, self._applied(
                    opened, peer, now, passed_on=peer is not None and link is None
                )
            case Rejected():
                pass
        effects: list[HaltEffect] = [Announce(RecordRefused(peer, outcome.reason))]
        if peer is not None and outcome.penalise and not self._links.is_forked(peer):
            effects.append(Penalise(peer, outcome.reason))
        if peer is not None and outcome.ask and (asked := self._links.get(peer)) is not None:
            effects += self._ask(peer, asked, now, on_suspicion=True)
        return outcome, effects

    def _applied(
        self, opened: SignedRecord, peer: PeerId | None, now: float, *, passed_on: bool
    ) -> list[HaltEffect]:
        """What a record that brought news brings about, in order. `passed_on`: by gossip, from
        where it came."""
        relay = self._relay(opened.data, peer, is_live=isinstance(opened.record, Live))
        if not passed_on and isinstance(opened.record, Halt | Charter):
            self._gossip.add(opened.data, now)
        for link in self._links.values() if not isinstance(opened.record, Live) else ():
            link.told(now)
        match opened.record:
            case Halt() as order:
                return [
                    *self._flag(now, relay),
                    *self._saving.save(self._state),
                    Announce(HaltHeard(order, peer)),
                ]
            case Resume() as order:
                self._saving.relay_after(opened.data, peer)
                return [*self._saving.save(self._state), Announce(ResumeHeard(order, peer))]
            case Charter(version=version):
                # Told before it is on disk: records that only make sense under it may follow, and
                # it proves itself.
                told: list[HaltEffect] = [*self._flag(now), relay, *self._saving.save(self._state)]
                return [*told, Announce(CharterHeard(version, peer)), *self._flag(now)]
            case Live():
                return [
                    relay,
                    *([] if passed_on else [PublishRecord(opened.data)]),
                    *self._flag(now),
                ]
            case _:
                assert_never(opened.record)

    def _relay(self, record: bytes, skip: PeerId | None, *, is_live: bool = False) -> Relay:
        return Relay(
            record,
            tuple(peer for peer in self._links.same_swarm(self._state) if peer != skip),
            is_live,
        )

    def _flag(self, now: float, *told: HaltEffect) -> list[HaltEffect]:
        """Set or clear the shared flag where it does not say what it should: stop, and end all
        streams, or start again. `told` comes right behind the stop: nothing that can wait stands
        before the flag, and nothing but the flag before the word."""
        obstacles = self._obstacles(now)
        if self.serves and obstacles:
            self.serves = False  # Whether the shared flag is clear: from `StartAgain` to `StopNow`.
            self._saving.owe_revert(self._state)
            return [StopNow(obstacles), *told, EndStreams(Halted(self.digest))]
        if not self.serves and not obstacles and self._sync.started_at <= now:
            self.serves = True
            return [*told, StartAgain()]
        return [*told]
