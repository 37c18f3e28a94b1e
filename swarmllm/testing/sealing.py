"""Signatures for a swarm within one process: what was sealed here is known, and everything else is
a forgery.

A seal has the size that the real one would have and costs a microsecond instead of a hundred,
because nothing is encoded or signed: the bytes only have to be different ones for each record, and
the same ones in each run.
"""

from __future__ import annotations

import random
from collections import deque
from functools import partial
from typing import Final

from swarmllm.core.capacity.exchange import Sealing
from swarmllm.core.capacity.table import check
from swarmllm.core.trust.audits import Trust
from swarmllm.core.trust.reputation import Reputation
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, PeerId, SessionRecord
from swarmllm.wire.codec import encode

# Of one author: more than it seals while any of them is still believed. Older ones count as forged.
VERSIONS_MAX: Final = 128
SESSIONS_MAX: Final = 4096  # Signed sessions that nobody has looked at yet.
SESSION_BYTES: Final = 180
ENVELOPE_BYTES: Final = 105  # What key, signature and their headers add to a record.


class MemoSealing:
    """One for all the nodes of a swarm; `of` gives each its own end."""

    def __init__(self, versions_max: int = VERSIONS_MAX) -> None:
        self._versions_max = versions_max
        self._sealed: dict[bytes, tuple[PeerId, CapacityRecord]] = {}
        # What is wrong with those that contradict themselves.
        self._senseless: dict[bytes, RemoteError] = {}
        self._authors: dict[PeerId, _Author] = {}
        self._count = 0

    def of(self, peer: PeerId) -> Sealing:
        author = self._authors.setdefault(peer, _Author())
        return Sealing(partial(self._seal, peer, author), self._unseal)

    def _seal(self, peer: PeerId, author: _Author, record: CapacityRecord) -> bytes:
        if not author.size:
            author.size = len(encode(record)) + ENVELOPE_BYTES
        self._count += 1
        sealed = self._count.to_bytes(8, "big").ljust(author.size, b"\0")
        self._sealed[sealed] = peer, record
        try:
            check(peer, record)
        except RemoteError as fault:
            self._senseless[sealed] = fault
        if len(author.versions) >= self._versions_max:
            oldest = author.versions.popleft()
            del self._sealed[oldest]
            self._senseless.pop(oldest, None)
        author.versions.append(sealed)
        return sealed

    def _unseal(self, sealed: bytes) -> tuple[PeerId, CapacityRecord]:
        found = self._sealed.get(sealed)
        if found is None:
            raise RemoteError(f"CapacityRecord of {len(sealed)} bytes: bad signature")
        if self._senseless and sealed in self._senseless:
            raise self._senseless[sealed].with_traceback(None)
        return found


class MemoSessions:
    """The same for what experts sign of their sessions."""

    def __init__(self, versions_max: int = SESSIONS_MAX) -> None:
        self._sealed: dict[bytes, tuple[PeerId, SessionRecord]] = {}
        self._versions_max = versions_max
        self._count = 0

    def trust(
        self, peer: PeerId, rng: random.Random, unix_at_zero_s: float, saved: bytes = b""
    ) -> Trust:
        """What a node of this swarm needs to audit experts."""
        reputation = Reputation(saved=saved)
        return Trust(reputation, rng, partial(self.seal, peer), self.unseal, unix_at_zero_s)

    def seal(self, peer: PeerId, record: SessionRecord) -> bytes:
        self._count += 1
        sealed = self._count.to_bytes(8, "big").ljust(SESSION_BYTES, b"\0")
        if len(self._sealed) >= self._versions_max:
            del self._sealed[next(iter(self._sealed))]
        self._sealed[sealed] = peer, record
        return sealed

    def unseal(self, sealed: bytes) -> tuple[PeerId, SessionRecord]:
        found = self._sealed.get(sealed)
        if found is None:
            raise RemoteError(f"SessionRecord of {len(sealed)} bytes: bad signature")
        return found


class _Author:
    """`size` is that of its first record: names and addresses hardly change, and only its order of
    magnitude matters."""

    def __init__(self) -> None:
        self.size = 0
        self.versions: deque[bytes] = deque()
