"""What does a replicated set cost each node while nothing happens, and how soon has everybody a new
record, in a swarm of a hundred nodes or of ten thousand?

    swarmllm simulate replication [--sweep nodes=100,1000,10000] [--groups 64]

The replicas of `core.replication`, one for each node, each linked to `--links` random others by
streams that take `--delay-ms`; no gossip, which in a real swarm only makes news faster. They begin
with the same `--groups` groups of records. Bytes are those of frames with what stream, Yamux, Noise
and TCP put around a small one, both ways. After `--idle-s` one node has a new record of
`--record` bytes.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from swarmllm.core.effects import NodeEffect, SendFrame
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.replication.replica import Replica
from swarmllm.errors import UsageError
from swarmllm.messages import PeerId
from swarmllm.messages.governance import SetDigest
from swarmllm.sims.study import Lines, Parameter, Parameters, Result, Results, Study, Summary, main
from swarmllm.wire.codec import encode

SCOPE: Final = b"\1" * 8
BUDGET: Final = 50.0  # Bytes per node and second while nothing happens.
# Length 4, Yamux 12, Noise 18, TCP/IP 52 and its acknowledgement 52.
AROUND_BYTES: Final = 138
NEWS_WITHIN_S: Final = 300.0
STARTS_S: Final = 60.0  # Streams open one after the other, as nodes come.


class Shelf:
    """The groups that all have, and those that only came later; names -> records."""

    def __init__(self, common: Mapping[bytes, bytes]) -> None:
        self.scope = SCOPE
        self._common = common
        self.later: dict[bytes, bytes] = {}

    def groups(self) -> Mapping[bytes, bytes]:
        everything = {**self._common, **self.later} if self.later else self._common
        return {name: sha256(record).digest()[:8] for name, record in everything.items()}

    def records_of(self, name: bytes) -> Sequence[bytes]:
        record = self.later.get(name) or self._common.get(name)
        return () if record is None else (record,)

    def wants(self, name: bytes) -> bool:
        return True

    def take(self, records: Sequence[bytes], peer: PeerId) -> tuple[bool, Sequence[Rejected]]:
        (record,) = records
        name = sha256(record).digest()[:8]
        is_news = name not in self.later and name not in self._common
        if is_news:
            self.later[name] = record
        return is_news, ()


class Swarm:
    """Replicas with streams between them, in virtual time."""

    def __init__(self, nodes: int, links: int, groups: int, delay_s: float, seed: int) -> None:
        self.rng = random.Random(f"{seed} replication")
        records = [self.rng.randbytes(300) for _ in range(groups)]
        common = {sha256(record).digest()[:8]: record for record in records}
        self.shelves = [Shelf(common) for _ in range(nodes)]
        self.replicas = [
            Replica("gov", shelf, random.Random(f"{seed} {at}"))
            for at, shelf in enumerate(self.shelves)
        ]
        self.now = 0.0
        self.size = self.frames = 0
        self.informed: list[float] = []
        self._delay_s = delay_s
        self._count = itertools.count()
        self._queue: list[tuple[float, int, int, int, bytes]] = []
        self._planned = [math.inf] * nodes
        for one in range(nodes):
            for other in self.rng.sample(range(nodes), min(links // 2, nodes - 1)):
                if other != one:
                    self._open(one, other, self.rng.uniform(0.0, STARTS_S))

    def _open(self, one: int, other: int, at: float) -> None:
        for node, peer in ((one, other), (other, one)):
            heapq.heappush(self._queue, (at, next(self._count), node, peer, b"opened"))

    def run(self, until: float) -> None:
        """All that happens before then. Events are (when, number, node, peer, what): a frame, an
        opened stream, or (peer -1) a look at the clock."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, node, peer, what = heapq.heappop(queue)
            replica = self.replicas[node]
            if peer < 0:
                if self.now != self._planned[node]:
                    continue
                self._planned[node] = math.inf
                self._perform(node, replica.timer(self.now))
            elif what == b"opened":
                self._perform(node, replica.opened(PeerId(str(peer)), self.now))
            else:
                had = bool(self.shelves[node].later)
                self._perform(node, replica.received(PeerId(str(peer)), what, self.now))
                if self.shelves[node].later and not had:
                    self.informed.append(self.now)
        self.now = until

    def say(self, record: bytes) -> None:
        """One node has something new."""
        node = self.rng.randrange(len(self.replicas))
        self.shelves[node].take((record,), PeerId(""))
        self.replicas[node].touched(self.now)
        self.informed.append(self.now)
        self._plan(node)

    def _perform(self, node: int, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendFrame):
                frame = encode(effect.message)
                self.size += len(frame) + AROUND_BYTES
                self.frames += 1
                arrives = self.now + self._delay_s
                event = (arrives, next(self._count), int(effect.peer), node, frame)
                heapq.heappush(self._queue, event)
        self._plan(node)

    def _plan(self, node: int) -> None:
        deadline = max(self.now, self.replicas[node].next_deadline())
        if deadline < self._planned[node]:
            self._planned[node] = deadline
            heapq.heappush(self._queue, (deadline, next(self._count), node, -1, b""))


def point(p: Parameters, seed: int) -> Results:
    swarm = Swarm(p["nodes"], p["links"], p["groups"], p["delay_ms"] / 1_000, seed)
    swarm.run(2 * STARTS_S)
    size, frames = swarm.size, swarm.frames
    swarm.run(2 * STARTS_S + p["idle_s"])
    idle = (swarm.size - size) / p["nodes"] / p["idle_s"]
    idle_frames = (swarm.frames - frames) / p["nodes"] / p["idle_s"]
    began, size = swarm.now, swarm.size
    swarm.say(swarm.rng.randbytes(p["record"]))
    swarm.run(began + NEWS_WITHIN_S)
    informed = sorted(at - began for at in swarm.informed)
    everybody = len(informed) == p["nodes"]
    return {
        # Sent by somebody, received by somebody: each node has its part of both.
        "idle_bytes_s": 2 * idle,
        "idle_frames_min": 60 * idle_frames,
        "news_s": informed[-1] if everybody else math.inf,
        "half_s": informed[p["nodes"] // 2 - 1] if everybody else math.inf,
        "news_bytes": 2 * (swarm.size - size - idle * p["nodes"] * NEWS_WITHIN_S) / p["nodes"],
        "informed": len(informed) / p["nodes"],
        "digest_bytes": len(encode(SetDigest(SCOPE, SCOPE))),
    }


def check(p: Parameters) -> None:
    if p["links"] >= p["nodes"]:
        raise UsageError(f"--links {p['links']} of --nodes {p['nodes']}: there are fewer others")


def says(found: Sequence[Summary]) -> str:
    worst = max(s.get("idle_bytes_s") for s in found)
    slowest = max(s.get("news_s") for s in found)
    return (
        f"While nothing happens a node sends and receives {worst:.1f} bytes a second;"
        f" a new record is with everybody after {slowest:.1f} s."
    )


STUDY: Final = Study(
    "swarmllm.sims.replication",
    parameters=(
        Parameter("nodes", 100, "nodes", low=2, high=100_000),
        Parameter("links", 16, "streams of each, on average", low=2, high=128),
        Parameter("groups", 64, "groups of records that all have", low=0, high=1_500),
        Parameter("record", 300, "bytes of the new record", low=8, high=4_096),
        Parameter("delay_ms", 50.0, "ms that a frame takes", low=0, high=1_000),
        Parameter("idle_s", 600.0, "s in which nothing happens", low=60, high=86_400),
    ),
    results=(
        Result("idle_bytes_s", "bytes per node and second while nothing happens", digits=2),
        Result("idle_frames_min", "frames sent per node and minute meanwhile", digits=2),
        Result("news_s", "seconds until all have a new record", digits=1),
        Result("half_s", "seconds until half of them have it", digits=1),
        Result("news_bytes", "bytes that a new record costs each node", digits=0),
        Result("informed", "share that has it after 300 s", digits=3),
        Result("digest_bytes", "bytes of a digest", digits=0),
    ),
    point=point,
    plots=(Lines("idle", "Idle cost", "nodes", ("idle_bytes_s",), "bytes per node and second"),),
    check=check,
    says=says,
    holds=lambda results: bool(results["idle_bytes_s"] < BUDGET and results["informed"] == 1.0),
    runs=3,
)

if __name__ == "__main__":
    sys.exit(main("replication"))
