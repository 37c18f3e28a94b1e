"""Who hears of whom: every few seconds a node exchanges a few sealed capacity records with one peer that it is connected to.

What a node sends and receives this way depends on the clock alone, not on how many nodes there are: a swarm of any size costs each of them
the same, and each knows a changing random sample of it (peer sampling: Voulgaris et al. 2005, Jelasity et al. 2007). Telling everybody
everything, as gossip on a topic does, costs each node a share that grows with the swarm, and whoever invents authors costs all of them.

Whom to exchange with next is who has been silent longest: so whoever comes by itself is not asked as well, and every connected peer's word
is renewed before any other's is for the second time. News of our own (an engine, addresses, the last free session) goes to a few peers at
once, by itself and for nothing in return.

Everything that a stranger can make us do is bounded. Records are checked before they are believed or passed on; bytes that the table holds
are not checked again. What others bring unasked is checked within a budget for each of them and one for all; answers to our own questions
have their own, because we choose whom we ask and how often: no flood can starve them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swarmllm.core.capacity import CapacityTable, Entry
from swarmllm.core.events import Penalise, Send
from swarmllm.errors import RemoteError
from swarmllm.messages import AGE_MAX, SHUFFLE_RECORDS_MAX, CapacityRecord, PeerId, Shuffle, Shuffled

SHUFFLE_EVERY_S = 5.0  # With this many records each way, given and taken, some 1 KB/s:
SHUFFLE_RECORDS = 4  # Our own and three others; a usual one has some 290 bytes.
RESEAL_S = 4.0  # A record of our own that is older is sealed anew before it is sent; younger than any two exchanges are apart.
SWEEP_EVERY = 4  # Exchanges between two looks for records that have grown too old.
TELL_PEERS = 8  # Who hears of news at once; each tells it on. In a swarm of a handful that is everybody.
TELL_AFTER_S = 0.1  # What changes together is told together.
TELL_GAP_S = 1.0  # Between two rounds of news, however much changes ...
TELL_BURST, TELL_PER_S = 4.0, 1 / 20  # ... and in the long run far less: a load that flaps is no news. 170 bytes/s.
GREET_BURST, GREET_PER_S = 64.0, 1.0  # New connections that are greeted at once; the others have their turn first.
ASK_BURST, ASK_PER_S = 5.0, 1.0  # Shuffles of one peer that are looked at. An honest one comes every 4 s, and with news.
CHECK_BURST, CHECK_PER_S = (
    2.0 * SHUFFLE_RECORDS_MAX,
    1.0,
)  # Signatures of one peer's shuffles; an honest one brings 0.8/s at most.
CHECK_ALL_BURST, CHECK_ALL_PER_S = 128.0, 8.0  # And of all peers'; some 1 ms of work a second. Honest ones bring 0.6/s.


@dataclass(frozen=True, slots=True)
class Sealing:
    """How records are signed and opened; `unseal` raises RemoteError for what is malformed, too long, or badly signed."""

    seal: Callable[[CapacityRecord], bytes]
    unseal: Callable[[bytes], tuple[PeerId, CapacityRecord]]


class Allowance:
    """A token bucket, full at first; a clock that runs backwards stands still."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at = burst, now

    def take(self, now: float) -> bool:
        """Whether one is left, and take it."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def next_at(self, now: float) -> float:
        """When one will be left."""
        self._refill(now)
        return now if self._left >= 1 else now + (1 - self._left) / self._per_s

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
            self._at = now


@dataclass(slots=True)
class _Partner:
    """A connected peer: what it may still make us do, and whether an answer of it is still to come."""

    shuffles: Allowance
    checks: Allowance
    asked: bool = False
    waiting: bool = False


@dataclass(slots=True)
class Taken:
    """What a message brought: records that are new to us with their authors, in order, and what to do."""

    heard: list[tuple[PeerId, CapacityRecord]] = field(default_factory=list)
    effects: list[Send | Penalise] = field(default_factory=list)


class Shuffling:
    """One node's. `own_record` gives what we say of ourselves with its next seq, each time it is called; None: nothing."""

    def __init__(
        self,
        own: PeerId,
        rng: random.Random,
        table: CapacityTable,
        sealing: Sealing,
        own_record: Callable[[], CapacityRecord | None],
        every_s: float = SHUFFLE_EVERY_S,
    ) -> None:
        self._own = own
        self._rng = rng
        self._table = table
        self._sealing = sealing
        self._own_record = own_record
        self._every_s = every_s
        self._partners: dict[PeerId, _Partner] = {}  # Who has been silent longest comes first. Bounded by connections.
        self._checks = Allowance(CHECK_ALL_BURST, CHECK_ALL_PER_S, -math.inf)
        self._greetings = Allowance(GREET_BURST, GREET_PER_S, -math.inf)
        self._rounds = Allowance(TELL_BURST, TELL_PER_S, -math.inf)
        self._sealed: bytes | None = None  # Our own record as it was sealed last, and when; None: to be sealed anew.
        self._sealed_at = -math.inf
        self._told_at = -math.inf
        self._shuffle_at = self._tell_at = math.inf
        self._turns = 0

    def next_deadline(self) -> float:
        """When `timer` is wanted."""
        return min(self._shuffle_at, self._tell_at)

    # --- peers come and go ---------------------------------------------------------------------------------------------------

    def connected(self, peer: PeerId, now: float) -> list[Send]:
        """The side with the smaller id greets, by an exchange: both know each other after one round trip."""
        if peer in self._partners:
            return []
        shuffles, checks = Allowance(ASK_BURST, ASK_PER_S, now), Allowance(CHECK_BURST, CHECK_PER_S, now)
        partner = _Partner(shuffles, checks)
        if self._shuffle_at == math.inf:
            self._shuffle_at = now + self._spread()
        if self._own > peer or self._greetings.take(now):
            self._partners[peer] = partner
            return [self._shuffle(peer, partner, now)] if self._own < peer else []
        self._partners = {peer: partner, **self._partners}
        return []

    def lost(self, peer: PeerId) -> None:
        self._partners.pop(peer, None)

    def changed(self, now: float) -> None:
        """There is news of ourselves: the next record is a new one, and some peers are told at once."""
        self._sealed = None
        self._tell_at = min(self._tell_at, max(now + TELL_AFTER_S, self._told_at + TELL_GAP_S, self._rounds.next_at(now)))

    def timer(self, now: float) -> list[Send]:
        sends: list[Send] = []
        if now >= self._tell_at:
            sends += self._tell(now)
        if now >= self._shuffle_at:
            sends += self._turn(now)
        return sends

    def _turn(self, now: float) -> list[Send]:
        self._turns += 1
        if self._turns % SWEEP_EVERY == 0:
            self._table.sweep(now)
        peer = next(iter(self._partners), None)
        self._shuffle_at = now + self._spread() if peer is not None else math.inf
        if peer is None:
            return []
        partner = self._partners[peer] = self._partners.pop(peer)
        return [self._shuffle(peer, partner, now)]

    def _shuffle(self, peer: PeerId, partner: _Partner, now: float) -> Send:
        partner.asked = partner.waiting = True
        ages, records = self._records(SHUFFLE_RECORDS, peer, (), now)
        return Send(peer, Shuffle(ages, records, SHUFFLE_RECORDS))

    def _tell(self, now: float) -> list[Send]:
        self._tell_at = math.inf
        sealed = self._fresh(now)
        if sealed is None or not self._partners:
            return []
        self._told_at = now
        self._rounds.take(now)
        peers = list(self._partners)
        if len(peers) > TELL_PEERS:
            peers = self._rng.sample(peers, TELL_PEERS)
        news = Shuffle((self._age(self._sealed_at, now),), (sealed,), 0)
        return [Send(peer, news) for peer in peers]

    # --- messages ------------------------------------------------------------------------------------------------------------

    def asked(self, peer: PeerId, message: Shuffle, now: float) -> Taken:
        """A peer offers records, and may want some."""
        partner = self._partners.get(peer)
        if partner is None or not partner.shuffles.take(now):
            return Taken()
        taken = self._take(peer, message, partner, now)
        if message.want and not taken.effects:
            self._partners[peer] = self._partners.pop(peer)
            ages, records = self._records(min(message.want, SHUFFLE_RECORDS), peer, message.records, now)
            taken.effects.append(Send(peer, Shuffled(ages, records)))
        return taken

    def answered(self, peer: PeerId, message: Shuffled, now: float) -> Taken:
        """A peer answers; once for each question, and what comes beyond that is not looked at."""
        partner = self._partners.get(peer)
        if partner is None:
            return Taken()
        if not partner.asked:
            return Taken(effects=[Penalise(peer, "capacity records in answer to a question that was never asked")])
        if not partner.waiting:
            return Taken()
        partner.waiting = False
        return self._take(peer, message, None, now)

    def _take(self, peer: PeerId, message: Shuffle | Shuffled, partner: _Partner | None, now: float) -> Taken:
        """The records that we can afford to check. `partner` None: in answer to our own question."""
        taken, table = Taken(), self._table
        oldest = 10 * table.ttl_s
        for place, (age, sealed) in enumerate(zip(message.ages, message.records, strict=True)):
            if table.holds(sealed, now) or age >= oldest:
                continue
            if partner is not None and not self._may_check(partner, place, now):
                continue
            try:
                author, record = self._sealing.unseal(sealed)
                if author == self._own:
                    continue
                news = table.hear(author, record, sealed, now - age / 10, peer, now)
            except RemoteError as fault:
                taken.effects.append(Penalise(peer, str(fault)))
                break  # One strike a message, one bad signature a strike: what a liar costs is bounded.
            if news in {"new", "updated"}:
                taken.heard.append((author, record))
        return taken

    def _may_check(self, partner: _Partner, place: int, now: float) -> bool:
        """The first record is the peer's own, by custom: for that no flood of others can use up the allowance."""
        return partner.checks.take(now) and (place == 0 or self._checks.take(now))

    # --- what we give --------------------------------------------------------------------------------------------------------

    def _records(self, count: int, peer: PeerId, but: Sequence[bytes], now: float) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
        """Ages and records for this peer: our own first, then some of those that we know, none of `but`."""
        ages: list[int] = []
        records: list[bytes] = []
        own = self._fresh(now)
        if own is not None:
            ages.append(self._age(self._sealed_at, now))
            records.append(own)
        entries: list[Entry] = self._table.sample(count - len(records), now, self._rng, peer, but)
        for entry in entries:
            ages.append(self._age(entry.born_at, now))
            records.append(entry.sealed)
        return tuple(ages), tuple(records)

    def _fresh(self, now: float) -> bytes | None:
        """Our own record, sealed not long ago."""
        if self._sealed is None or now >= self._sealed_at + RESEAL_S:
            record = self._own_record()
            self._sealed = None if record is None else self._sealing.seal(record)
            self._sealed_at = now
        return self._sealed

    @staticmethod
    def _age(born_at: float, now: float) -> int:
        """Rounded up, so that an age never shrinks on its way."""
        return min(AGE_MAX, max(0, math.ceil((now - born_at) * 10)))

    def _spread(self) -> float:
        """So that a swarm started at once does not beat in step."""
        return self._every_s * self._rng.uniform(0.8, 1.2)
