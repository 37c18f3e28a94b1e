"""A replicated set of signed records by anti-entropy: digest, then summary, then what is missing.

Records come in groups (a proposal with its votes, the heads of one log), each with a name and a
digest. A link begins with the digest of the whole set, and goes on with nothing while the two are
equal: an idle set costs each node one frame of 22 bytes a minute. Where they differ, one sends its
summary (16 bytes a group); the other answers with the groups that the sender lacks or has less of,
and names those that it lacks itself.

Joining is what the holder does with records, in whatever order they come, so nothing here has to
arrive once or in order: what is lost is asked for again, after 1 s, 2 s, ... 10 minutes while two
differ and nothing new comes of it (one may have dropped what the other keeps).

The replica knows no record. What it is given, and what a peer may make it do, is bounded before
anything is decoded: frames per peer and of all peers, bytes of a frame, groups of an answer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from swarmllm.core.effects import NodeEffect, Penalise, SendFrame
from swarmllm.core.halt.charter import Rejected
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import BOTH, GOV, kinds_on
from swarmllm.messages.governance import (
    GOV_FRAME_MAX,
    GROUP_ENTRY_BYTES,
    GROUP_RECORDS_MAX,
    GROUPS_MAX,
    WANTED_MAX,
    SetDigest,
    SetFrame,
    SetRecords,
    SetSummary,
    SetWanted,
)
from swarmllm.wire.codec import decode

FRAMES: Final[tuple[type[SetFrame], ...]] = kinds_on(GOV, BOTH)
FRAMES_PER_S: Final = 4.0  # Of one peer; some frames for each record that is new.
FRAMES_BURST: Final = 80.0  # An exchange of WANTED_MAX groups, and some more.
NODE_FRAMES_PER_S: Final = 64.0  # Of all peers, in equal shares.
ENTROPY_S: Final = (48.0, 72.0)  # Between two digests to a random peer; not in step.
NEWS_AFTER_S: Final = 0.5  # News is gathered for so long before peers are told of it.
NEWS_TO: Final = 5  # Peers that are told: each tells five others, which misses one in 150.
# Whoever has not said meanwhile that it has the news, too, is told after so long; not in step.
STALE_S: Final = (4.0, 16.0)
ASKING_S: Final = 2.0  # Nobody else is asked for the same set meanwhile.
ASK_EVERY_S: Final = 1.0
ASK_EVERY_MAX_S: Final = 600.0
ANSWER_GROUPS_MAX: Final = 32  # Given unasked for one summary; the next exchange brings more.


class Holder(Protocol):
    """Who has the records. `scope` (8 bytes) names the set, eight zeros while there is none."""

    @property
    def scope(self) -> bytes: ...

    def groups(self) -> Mapping[bytes, bytes]:
        """Name (8 bytes) -> digest (8 bytes) of each group."""

    def records_of(self, name: bytes) -> Sequence[bytes]: ...

    def wants(self, name: bytes) -> bool:
        """Whether a group that we lack is worth fetching: not if it was dropped here."""

    def take(self, records: Sequence[bytes], peer: PeerId) -> tuple[bool, Sequence[Rejected]]:
        """The records of one group from a peer: whether any brought news, and what was refused."""


@dataclass(slots=True)
class Link:
    """A peer with an open stream: the set that it named, and its digest when we last heard."""

    spent_at: float
    allowance: float = FRAMES_BURST
    scope: bytes | None = None
    digest: bytes = b""
    told: bytes = b""  # Our digest, when we last told it.
    ask_at: float = -math.inf
    ask_every_s: float = ASK_EVERY_S

    def spend(self, now: float, links: int) -> bool:
        """Whether one more frame is within its budget (a token bucket)."""
        rate = min(FRAMES_PER_S, NODE_FRAMES_PER_S / links)
        passed = max(0.0, now - self.spent_at)
        self.spent_at = max(now, self.spent_at)
        self.allowance = min(FRAMES_BURST, self.allowance + passed * rate)
        if self.allowance < 1:
            return False
        self.allowance -= 1
        return True

    def asked(self, now: float) -> None:
        self.ask_at = now + self.ask_every_s
        self.ask_every_s = min(ASK_EVERY_MAX_S, 2 * self.ask_every_s)

    def refreshed(self) -> None:
        """Something changed on one of the two sides: asking starts again at the short interval."""
        self.ask_every_s = ASK_EVERY_S
        self.ask_at = -math.inf


class Replica:
    """One node's, of one set, on one channel. `rng` picks whom to tell."""

    def __init__(self, channel: str, holder: Holder, rng: random.Random) -> None:
        self._channel = channel
        self._holder = holder
        self._rng = rng
        self._links: dict[PeerId, Link] = {}
        self._digest: bytes | None = None
        # The digest of the set that a peer was asked for, and until when its answer is awaited.
        self._asking = (b"", -math.inf)
        self._news_at = math.inf
        self._entropy_at = math.inf
        self.refused = 0  # Records from peers that did not count.

    # --- the set ----------------------------------------------------------------------------------

    @property
    def digest(self) -> bytes:
        """Of the whole set: eight bytes that two sets have in common if they are equal."""
        if self._digest is None:
            entries = sorted(self._holder.groups().items())
            self._digest = sha256(b"".join(name + digest for name, digest in entries)).digest()[:8]
        return self._digest

    def touched(self, now: float, *, is_news: bool = True) -> None:
        """The holder's records have changed. `is_news`: peers should hear of it soon."""
        self._digest = None
        if is_news:
            self._news_at = min(self._news_at, now + NEWS_AFTER_S)
            for link in self._links.values():
                link.ask_every_s = ASK_EVERY_S
                link.ask_at = now + self._rng.uniform(*STALE_S)

    # --- links ------------------------------------------------------------------------------------

    def agreeing(self) -> tuple[PeerId, ...]:
        """The peers that have told us of the same set."""
        return tuple(peer for peer, link in self._links.items() if self._agrees(link))

    def opened(self, peer: PeerId, now: float) -> list[NodeEffect]:
        if self._entropy_at == math.inf:
            self._entropy_at = now + self._rng.uniform(*ENTROPY_S)
        self._links[peer] = Link(now)
        return [self._greet(peer)]

    def closed(self, peer: PeerId) -> None:
        self._links.pop(peer, None)

    def received(self, peer: PeerId, frame: bytes, now: float) -> list[NodeEffect]:
        """One frame, without its length. What is beyond the peer's budget is dropped unread."""
        link = self._links.get(peer)
        if link is None or not link.spend(now, len(self._links)):
            return []
        try:
            message = _read(frame, is_first=link.scope is None)
        except RemoteError as fault:
            return [Penalise(peer, str(fault))]
        if isinstance(message, SetDigest):
            if (link.scope, link.digest) != (message.scope, message.digest):
                link.refreshed()
            link.scope, link.digest = message.scope, message.digest
            if self._agrees(link) and link.told != self.digest:
                return [self._greet(peer)]  # It thinks that we differ, and would go on asking.
            return self._ask(peer, link, now)
        if message.scope != self._scope:
            return []  # Of another charter: it has or gets the one that is in force.
        match message:
            case SetSummary(groups=groups):
                return self._compare(peer, link, groups, now)
            case SetWanted(names=names):
                wanted = [names[at : at + 8] for at in range(0, len(names), 8)]
                return self._give(peer, wanted)
            case SetRecords(records=records):
                return self._take(peer, link, records, now)

    def timer(self, now: float) -> list[NodeEffect]:
        """`next_deadline` has come."""
        effects: list[NodeEffect] = []
        if now >= self._news_at:
            self._news_at = math.inf
            behind = [peer for peer, link in self._links.items() if link.digest != self.digest]
            for peer in self._rng.sample(behind, min(NEWS_TO, len(behind))):
                effects.append(self._greet(peer))
        if now >= self._entropy_at:
            self._entropy_at = now + self._rng.uniform(*ENTROPY_S)
            if self._links:
                peers = list(self._links)
                peer = peers[self._rng.randrange(len(peers))]
                effects.append(self._greet(peer))
        for peer, link in self._links.items():
            if self._differs(link) and now >= link.ask_at:
                link.asked(now)  # By our digest: it asks for what it lacks, or says what it has.
                effects.append(self._greet(peer))
        return effects

    def next_deadline(self) -> float:
        asks = (link.ask_at for link in self._links.values() if self._differs(link))
        return min(self._news_at, self._entropy_at, max(0.0, min(asks, default=math.inf)))

    # --- one exchange -----------------------------------------------------------------------------

    @property
    def _scope(self) -> bytes:
        return self._holder.scope

    def _differs(self, link: Link) -> bool:
        return (
            link.scope is not None
            and any(link.scope)
            and link.scope == self._scope
            and link.digest != self.digest
        )

    def _ask(self, peer: PeerId, link: Link, now: float) -> list[NodeEffect]:
        """Send our summary if the two of us differ, it is time, and nobody else was just asked for
        the same."""
        if not self._differs(link) or now < link.ask_at:
            return []
        digest, until = self._asking
        if digest == link.digest and now < until:
            link.ask_at = until
            return []
        self._asking = (link.digest, now + ASKING_S)
        link.asked(now)
        entries = sorted(self._holder.groups().items())[:GROUPS_MAX]
        packed = b"".join(name + digest for name, digest in entries)
        return [self._send(peer, SetSummary(self._scope, packed))]

    def _compare(self, peer: PeerId, link: Link, groups: bytes, now: float) -> list[NodeEffect]:
        """Give what the peer lacks or has less of, and name what we do."""
        link.digest = sha256(groups).digest()[:8]  # What the digest is made of.
        theirs = {
            groups[at : at + 8]: groups[at + 8 : at + GROUP_ENTRY_BYTES]
            for at in range(0, len(groups), GROUP_ENTRY_BYTES)
        }
        ours = self._holder.groups()
        wanted = [
            name
            for name, digest in theirs.items()
            if ours.get(name) != digest and (name in ours or self._holder.wants(name))
        ]
        give = [name for name, digest in ours.items() if theirs.get(name) != digest]
        effects = self._give(peer, give[:ANSWER_GROUPS_MAX])
        if wanted:
            names = b"".join(sorted(wanted)[:WANTED_MAX])
            effects.append(self._send(peer, SetWanted(self._scope, names)))
        link.asked(now)  # It has ours now; time for its answer before we ask.
        return effects

    def _give(self, peer: PeerId, names: Sequence[bytes]) -> list[NodeEffect]:
        found = (tuple(self._holder.records_of(name)) for name in names)
        return [
            self._send(peer, SetRecords(self._scope, records[:GROUP_RECORDS_MAX]))
            for records in found
            if records
        ]

    def _take(
        self, peer: PeerId, link: Link, records: Sequence[bytes], now: float
    ) -> list[NodeEffect]:
        is_news, rejected = self._holder.take(records, peer)
        self.refused += len(rejected)
        effects: list[NodeEffect] = []
        effects += [Penalise(peer, one.reason) for one in rejected if one.penalise][:1]
        if is_news:
            self.touched(now)
        if self._agrees(link) and link.told != self.digest:
            effects.append(self._greet(peer))
        return effects

    def _agrees(self, link: Link) -> bool:
        return link.scope == self._scope and any(self._scope) and link.digest == self.digest

    def _greet(self, peer: PeerId) -> SendFrame:
        self._links[peer].told = self.digest
        return self._send(peer, SetDigest(self._scope, self.digest))

    def _send(self, peer: PeerId, message: SetFrame) -> SendFrame:
        return SendFrame(peer, message, self._channel)


def _read(frame: bytes, *, is_first: bool) -> SetFrame:
    """RemoteError if it is too long, malformed, or not the digest that a stream begins with."""
    if len(frame) > GOV_FRAME_MAX:
        raise RemoteError(f"frame of {len(frame)} bytes exceeds {GOV_FRAME_MAX}")
    message: SetFrame = decode(frame, FRAMES)
    if is_first and not isinstance(message, SetDigest):
        raise RemoteError(f"{type(message).__name__} before the digest that begins a stream")
    return message
