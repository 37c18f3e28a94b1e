"""The ledger as a part of the node: our own checkpoints go to the neighbours, theirs come to us,
and each is the witness of the others (protocols/ledger.md)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.capacity.exchange import Allowance, Rate
from swarmllm.core.effects import (
    KeepCosignature,
    NodeEffect,
    Penalise,
    ProveConsistency,
    SendFrame,
)
from swarmllm.core.facts import Fact
from swarmllm.core.inputs import (
    ChannelClosed,
    ChannelOpened,
    CheckpointKept,
    ConsistencyProved,
    FrameReceived,
    HeadKept,
    Input,
    LedgerFaulty,
    LedgerGrew,
    LedgerOpened,
    OwnerAcknowledges,
    Recorded,
    TimerFired,
)
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.ledger.own_log import Keys, OwnLog
from swarmllm.core.ledger.witness import Witness
from swarmllm.core.part import Part
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    ALARMS,
    LEDGER,
    LedgerCosigned,
    LedgerFork,
    LedgerFrame,
    LedgerHead,
    LedgerProof,
    LedgerProofWanted,
    PeerId,
)
from swarmllm.messages.declare import BOTH, kinds_on
from swarmllm.wire.checkpoint import (
    SIGNATURES_MAX,
    Cosignature,
    cosignature_line,
    is_good,
)
from swarmllm.wire.codec import decode

FRAMES: Final[tuple[type[LedgerFrame], ...]] = kinds_on(LEDGER, BOTH)
# How often somebody is shown a checkpoint that we hold of somebody else; not in step.
SHOW_S: Final = (48.0, 72.0)
# Proofs that one peer may ask of us, and all together: each is some forty reads.
PROOFS: Final = Rate(8, 1 / 5)
# A checkpoint of ours makes each of up to 256 connected neighbours ask once.
PROOFS_OF_ALL: Final = Rate(256, 8)


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What `status` shows. `checkpoint` is the size of our last one, `head` its root, a hash of
    all entries that it covers (empty: there is none yet), `witnesses` those that
    cosigned it; `watched` are the logs that we witness, with the sizes of their last checkpoints,
    `alarms` what we found of them, in words, and `acknowledged` those that our owner has looked
    at."""

    size: int
    checkpoint: int
    witnesses: tuple[PeerId, ...]
    watched: tuple[tuple[PeerId, int], ...]
    alarms: tuple[tuple[PeerId, str], ...]
    fault: str
    acknowledged: tuple[PeerId, ...] = ()
    head: bytes = b""


class LedgerPart(Part):
    """`unix_ms` tells the wall clock at a `now`; `rng` picks whom to show what."""

    channel = LEDGER
    inputs = (
        *(LedgerOpened, LedgerGrew, LedgerFaulty),
        *(CheckpointKept, HeadKept, ConsistencyProved, OwnerAcknowledges, Recorded),
    )

    def __init__(self, keys: Keys, rng: random.Random, unix_ms: Callable[[float], int]) -> None:
        self._keys, self._rng = keys, rng
        self._own = OwnLog(keys)
        self._witness = Witness(keys, unix_ms)
        self._cosigned: dict[PeerId, None] = {}  # Our last checkpoint, by whom.
        self._show_at = math.inf
        # Of peers with a stream: what they may still ask of us; and whose proof is being made.
        self._asking: dict[PeerId, Allowance] = {}
        self._all = Allowance(PROOFS_OF_ALL)
        self._proving: set[PeerId] = set()

    def handle(self, event: Input | Fact, now: float) -> Sequence[NodeEffect]:
        match event:
            case ChannelOpened(peer=peer):
                return self._opened(peer, now)
            case ChannelClosed(peer=peer):
                self._witness.disconnect(peer)
                self._asking.pop(peer, None)
                self._proving.discard(peer)
                return []
            case FrameReceived(peer=peer, frame=frame):
                try:
                    return self._received(peer, decode(frame, FRAMES), now)
                except RemoteError as fault:
                    return [Penalise(peer, str(fault))]
            case TimerFired():
                return self._timer(now)
            case _:
                return self._written(event, now)

    def next_deadline(self) -> float:
        return min(self._own.due_at, self._show_at, self._witness.next_deadline())

    def view(self, now: float) -> LedgerView:
        own, head = self._own, self._own.head
        return LedgerView(
            own.size,
            0 if head is None else head.checkpoint.size,
            tuple(self._cosigned),
            tuple((peer, one.checkpoint.size) for peer, one in self._witness.watched.items()),
            tuple((peer, ALARMS[alarm.what]) for peer, alarm in self._witness.alarms.items()),
            own.fault,
            self._witness.alarms.acknowledged,
            b"" if head is None else head.checkpoint.root,
        )

    # --- from the disk ----------------------------------------------------------------------------

    def _written(self, event: Input | Fact, now: float) -> Sequence[NodeEffect]:
        match event:
            case LedgerOpened(heads=heads, alarms=alarms, acknowledged=acknowledged):
                doubts = self._own.opened(event, now)
                self._witness.opened(heads, alarms, acknowledged)
                greetings = [one for peer in self._asking for one in self._greeting(peer)]
                return [*doubts, *greetings]
            case LedgerGrew(size=size, root=root):
                self._own.grew(size, root, now)
            case LedgerFaulty(sentence=sentence):
                self._own.fault = sentence
                self._own.plan(now)
            case CheckpointKept(ok=ok):
                effects = self._own.kept(event, now)
                if not ok or self._own.head is None:
                    return effects
                self._cosigned.clear()
                head = LedgerHead(self._own.head.note)
                return [*effects, *(SendFrame(peer, head, LEDGER) for peer in self._asking)]
            case HeadKept(peer=peer, note=note, ok=ok):
                return self._witness.kept(peer, note, ok, now)
            case ConsistencyProved():
                return self._made(event)
            case OwnerAcknowledges(alarm=alarm):
                return self._witness.alarms.acknowledge(alarm)
            case Recorded(kind=LedgerKind.ACKNOWLEDGED, number=number, ok=ok):
                self._witness.alarms.recorded(number, ok)
            case _:
                pass
        return []

    def _made(self, event: ConsistencyProved) -> Sequence[NodeEffect]:
        """A proof of ours: for ourselves, or for the peer that asked."""
        if event.peer == self._keys.peer:
            return self._own.proved(event)
        if event.peer not in self._proving:
            return []
        self._proving.discard(event.peer)
        proof = LedgerProof(event.old, event.new, event.hashes or ())
        return [SendFrame(event.peer, proof, LEDGER)]

    # --- from peers -------------------------------------------------------------------------------

    def _opened(self, peer: PeerId, now: float) -> Sequence[NodeEffect]:
        self._witness.connect(peer)
        self._asking[peer] = Allowance(PROOFS)
        self._proving.discard(peer)
        if self._show_at == math.inf:
            self._show_at = now + self._rng.uniform(*SHOW_S)
        return self._greeting(peer)

    def _greeting(self, peer: PeerId) -> Sequence[NodeEffect]:
        """Our own checkpoint, and what we hold of the peer's: if its ledger was put back, it learns
        that at once."""
        own = b"" if self._own.head is None else self._own.head.note
        held = self._witness.held_of(peer)
        return [SendFrame(peer, LedgerHead(note), LEDGER) for note in (own, held) if note]

    def _received(self, peer: PeerId, frame: LedgerFrame, now: float) -> Sequence[NodeEffect]:
        match frame:
            case LedgerHead(note=note):
                shown, effects = self._witness.read(peer, note, now)
                if shown is None:
                    return effects
                if shown.checkpoint.peer == self._keys.peer:
                    return self._own.remembered(shown)
                return self._witness.shown(peer, shown, now)
            case LedgerProofWanted(old=old, new=new):
                return self._wanted(peer, old, new, now)
            case LedgerProof():
                return self._witness.proved(peer, frame, now)
            case LedgerCosigned():
                return self._cosignature(peer, frame)
            case LedgerFork():
                whose, effects = self._witness.fork(peer, frame, now)
                return [*effects, *(self._own.forked() if whose == self._keys.peer else ())]

    def _wanted(self, peer: PeerId, old: int, new: int, now: float) -> Sequence[NodeEffect]:
        allowance = self._asking.get(peer)
        if allowance is None or peer in self._proving:
            return []
        if not allowance.take(now) or not self._all.take(now):
            return []  # It asks again.
        if new > self._own.size:
            return [SendFrame(peer, LedgerProof(old, new, ()), LEDGER)]
        self._proving.add(peer)
        return [ProveConsistency(peer, old, new)]

    def _cosignature(self, peer: PeerId, frame: LedgerCosigned) -> Sequence[NodeEffect]:
        head = self._own.head
        if head is None or head.checkpoint.size != frame.size or peer in self._cosigned:
            return []  # Of one that is not the last any more.
        if len(self._cosigned) >= SIGNATURES_MAX:
            return []
        made = Cosignature(peer, frame.at_s, frame.signature)
        if not is_good(made, head.checkpoint, self._keys.verify):
            return [Penalise(peer, "a cosignature of our checkpoint that is not good")]
        self._cosigned[peer] = None
        return [KeepCosignature(frame.size, peer, cosignature_line(made).encode())]

    # --- the clock --------------------------------------------------------------------------------

    def _timer(self, now: float) -> Sequence[NodeEffect]:
        effects: list[NodeEffect] = []
        if now >= self._own.due_at:
            effects += self._own.timer(now)
        if now >= self._witness.next_deadline():
            effects += self._witness.timer(now)
        if now >= self._show_at:
            self._show_at = now + self._rng.uniform(*SHOW_S)
            effects += self._show()
        return effects

    def _show(self) -> Sequence[NodeEffect]:
        """Somebody is shown what we hold of somebody else."""
        watched, connected = self._witness.watched, self._witness.connected
        if not connected:
            self._show_at = math.inf
            return []
        peer = connected[self._rng.randrange(len(connected))]
        others = [log for log in watched if log != peer]
        if not others:
            return []
        note = watched[others[self._rng.randrange(len(others))]].note
        return [SendFrame(peer, LedgerHead(note), LEDGER)]
