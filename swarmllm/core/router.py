"""Whom to ask: every node ranks the experts it can reach by what it has seen of them itself.

A capacity record is a hint by its author; a round trip is a fact. So a peer's expected time for a round starts from its record (rate,
queue) and its pings, and belongs to our own history as soon as there is one. Choosing among equals is by power of two choices: everybody
hears the same gossip, and always taking the single best would send the whole swarm to one peer (Mitzenmacher 2001).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmllm.messages import CapacityRecord, PeerId

HISTORY_MAX = 4096  # Peers with own history; as many as the capacity table holds.
SUSPECT_BASE_S = 1.0  # After a missed deadline a peer rests this long, doubled for each further miss in a row.
SUSPECT_MAX_S = 60.0
GAIN = 1 / 8  # Of the running mean and deviation, as in TCP's round-trip estimator (RFC 6298).
PATIENCE_FLOOR_S = 0.10  # Scheduling noise of an ordinary machine: no deadline is closer than this behind the mean.
PATIENCE_UNKNOWN_S = 1.0  # For a peer that was never measured.
PATIENCE_MAX_S = 30.0
RATE_UNKNOWN = 10.0  # Tokens/s of an expert that claims nothing: a small model on a laptop.
PREFILL_SPEEDUP = 4.0  # Catching up is batched, so at least this much faster than decoding token by token.
SWITCH_RATIO = 2.0  # A member is given up only for somebody this much faster, catching up included.
YOUNG_S = 120.0  # Session times are Weibull with shape < 1: who has just come is likeliest to go.
YOUNG_PENALTY = 0.25  # Share of the expected time added for a peer heard of this moment.


@dataclass(slots=True)
class History:
    """What this node measured of one peer: seconds per round of one token, without catching up."""

    first_seen_at: float
    mean_s: float = 0.0
    deviation_s: float = 0.0
    replies: int = 0
    misses: int = 0  # In a row.
    rests_until: float = 0.0
    ping_s: float = 0.0

    def observe(self, seconds: float) -> None:
        if self.replies == 0:
            self.mean_s, self.deviation_s = seconds, seconds / 2
        else:
            self.deviation_s += GAIN * (abs(seconds - self.mean_s) - self.deviation_s)
            self.mean_s += GAIN * (seconds - self.mean_s)
        self.replies += 1
        self.misses = 0
        self.rests_until = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that could be asked now; `missing` is how many tokens it would have to be sent."""

    peer: PeerId
    record: CapacityRecord
    missing: int
    member: bool


class Router:
    def __init__(self, own: PeerId, rng: random.Random) -> None:
        self._own = own
        self._rng = rng
        self._history: dict[PeerId, History] = {}

    def seen(self, peer: PeerId, now: float) -> History:
        """The peer's history, begun now if there is none. Full: the peer with the fewest replies is forgotten."""
        found = self._history.get(peer)
        if found is None:
            if len(self._history) >= HISTORY_MAX:
                del self._history[min(self._history, key=lambda p: (self._history[p].replies, p))]
            found = self._history[peer] = History(first_seen_at=now)
        return found

    def pinged(self, peer: PeerId, rtt_s: float, now: float) -> None:
        history = self.seen(peer, now)
        history.ping_s = rtt_s if history.ping_s == 0 else history.ping_s + GAIN * (rtt_s - history.ping_s)

    def replied(self, peer: PeerId, seconds: float, tokens: int, record: CapacityRecord | None, now: float) -> None:
        """A round trip of `seconds` in which the expert took in `tokens`; long catch-ups say little about a round of one."""
        history = self.seen(peer, now)
        if tokens <= 4 or history.replies == 0:
            history.observe(max(0.0, seconds - self._prefill_s(record, tokens - 1) if tokens > 4 else seconds))
        history.misses, history.rests_until = 0, 0.0

    def missed(self, peer: PeerId, now: float) -> None:
        """The peer let a deadline pass: it rests, longer each time, and its mean moves towards what it cost."""
        history = self.seen(peer, now)
        history.misses += 1
        history.rests_until = now + min(SUSPECT_MAX_S, SUSPECT_BASE_S * 2.0 ** (history.misses - 1))

    def rest(self, peer: PeerId, seconds: float, now: float) -> None:
        """The peer said itself that it has no room for a while."""
        history = self.seen(peer, now)
        history.rests_until = max(history.rests_until, now + min(seconds, SUSPECT_MAX_S))

    def rests(self, peer: PeerId, now: float) -> bool:
        found = self._history.get(peer)
        return found is not None and found.rests_until > now

    def expected_s(self, candidate: Candidate, now: float) -> float:
        """Expected seconds until its answer, catching up included."""
        history = self.seen(candidate.peer, now)
        base = (
            history.mean_s
            if history.replies
            else history.ping_s + (1 + candidate.record.queue_depth) / self._rate(candidate.record)
        )
        age = max(0.0, now - history.first_seen_at)
        young = YOUNG_PENALTY * max(0.0, 1 - age / YOUNG_S) if candidate.peer != self._own else 0.0
        return base * (1 + young) + self._prefill_s(candidate.record, candidate.missing - 1)

    def patience_s(self, candidate: Candidate, now: float) -> float:
        """How long to wait for its answer before it counts as missing: mean plus four deviations, as TCP does."""
        history = self.seen(candidate.peer, now)
        prefill = 2 * self._prefill_s(candidate.record, candidate.missing - 1)
        if history.replies:
            return min(PATIENCE_MAX_S, history.mean_s + 4 * history.deviation_s + PATIENCE_FLOOR_S + prefill)
        return min(PATIENCE_MAX_S, PATIENCE_UNKNOWN_S + 2 * self.expected_s(candidate, now) + prefill)

    def pick(self, count: int, candidates: Sequence[Candidate], now: float) -> list[PeerId]:
        """Up to `count` distinct peers: our own expert, then members (they hold the context), then others by power of two choices."""
        cost = {c.peer: self.expected_s(c, now) for c in candidates}
        able = sorted((c for c in candidates if not self.rests(c.peer, now)), key=lambda c: c.peer)
        kept = sorted(
            (c for c in able if c.member or c.peer == self._own), key=lambda c: (c.peer != self._own, cost[c.peer], c.peer)
        )
        picked = [c.peer for c in kept[:count]]
        others = [c.peer for c in able if c.peer not in picked]
        while others and len(picked) < count:
            picked.append(self._best_of_two(others, cost))
            others.remove(picked[-1])
        if others and picked and picked[-1] != self._own:
            challenger, worst = self._best_of_two(others, cost), max(picked, key=lambda p: (p != self._own, cost[p], p))
            if cost[challenger] * SWITCH_RATIO < cost[worst]:
                picked[picked.index(worst)] = challenger
        return picked

    def _best_of_two(self, peers: list[PeerId], cost: Mapping[PeerId, float]) -> PeerId:
        pair = peers if len(peers) <= 2 else self._rng.sample(peers, 2)
        return min(pair, key=lambda p: (cost[p], p))

    def histories(self) -> Mapping[PeerId, History]:
        return self._history

    def _rate(self, record: CapacityRecord) -> float:
        return record.rate / 16 if record.rate else RATE_UNKNOWN

    def _prefill_s(self, record: CapacityRecord | None, tokens: int) -> float:
        rate = self._rate(record) if record is not None else RATE_UNKNOWN
        return max(0, tokens) / (rate * PREFILL_SPEEDUP)
