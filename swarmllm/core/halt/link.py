"""One control link, and what the machine orders: what is known of the peer at its other end, and
how much it may make us do.

The budget is on frames, because a frame is what costs: a HALT among them is a signature check, an
exchange of vectors is work for two. It can never hold up the first HALT of a key:
`core.halt.machine` looks for that in frames beyond the budget too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.halt.state import HaltState
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    HALT_FRAME_MAX,
    RECORDS_MAX,
    HaltDigest,
    HaltFrame,
    Records,
)
from swarmllm.messages.declare import BOTH, HALT, kinds_on
from swarmllm.wire.codec import CODES, decode

# An honest peer sends one per record that is new to it and a few in each exchange.
FRAMES_PER_S: Final = 8.0
# 16 frames: what two peers have to say after a partition, the longest usual chain of records
# included.
FRAMES_BURST_S: Final = 2.0
# Of all peers together, in equal shares: what 16 peers may send, and a tenth of a core.
NODE_FRAMES_PER_S: Final = 128.0
# Between two requests for the records that we lack; doubles to the next while it brings nothing.
ASK_EVERY_S: Final = 1.0
ASK_EVERY_MAX_S: Final = 10.0
SYNC_PEERS: Final = 3  # Peers to agree with before the first token.
SYNC_ALONE_S: Final = 5.0  # How long to wait for them.
SYNC_QUIET_S: Final = 1.0  # With fewer than three, but all of them in agreement, after so long.
QUEUE_MAX: Final = 64  # Frames that wait for one slow peer: a megabyte.
_RECORDS_CODE: Final = bytes((CODES[Records],))
HALT_FRAMES: Final[tuple[type[HaltFrame], ...]] = kinds_on(HALT, BOTH)


@dataclass(slots=True)
class Link:
    """What we know of the peer: the swarm and charter version it named, and the digest of its state
    when we last heard of it. Made when the stream opens, at `spent_at`."""

    spent_at: float
    opened_at: float = field(init=False)
    allowance: float = FRAMES_PER_S * FRAMES_BURST_S
    swarm: bytes | None = None
    version: int | None = None
    # Under another charter with one number: what is a breach to us, it holds for good, and passes
    # on.
    forked: bool = False
    digest: bytes | None = None
    durable: bytes | None = None
    ack_due: bool = False
    asked_at: float = -math.inf
    ask_every_s: float = ASK_EVERY_S

    def __post_init__(self) -> None:
        self.opened_at = self.spent_at

    @property
    def greeted(self) -> bool:
        """Whether its first frame has come."""
        return self.swarm is not None

    def differs(self, state: HaltState) -> bool:
        """Whether it is of the same swarm, and has other records than this."""
        return self.swarm == state.swarm and self.digest != state.digest

    def says(self, message: HaltDigest) -> bool:
        """Whether this is what the peer has said before."""
        return (self.swarm, self.version, self.digest) == (
            message.swarm,
            message.charter_version,
            message.ctl_digest,
        )

    def spend(self, now: float, links: int) -> bool:
        """Whether one more frame is within the budget of one of so many links (a token bucket; a
        clock that runs backwards stands still). However many peers there are, together they get no
        more than the node can afford."""
        rate = min(FRAMES_PER_S, NODE_FRAMES_PER_S / links)
        passed = max(0.0, now - self.spent_at)
        self.spent_at = max(now, self.spent_at)
        self.allowance = min(max(1.0, rate * FRAMES_BURST_S), self.allowance + passed * rate)
        if self.allowance < 1:
            return False
        self.allowance -= 1
        return True

    def may_ask(self, now: float) -> bool:
        """Whether it is time to ask (again); counts as having asked."""
        if now < self.asked_at + self.ask_every_s:
            return False
        self.ask_every_s = (
            ASK_EVERY_S
            if self.asked_at == -math.inf
            else min(ASK_EVERY_MAX_S, 2 * self.ask_every_s)
        )
        self.asked_at = now
        return True

    def told(self, now: float) -> None:
        """Something new is on its way to it: time for its answer, before we ask."""
        self.asked_at = max(self.asked_at, now)
        self.ask_every_s = ASK_EVERY_S

    def agrees(self, digest: bytes) -> None:
        """Its state has this digest now; where that brought something, asking starts again at the
        short interval."""
        if digest != self.digest:
            self.ask_every_s = ASK_EVERY_S
        self.digest = digest


@dataclass(slots=True)
class Sync:
    """Has this node, since it started, woke or lost its peers, asked whether there were halts? Once
    true, true for good. A `patient` one does not trust three peers that agree within the first
    second: who is there first may be a stranger who only repeats what we say."""

    started_at: float = math.inf
    done: bool = False
    patient: bool = False

    def is_done(self, links: int, settled: int, alone: bool, now: float) -> bool:
        """`links` to peers of the swarm are open and `settled` of them agree with us; `alone`:
        nobody else could know of a halt."""
        quiet = 0 < settled == links and now >= self.started_at + SYNC_QUIET_S
        enough = settled >= SYNC_PEERS and (
            not self.patient or now >= self.started_at + SYNC_QUIET_S
        )
        self.done = self.done or alone or enough or quiet or now >= self.started_at + SYNC_ALONE_S
        return self.done

    def next_deadline(self, now: float) -> float:
        """When waiting alone may change the answer."""
        ends = (self.started_at + SYNC_QUIET_S, self.started_at + SYNC_ALONE_S)
        return math.inf if self.done else min((at for at in ends if at > now), default=math.inf)


def may_be_urgent(frame: bytes) -> bool:
    """Whether it may hold a HALT, without decoding it: a list whose first element is the code of
    Records, in its one encoding."""
    return frame[1:2] == _RECORDS_CODE


def read_frame(frame: bytes, *, is_first: bool) -> HaltFrame:
    """One frame, without its length. RemoteError if it is too long, malformed, or not the digest
    that a stream begins with."""
    if len(frame) > HALT_FRAME_MAX:
        raise RemoteError(f"halt frame of {len(frame)} bytes exceeds {HALT_FRAME_MAX}")
    message: HaltFrame = decode(frame, HALT_FRAMES)
    if is_first and not isinstance(message, HaltDigest):
        raise RemoteError(f"{type(message).__name__} before the digest that begins a halt stream")
    return message


def frames_of(records: Sequence[bytes]) -> list[Records]:
    """The records in as few frames as their bounds allow, in order."""
    found: list[Records] = []
    batch: list[bytes] = []
    size = 8
    for record in records:
        if batch and (len(batch) == RECORDS_MAX or size + len(record) + 3 > HALT_FRAME_MAX):
            found.append(Records(tuple(batch)))
            batch, size = [], 8
        batch.append(record)
        size += len(record) + 3
    return [*found, Records(tuple(batch))] if batch else found


class Outbox:
    """The frames that wait for one peer, in order. When it is full signs of life go first, oldest
    first; what matters never does."""

    def __init__(self, frames_max: int = QUEUE_MAX) -> None:
        assert frames_max >= 1
        self._frames_max = frames_max
        self._waiting: deque[tuple[bytes, bool]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, frame: bytes, is_live: bool) -> bool:
        """False if it is full of frames that must not be dropped: the peer does not read, and is to
        be treated as lost."""
        if len(self._waiting) >= self._frames_max:
            oldest = next(
                (at for at, (_, droppable) in enumerate(self._waiting) if droppable), None
            )
            if oldest is None:
                return is_live  # A sign of life that finds no room is what is dropped.
            del self._waiting[oldest]
        self._waiting.append((frame, is_live))
        return True

    def pop(self) -> bytes | None:
        """The next frame to write; None if there is none."""
        return self._waiting.popleft()[0] if self._waiting else None
