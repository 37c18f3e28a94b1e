"""Our own log as the node knows it: how much of it is on disk, and when a checkpoint is signed.

A checkpoint is due `CHECKPOINT_AFTER_S` after the first entry that none covers: while something
happens there is one a minute, and else none. It is on disk before anybody sees it, so that no crash
makes us sign two histories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.effects import (
    DoubtLedger,
    KeepCheckpoint,
    NodeEffect,
    ProveConsistency,
    Save,
)
from swarmllm.core.inputs import CheckpointKept, ConsistencyProved, LedgerOpened
from swarmllm.core.ledger.merkle import EMPTY_ROOT, verify_consistency
from swarmllm.errors import RemoteError
from swarmllm.messages import NOTE_MAX, PeerId
from swarmllm.wire.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from swarmllm.wire.envelope import Sign, Verify

CHECKPOINT_AFTER_S: Final = 60.0
# Under which the store keeps our last checkpoint, beside the ledger.
LAST_CHECKPOINT: Final = "ledger checkpoint"


@dataclass(frozen=True, slots=True)
class Keys:
    """The node's identity: its peer id, public key, and what signs and verifies."""

    peer: PeerId
    public_key: bytes
    sign: Sign
    verify: Verify


class OwnLog:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.size, self.root = 0, EMPTY_ROOT
        self.fault = ""  # Why nothing can be written, in a sentence.
        self.head: SignedCheckpoint | None = None  # Our last checkpoint, on disk.
        self.due_at = math.inf
        self._keeping: bytes = b""  # The note that is being written down.
        self._is_open = False
        # What neighbours showed before our ledger was open: the longest.
        self._early: SignedCheckpoint | None = None
        # Whose proof is being made, and the size and root that we had then.
        self._questioned: tuple[Checkpoint, int, bytes] | None = None

    def opened(self, event: LedgerOpened, now: float) -> Sequence[NodeEffect]:
        self.size, self.root, self._is_open = event.size, event.root, True
        try:
            if event.note:
                self.head = open_checkpoint(event.note, self._keys.verify, NOTE_MAX)
        except RemoteError as fault:
            return self._doubted(f"our last checkpoint is not valid ({fault})")
        self.plan(now)
        early, self._early = self._early, None
        return [] if early is None else self.remembered(early)

    def grew(self, size: int, root: bytes, now: float) -> None:
        self.size, self.root = size, root
        self.plan(now)

    def timer(self, now: float) -> Sequence[NodeEffect]:
        """`due_at` has come."""
        self.due_at = math.inf
        if self.fault or self._keeping or self.size <= self._signed:
            return []
        checkpoint = Checkpoint(self._keys.peer, self.size, self.root)
        self._keeping = sign_checkpoint(checkpoint, self._keys.public_key, self._keys.sign)
        return [KeepCheckpoint(self.size, self._keeping)]

    def kept(self, event: CheckpointKept, now: float) -> Sequence[NodeEffect]:
        """`head` is the new one, if it is on disk."""
        note, self._keeping = self._keeping, b""
        if not event.ok:
            self.due_at = now + CHECKPOINT_AFTER_S
            return []
        self.head = open_checkpoint(note, self._keys.verify, NOTE_MAX)
        self.plan(now)
        return [Save(LAST_CHECKPOINT, note)]

    def remembered(self, shown: SignedCheckpoint) -> Sequence[NodeEffect]:
        """A neighbour shows a checkpoint that we have signed: is our log still that?"""
        at = shown.checkpoint
        if not self._is_open:
            if self._early is None or at.size > self._early.checkpoint.size:
                self._early = shown
            return []
        if at.size > self.size:
            return self._doubted(
                f"a neighbour holds a checkpoint of {at.size} entries that this node has signed,"
                f" and the ledger has {self.size}: an old copy was put in its place"
            )
        if at.size == self.size:
            return [] if at.root == self.root else self._doubted(_REWRITTEN)
        if self._questioned is not None:
            return []
        self._questioned = at, self.size, self.root
        return [ProveConsistency(self._keys.peer, at.size, self.size)]

    def proved(self, event: ConsistencyProved) -> Sequence[NodeEffect]:
        """Whether what a neighbour showed is what our log began with."""
        asked, self._questioned = self._questioned, None
        if asked is None or event.hashes is None:
            return []
        at, size, root = asked
        holds = verify_consistency(at.size, size, at.root, root, event.hashes)
        return [] if holds else self._doubted(_REWRITTEN)

    def forked(self) -> Sequence[NodeEffect]:
        """Somebody proves that two histories were signed with our key."""
        return self._doubted(
            "two histories of this ledger were signed with this node's key: somebody else has the"
            " key, or a copy of the folder runs elsewhere"
        )

    @property
    def _signed(self) -> int:
        return 0 if self.head is None else self.head.checkpoint.size

    def plan(self, now: float) -> None:
        """A checkpoint becomes due if there are entries that none covers."""
        if self.size > self._signed and self.due_at == math.inf and not self._keeping:
            self.due_at = now + CHECKPOINT_AFTER_S

    def _doubted(self, sentence: str) -> Sequence[NodeEffect]:
        return [] if self.fault == sentence else [DoubtLedger(sentence)]


_REWRITTEN: Final = (
    "a neighbour holds a checkpoint that this node has signed, and the ledger is another one:"
    " its history was changed"
)
