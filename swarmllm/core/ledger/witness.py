"""A witness of neighbours' logs: it keeps the last checkpoint of each, accepts a longer one only
with the proof that the log has only grown, cosigns what it accepted, and raises an alarm when a log
forks or shrinks.

A log is kept from the first checkpoint that its own node showed us on a connection; hearsay never
makes us keep one. But neighbours show each other what they hold, since whoever keeps two histories
shows each of them to somebody else: two checkpoints of one size with different roots prove a fork
to anybody, and are passed on; two sizes are put to the log itself, which must prove that the one
grew into the other.

Everything here is bounded: logs kept, alarms, signatures checked for one peer and for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.capacity.exchange import Allowance, Rate
from swarmllm.core.effects import (
    AppendToLedger,
    Emit,
    KeepAlarm,
    KeepHead,
    NodeEffect,
    Penalise,
    SendFrame,
)
from swarmllm.core.events import LogDoubted
from swarmllm.core.ledger.alarms import Alarms
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.ledger.merkle import verify_consistency
from swarmllm.core.ledger.own_log import Keys
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    ALARM_FORKED,
    ALARM_SHRANK,
    ALARM_UNPROVEN,
    ALARMS,
    LEDGER,
    NOTE_MAX,
    LedgerAlarm,
    LedgerCosigned,
    LedgerFork,
    LedgerHead,
    LedgerProof,
    LedgerProofWanted,
    PeerId,
)
from swarmllm.wire.checkpoint import SignedCheckpoint, cosign, open_checkpoint
from swarmllm.wire.identity import peer_id_of, public_key_of
from swarmllm.wire.signed import open_signed, sign_record

HEADS_MAX: Final = 512  # Logs that are kept, of half a kilobyte each.
ALARMS_MAX: Final = 64
# Checkpoints of one peer that are looked at. An honest one signs one a minute, and shows one of
# somebody else's as often.
HEADS: Final = Rate(8, 1 / 10)
# And those of all together: a signature takes a tenth of a millisecond.
HEADS_OF_ALL: Final = Rate(64, 4)
IGNORED_MAX: Final = 32  # In a row beyond what is looked at: that is a flood, and a strike.
PROOF_S: Final = 30.0  # Until a proof is there.
# Questions to a log because of what somebody else showed of it: fewer than it answers.
HEARSAY: Final = Rate(2, 1 / 60)
# Times that a connected log may fail to prove, and how long until it is asked again.
PROOF_TRIES, PROOF_AGAIN_S = 3, 120.0


@dataclass(slots=True)
class _Neighbour:
    """A peer with a stream. Times in seconds."""

    heads: Allowance = field(default_factory=lambda: Allowance(HEADS))
    ignored: int = 0
    cosigned: int = 0  # The size of its log that we cosigned on this stream.
    asked: tuple[SignedCheckpoint, SignedCheckpoint] | None = None  # The shorter one first.
    proof_by: float = math.inf


@dataclass(slots=True)
class _Kept:
    """A log that we watch. `grown` counts the proofs that it gave us."""

    head: SignedCheckpoint
    grown: int = 0
    hearsay: Allowance = field(default_factory=lambda: Allowance(HEARSAY))
    unproven: int = 0
    again_at: float = math.inf
    next: SignedCheckpoint | None = None  # Proven and being written down.
    doubted_with: tuple[SignedCheckpoint, SignedCheckpoint] | None = None


class Witness:
    """`unix_ms` tells the wall clock at a `now`."""

    def __init__(self, keys: Keys, unix_ms: Callable[[float], int]) -> None:
        self._keys, self._unix_ms = keys, unix_ms
        self._neighbours: dict[PeerId, _Neighbour] = {}
        self._kept: dict[PeerId, _Kept] = {}
        self.alarms = Alarms()
        self._all = Allowance(HEADS_OF_ALL)
        self.dropped = 0  # Alarms beyond their number.

    def opened(
        self,
        heads: Sequence[tuple[PeerId, bytes]],
        alarms: Sequence[bytes],
        acknowledged: Sequence[bytes] = (),
    ) -> None:
        """What was on disk at the start."""
        for peer, note in heads[:HEADS_MAX]:
            with suppress(RemoteError):  # Damaged: it is shown to us again.
                self._kept[peer] = _Kept(open_checkpoint(note, self._keys.verify, NOTE_MAX))
        for data in alarms[:ALARMS_MAX]:
            with suppress(RemoteError):
                alarm = open_signed(data, (LedgerAlarm,)).record
                self.alarms.hold(peer_id_of(alarm.log), alarm, data)
        for digest in acknowledged:
            self.alarms.seen(digest)

    @property
    def connected(self) -> tuple[PeerId, ...]:
        return tuple(self._neighbours)

    @property
    def watched(self) -> dict[PeerId, SignedCheckpoint]:
        return {peer: kept.head for peer, kept in self._kept.items()}

    def held_of(self, peer: PeerId) -> bytes:
        """The last checkpoint of its log that we hold; empty if none."""
        kept = self._kept.get(peer)
        return b"" if kept is None else kept.head.note

    def next_deadline(self) -> float:
        return min(
            (
                *(neighbour.proof_by for neighbour in self._neighbours.values()),
                *(kept.again_at for kept in self._kept.values()),
            ),
            default=math.inf,
        )

    # --- streams ----------------------------------------------------------------------------------

    def connect(self, peer: PeerId) -> None:
        self._neighbours[peer] = _Neighbour()

    def disconnect(self, peer: PeerId) -> None:
        self._neighbours.pop(peer, None)

    def timer(self, now: float) -> Sequence[NodeEffect]:
        """Proofs that did not come, and those that are asked for again."""
        effects: list[NodeEffect] = []
        for peer, neighbour in list(self._neighbours.items()):
            if now >= neighbour.proof_by:
                effects += self._unproven(peer, neighbour, "", now)
        for peer, kept in list(self._kept.items()):
            if now >= kept.again_at:
                kept.again_at = math.inf
                if kept.doubted_with is not None:
                    effects += self._ask(peer, *kept.doubted_with, now)
        return effects

    # --- checkpoints ------------------------------------------------------------------------------

    def read(
        self, sender: PeerId, note: bytes, now: float
    ) -> tuple[SignedCheckpoint | None, Sequence[NodeEffect]]:
        """The checkpoint that a peer shows, if it is looked at and valid; and what follows if it
        is not."""
        neighbour = self._neighbours.get(sender)
        if neighbour is None:
            return None, []  # Its stream has just ended.
        if not neighbour.heads.take(now) or not self._all.take(now):
            neighbour.ignored += 1
            if neighbour.ignored % IGNORED_MAX:
                return None, []
            flood = f"{IGNORED_MAX} checkpoints in a row beyond what a peer may show"
            return None, [Penalise(sender, flood)]
        neighbour.ignored = 0
        try:
            shown = open_checkpoint(note, self._keys.verify, NOTE_MAX)
        except RemoteError as fault:
            return None, [Penalise(sender, str(fault))]
        if shown.note != note:
            return None, [Penalise(sender, "a checkpoint with more signatures than its log's own")]
        return shown, []

    def shown(self, sender: PeerId, shown: SignedCheckpoint, now: float) -> Sequence[NodeEffect]:
        """A valid checkpoint of somebody else's log than ours."""
        at, is_own = shown.checkpoint, shown.checkpoint.peer == sender
        kept = self._kept.get(at.peer)
        if at.peer in self.alarms:
            return []
        if kept is None:
            return self._accept(at.peer, shown) if is_own else []
        held = kept.head.checkpoint
        if at.size == held.size and at.root != held.root:
            return self._alarm(ALARM_FORKED, at.peer, kept.head, shown, now)
        if at.size == held.size:
            return self._cosign(at.peer, now) if is_own else []
        if at.size < held.size and is_own:
            back = SendFrame(sender, LedgerHead(kept.head.note), LEDGER)
            return [back, *self._alarm(ALARM_SHRANK, at.peer, kept.head, shown, now)]
        if not is_own and not kept.hearsay.take(now):
            return []
        pair = (kept.head, shown) if at.size > held.size else (shown, kept.head)
        return self._ask(at.peer, *pair, now)

    def proved(self, peer: PeerId, proof: LedgerProof, now: float) -> Sequence[NodeEffect]:
        neighbour = self._neighbours.get(peer)
        if neighbour is None or neighbour.asked is None:
            return []  # Late.
        short, long = (one.checkpoint for one in neighbour.asked)
        if (proof.old, proof.new) != (short.size, long.size):
            return []
        if not proof.hashes:
            return self._unproven(peer, neighbour, "", now)
        if not verify_consistency(short.size, long.size, short.root, long.root, proof.hashes):
            wrong = f"a proof from {short.size} to {long.size} entries that does not hold"
            return self._unproven(peer, neighbour, wrong, now)
        _, shown = neighbour.asked
        neighbour.asked, neighbour.proof_by = None, math.inf
        kept = self._kept.get(peer)
        if kept is None:
            return []
        kept.unproven, kept.again_at, kept.doubted_with = 0, math.inf, None
        if long.size <= kept.head.checkpoint.size:
            return []  # What somebody else showed is what ours grew from.
        kept.grown += 1
        return self._accept(peer, shown)

    def kept(self, peer: PeerId, note: bytes, ok: bool, now: float) -> Sequence[NodeEffect]:
        """The checkpoint of this log is on disk: now it is cosigned."""
        kept = self._kept.get(peer)
        if kept is None or kept.next is None or kept.next.note != note:
            return []
        accepted, kept.next = kept.next, None
        if not ok:
            if kept.grown == 0 and kept.head is accepted:
                del self._kept[peer]  # The first one of it: there is nothing that we could hold.
            return []
        kept.head = accepted
        return self._cosign(peer, now)

    def fork(
        self, sender: PeerId, frame: LedgerFork, now: float
    ) -> tuple[PeerId, Sequence[NodeEffect]]:
        """Two checkpoints that prove a fork: of whose log (empty: of none), and what follows."""
        one, wrong = self.read(sender, frame.one, now)
        if one is None:
            return PeerId(""), wrong
        other, wrong = self.read(sender, frame.other, now)
        if other is None:
            return PeerId(""), wrong
        first, second = one.checkpoint, other.checkpoint
        if (first.peer, first.size) != (second.peer, second.size) or first.root == second.root:
            return PeerId(""), [Penalise(sender, "two checkpoints that prove no fork")]
        if first.peer in self.alarms:
            return first.peer, []
        return first.peer, self._alarm(ALARM_FORKED, first.peer, one, other, now)

    # --- what follows -----------------------------------------------------------------------------

    def _accept(self, peer: PeerId, shown: SignedCheckpoint) -> Sequence[NodeEffect]:
        effects: list[NodeEffect] = []
        kept = self._kept.get(peer)
        if kept is None:
            if len(self._kept) >= HEADS_MAX:
                effects += _make_room(self._kept, self._neighbours)
            if len(self._kept) >= HEADS_MAX:
                return []  # All of them are connected: who came later is watched by others.
            kept = self._kept[peer] = _Kept(shown)
        kept.next = shown
        return [*effects, KeepHead(peer, shown.note)]

    def _cosign(self, peer: PeerId, now: float) -> Sequence[NodeEffect]:
        neighbour, kept = self._neighbours.get(peer), self._kept[peer]
        at = kept.head.checkpoint
        if neighbour is None or neighbour.cosigned == at.size or kept.next is not None:
            return []
        neighbour.cosigned = at.size
        made = cosign(at, self._keys.peer, self._unix_ms(now) // 1000, self._keys.sign)
        return [SendFrame(peer, LedgerCosigned(at.size, made.at_s, made.signature), LEDGER)]

    def _ask(
        self, peer: PeerId, short: SignedCheckpoint, long: SignedCheckpoint, now: float
    ) -> Sequence[NodeEffect]:
        """The log itself, one question at a time."""
        neighbour = self._neighbours.get(peer)
        if neighbour is None or neighbour.asked is not None:
            return []
        neighbour.asked, neighbour.proof_by = (short, long), now + PROOF_S
        wanted = LedgerProofWanted(short.checkpoint.size, long.checkpoint.size)
        return [SendFrame(peer, wanted, LEDGER)]

    def _unproven(
        self, peer: PeerId, neighbour: _Neighbour, wrong: str, now: float
    ) -> Sequence[NodeEffect]:
        """No proof came (`wrong` empty), or one that does not hold."""
        pair, neighbour.asked, neighbour.proof_by = neighbour.asked, None, math.inf
        kept = self._kept.get(peer)
        if pair is None or kept is None:
            return []
        kept.unproven += 1
        if wrong or kept.unproven >= PROOF_TRIES:
            strike = [Penalise(peer, wrong)] if wrong else []
            return [*strike, *self._alarm(ALARM_UNPROVEN, peer, *pair, now)]
        kept.doubted_with, kept.again_at = pair, now + PROOF_AGAIN_S
        return []

    def _alarm(
        self, what: int, peer: PeerId, held: SignedCheckpoint, shown: SignedCheckpoint, now: float
    ) -> Sequence[NodeEffect]:
        """Signed, entered, shown, and, where it proves itself, passed on."""
        if peer in self.alarms:
            return []
        if len(self.alarms) >= ALARMS_MAX:
            self.dropped += 1
            return []
        alarm = LedgerAlarm(public_key_of(peer), what, held.note, shown.note, self._unix_ms(now))
        data = sign_record(alarm, [(self._keys.public_key, self._keys.sign)])
        self.alarms.hold(peer, alarm, data)
        return [
            AppendToLedger(LedgerEntry(LedgerKind.ALARM, data)),
            KeepAlarm(peer, data),
            Emit(LogDoubted(peer, ALARMS[what])),
            *(
                SendFrame(other, LedgerFork(held.note, shown.note), LEDGER)
                for other in (self._neighbours if what == ALARM_FORKED else ())
            ),
        ]


def _make_room(kept: dict[PeerId, _Kept], connected: Container[PeerId]) -> Sequence[NodeEffect]:
    """The log goes that proved the least to us, among those that are not connected: a crowd of new
    names does not push out those that we have watched for long."""
    gone = [
        (one.grown, place, peer)
        for place, (peer, one) in enumerate(kept.items())
        if peer not in connected
    ]
    if not gone:
        return []
    peer = min(gone)[2]
    del kept[peer]
    return [KeepHead(peer, b"")]
