"""Audit of a log: its leaves, read from the first to the last, against the checkpoints that its
node has signed, and against the inner nodes that were kept, if they were.

What was changed, dropped, swapped or cut off after a checkpoint was signed does not add up to its
root. A whole history made anew and signed anew does: that, and an old copy put back, is for the
witnesses to find (`core.ledger.witness`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.ledger.merkle import Frontier, Read, leaf_hash
from swarmllm.errors import RemoteError
from swarmllm.messages import LedgerLeaf, PeerId
from swarmllm.wire.checkpoint import COSIGNED_MAX, Checkpoint, open_checkpoint
from swarmllm.wire.codec import decode
from swarmllm.wire.envelope import Verify

FAULTS_MAX: Final = 32  # Listed; where one entry is wrong, others may be.
LEAF_MAX: Final = 4_096 + 32  # Bytes of a leaf.


def read_leaf(data: bytes) -> LedgerLeaf:
    """RemoteError for anything but a leaf. Kinds of later versions are leaves, too."""
    if len(data) > LEAF_MAX:
        raise RemoteError(f"leaf of {len(data)} bytes exceeds {LEAF_MAX}")
    return decode(data, (LedgerLeaf,))


def kind_name(kind: int) -> str:
    """For people; those of later versions are shown by number."""
    return LedgerKind(kind).name.lower().replace("_", " ") if kind in _KINDS else f"kind {kind}"


def opening_fault(
    own: PeerId,
    size: int,
    root_at: Callable[[int], bytes | None],
    notes: Sequence[bytes],
    verify: Verify,
) -> str:
    """What is wrong with a log of so many entries in the light of checkpoints that its node has
    signed, in a sentence; empty if nothing is. A quick look; `Audit` looks at every entry."""
    for note in notes:
        try:
            found = open_checkpoint(note, verify, COSIGNED_MAX).checkpoint
        except RemoteError as fault:
            return f"a checkpoint of the ledger is not valid ({fault})"
        if found.peer != own:
            return f"the ledger is that of another node, {found.peer}"
        if found.size > size:
            return (
                f"the ledger has {size} entries, and this node has signed {found.size}:"
                " its end was cut off, or an old copy was put in its place"
            )
        if root_at(found.size) != found.root:
            return f"the first {found.size} entries of the ledger are not what this node has signed"
    return ""


_KINDS: Final = frozenset(map(int, LedgerKind))


class Audit:
    """`checkpoints` are signed ones of this log; `kept` reads the hash of a complete inner node as
    it was written down (None: none were). Give it every leaf in order, then ask for the faults."""

    def __init__(self, checkpoints: Sequence[Checkpoint], kept: Read | None = None) -> None:
        self._due = sorted(checkpoints, key=lambda one: one.size, reverse=True)
        self._kept = kept
        self._frontier = Frontier()
        self._sound_to = 0  # Entries that the last checkpoint that fits answers for.
        self._faults: list[str] = []

    @property
    def size(self) -> int:
        return self._frontier.size

    @property
    def root(self) -> bytes:
        return self._frontier.root

    @property
    def vouched(self) -> int:
        """How many entries, from the first, a signed checkpoint answers for."""
        return self._sound_to

    def leaf(self, data: bytes) -> None:
        index = self._frontier.size
        try:
            read_leaf(data)
        except RemoteError as fault:
            self._fault(f"entry {index} is no entry ({fault})")
        for level, at, hashed in self._frontier.append(leaf_hash(data)):
            if self._kept is not None and level == 1 and self._kept(level, at) != hashed:
                self._fault(f"entry {2 * at} or {2 * at + 1} is not what was written")
            elif self._kept is not None and level > 1 and self._kept(level, at) != hashed:
                self._inner(level, at)
        while self._due and self._due[-1].size == self._frontier.size:
            self._compare(self._due.pop())

    def missing(self, last: int) -> None:
        """There are no entries from here to `last`, though there are later ones. What comes behind
        cannot be looked at."""
        first = self._frontier.size
        self._fault(f"entries {first} to {last} are missing")
        self._due.clear()

    def faults(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty if nothing is."""
        if self._due:
            self._fault(
                f"the log has {self.size} entries, and a signed checkpoint"
                f" of {self._due[0].size}: the end is missing"
            )
        self._due.clear()
        return tuple(self._faults)

    def _inner(self, level: int, at: int) -> None:
        if not self._faults:  # Else it is what follows from a changed entry.
            first, last = at << level, (at + 1 << level) - 1
            self._fault(f"the hash kept for entries {first} to {last} is not theirs")

    def _compare(self, one: Checkpoint) -> None:
        if one.root == self.root:
            self._sound_to = one.size
            return
        first = self._sound_to
        self._fault(
            f"entries {first} to {one.size - 1} do not add up to the signed checkpoint"
            f" of {one.size} entries"
        )

    def _fault(self, sentence: str) -> None:
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(sentence)
