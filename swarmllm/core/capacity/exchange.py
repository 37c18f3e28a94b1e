"""Peer sampling: every few seconds a node exchanges a few sealed capacity records with one
connected peer.

What a node sends and receives this way depends on the clock alone, not on how many nodes there are:
a swarm of any size costs each of them the same, and each knows a changing sample of it (peer
sampling: Voulgaris et al. 2005, Jelasity et al. 2007). Telling everybody everything, as gossip on a
topic does, costs each node a share that grows with the swarm, and whoever invents authors costs all
of them.

Whom to exchange with next is who has been silent longest: so whoever comes by itself is not asked
as well, and every connected peer's word is renewed before any other's is for the second time. Every
exchange, begun by either side, puts off the next that we begin, by what it cost: so nodes with many
connections pay no more than others, and those with few hear no less. News of our own (an engine,
addresses, the last free session) goes to a few peers at once, by itself and for nothing in return.

Everything that a stranger can make us do is bounded. Records are checked before they are believed
or passed on; bytes that the table holds are not checked again. What others bring unasked is checked
within a budget for each of them and one for all; answers to our own questions have their own,
because we choose whom we ask and how often: no flood can starve them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.capacity.table import CapacityTable, Contradiction
from swarmllm.core.effects import Penalise, Send
from swarmllm.core.facts import (
    Fact,
    Heard,
    OwnExpertChanged,
    PeerGone,
    RecordsHeard,
    TokensAllowed,
    TokensForbidden,
)
from swarmllm.core.inputs import Input, PeerConnected, Received, TimerFired
from swarmllm.core.part import Part, Told
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import SHUFFLE_INTERVAL
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    AGE_MAX,
    SHUFFLE_RECORDS_MAX,
    CapacityRecord,
    PeerId,
    Shuffle,
    Shuffled,
)

SHUFFLE_RECORDS: Final = 4  # Each way: the giver's own and three others, some 290 bytes each.
# What exchanges may cost, sent and received: one that costs more puts the next one off for longer.
BYTES_PER_S: Final = 960.0
# Intervals for which others can keep us from choosing for ourselves, by asking us all the time.
PUT_OFF_MAX: Final = 4
# A record of our own that is older is sealed anew before it is sent: at most once for two
# exchanges.
RESEAL_S: Final = 4.0
SWEEP_EVERY: Final = 6  # Exchanges between two looks for records that have grown too old.
# Who hears of news at once; each tells it on. In a swarm of a handful that is everybody.
TELL_PEERS: Final = 8
TELL_AFTER_S: Final = 0.1  # What changes together is told together.
# Between two rounds of news, however much changes; in the long run far less, for a load that flaps
# is no news.
TELL_GAP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    burst: float
    per_s: float


TELLS: Final = Rate(4, 1 / 20)  # Rounds of news: 120 bytes/s in the long run.
GREETINGS: Final = Rate(
    12,
    1 / 10,
    # New connections that begin with a whole exchange: 64 candidates at once. Others: own records
    # only.
)
# Whole answers, to everybody together: 960 bytes/s. Beyond, with our own record only.
ANSWERS: Final = Rate(16, 0.4)
# Shuffles of one peer that are looked at. An honest one comes every 4 s at most, and with news.
ASKS: Final = Rate(5, 1)
# Signatures in one peer's shuffles. An honest one brings 0.8/s at most.
CHECKS: Final = Rate(2 * SHUFFLE_RECORDS_MAX, 1)
# And in those of all together: 1 ms of work a second. Honest ones bring 0.8/s.
CHECKS_OF_ALL: Final = Rate(128, 8)
WHOLE: Final = 1 - 1e-9  # What rounding leaves of one that should be there by now.
# Messages in a row beyond what is looked at: that is no haste any more, but a flood, and a strike.
IGNORED_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Sealing:
    """How records are signed and opened; `unseal` raises RemoteError for what is malformed, too
    long, badly signed, or not allowed (`capacity.check`), and `Contradiction` for what its author
    alone can be blamed for."""

    seal: Callable[[CapacityRecord], bytes]
    unseal: Callable[[bytes], tuple[PeerId, CapacityRecord]]


class Allowance:
    """A token bucket, full at first; a clock that runs backwards stands still."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left, self._at = rate.burst, -math.inf

    def take(self, now: float) -> bool:
        """Whether one is left, and take it."""
        self._refill(now)
        if self._left < WHOLE:
            return False
        self._left -= 1
        return True

    def next_at(self, now: float) -> float:
        """When one will be left."""
        self._refill(now)
        return now if self._left >= WHOLE else now + (1 - self._left) / self._rate.per_s

    def _refill(self, now: float) -> None:
        if now > self._at:
            left = self._left + (now - self._at) * self._rate.per_s
            self._left = left if left < self._rate.burst else self._rate.burst
            self._at = now


@dataclass(slots=True)
class _Partner:
    """A connected peer: what it may still make us do, and whether an answer of it is still to
    come."""

    asks: Allowance = field(default_factory=lambda: Allowance(ASKS))
    checks: Allowance = field(default_factory=lambda: Allowance(CHECKS))
    waiting: bool = False
    ignored: int = 0  # Of its messages, since the last that was looked at.


@dataclass(slots=True)
class Taken:
    """What a message brought: records that are new to us with their authors, in order, and what to
    do."""

    heard: list[tuple[PeerId, CapacityRecord]] = field(default_factory=list)
    effects: list[Send | Penalise] = field(default_factory=list)


class CapacityExchange(Part):
    """One node's. Between two exchanges that it begins is the `SHUFFLE_INTERVAL` of `settings`; as
    many are begun by others. `own_record` gives what we say of ourselves with its next seq, each
    time it is called; None: nothing. Peers that name another `swarm` are as if they were not
    connected. `is_usable`: whether a record offers an expert that can be mixed with ours."""

    inputs = (
        *(Shuffle, Shuffled, PeerConnected, PeerGone),
        *(OwnExpertChanged, TokensAllowed, TokensForbidden),
    )

    def __init__(
        self,
        own: PeerId,
        rng: random.Random,
        table: CapacityTable,
        sealing: Sealing,
        own_record: Callable[[], CapacityRecord | None],
        settings: Settings | None = None,
        swarm: bytes = bytes(8),
        is_usable: Callable[[CapacityRecord], bool] = lambda _: True,
    ) -> None:
        self._own = own
        self._is_usable = is_usable
        self._rng = rng
        self._table = table
        self._sealing = sealing
        self._own_record = own_record
        self._settings = settings or Settings()
        self._swarm = swarm
        # Who has been silent longest comes first. Bounded by connections.
        self._partners: dict[PeerId, _Partner] = {}
        self._checks, self._answers = Allowance(CHECKS_OF_ALL), Allowance(ANSWERS)
        self._greetings, self._tells = Allowance(GREETINGS), Allowance(TELLS)
        # Our own record as it was sealed last, and when; None: to be sealed anew.
        self._sealed: bytes | None = None
        self._sealed_at = self._told_at = self._began_at = -math.inf
        self._shuffle_at = self._tell_at = math.inf
        # With the next round of news: whoever believes us to be stopped loses an expert by it.
        self._tells_all = False
        self._turns = 0
        # Malformed, badly signed, with characters that are not allowed, or contradicting
        # themselves.
        self.records_refused = 0
        self.records_dropped = 0  # Beyond what their bearers may bring.

    def next_deadline(self) -> float:
        """When `timer` is wanted."""
        return min(self._shuffle_at, self._tell_at)

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case Received(peer=peer, message=Shuffle() as message):
                return _told(self.asked(peer, message, now), self._is_usable)
            case Received(peer=peer, message=Shuffled() as message):
                return _told(self.answered(peer, message, now), self._is_usable)
            case TimerFired():
                return self.timer(now)
            case PeerConnected(peer=peer):
                return self.connected(peer, now)
            case PeerGone(peer=peer):
                self.lost(peer)
            case OwnExpertChanged():
                self.changed(now)
            case TokensAllowed():
                self.changed(now, to_all=True)
            case TokensForbidden(by_order=by_order):
                self.changed(now, to_all=not by_order)
            case _:
                pass
        return ()

    def view(self, now: float) -> tuple[int, int]:
        """How many records were dropped, and how many refused."""
        return self.records_dropped, self.records_refused

    # --- peers come and go ------------------------------------------------------------------------

    def connected(self, peer: PeerId, now: float) -> list[Send]:
        """The side with the smaller id begins an exchange at once: after one round trip both know
        each other."""
        if peer in self._partners:
            return []
        partner = self._partners[peer] = _Partner()
        if self._shuffle_at == math.inf:
            self._began_at = now
            self._shuffle_at = now + self._spread(self._settings[SHUFFLE_INTERVAL])
        if self._own > peer:
            return []
        return [
            self._shuffle(peer, partner, SHUFFLE_RECORDS if self._greetings.take(now) else 1, now)
        ]

    def lost(self, peer: PeerId) -> None:
        self._partners.pop(peer, None)

    def changed(self, now: float, *, to_all: bool = False) -> None:
        """There is news of ourselves: the next record is a new one, and some peers, or `to_all`,
        are told at once."""
        self._sealed = None
        self._tells_all |= to_all
        self._tell_at = min(
            self._tell_at,
            max(now + TELL_AFTER_S, self._told_at + TELL_GAP_S, self._tells.next_at(now)),
        )

    def timer(self, now: float) -> list[Send]:
        sends: list[Send] = []
        if now >= self._tell_at:
            sends += self._tell(now)
        if now >= self._shuffle_at:
            sends += self._turn(now)
        return sends

    def _turn(self, now: float) -> list[Send]:
        """Time to begin an exchange with somebody."""
        self._turns += 1
        if self._turns % SWEEP_EVERY == 0:
            self._table.sweep(now)
        peer = next(iter(self._partners), None)
        if peer is None:
            self._shuffle_at = math.inf
            return []
        partner = self._partners[peer] = self._partners.pop(peer)
        self._began_at = self._shuffle_at = now
        return [self._shuffle(peer, partner, SHUFFLE_RECORDS, now)]

    def _shuffle(self, peer: PeerId, partner: _Partner, count: int, now: float) -> Send:
        partner.waiting = True
        ages, records = self._records(count, peer, (), now)
        # The answer will be like the question.
        self._put_off(2 * _size(records), count > 1, now)
        return Send(peer, Shuffle(self._swarm, ages, records, count))

    def _tell(self, now: float) -> list[Send]:
        self._tell_at = math.inf
        tells_all, self._tells_all = self._tells_all, False
        sealed = self._fresh(now)
        if sealed is None or not self._partners:
            return []
        self._told_at = now
        self._tells.take(now)
        peers = list(self._partners)
        if len(peers) > TELL_PEERS and not tells_all:
            peers = self._rng.sample(peers, TELL_PEERS)
        news = Shuffle(self._swarm, (_age(self._sealed_at, now),), (sealed,), 0)
        self._put_off(len(peers) * _size(news.records), False, now)
        return [Send(peer, news) for peer in peers]

    def _put_off(self, size_bytes: int, is_whole: bool, now: float) -> None:
        """What has cost so many bytes puts off the next exchange that we begin; a whole exchange,
        by half an interval at least."""
        every_s = self._settings[SHUFFLE_INTERVAL]
        wait_s = self._spread(max(every_s / 2 if is_whole else 0.0, size_bytes / BYTES_PER_S))
        self._shuffle_at = min(
            max(now, self._shuffle_at) + wait_s, self._began_at + PUT_OFF_MAX * every_s
        )

    # --- messages ---------------------------------------------------------------------------------

    def asked(self, peer: PeerId, message: Shuffle, now: float) -> Taken:
        """A peer offers records, and may want some."""
        partner = self._partners.get(peer)
        if partner is None:
            return Taken()
        if not partner.asks.take(now):
            return self._ignore(peer, partner, message)
        partner.ignored = 0
        if message.swarm != self._swarm:
            # Until it connects again. It is told once, so that it does not ask for nothing.
            del self._partners[peer]
            return Taken(effects=[Send(peer, Shuffle(self._swarm, (), (), 0))])
        taken = self._take(peer, message, partner, now)
        if not message.want:
            self._put_off(_size(message.records), False, now)
        elif not taken.effects:
            self._partners[peer] = self._partners.pop(peer)
            is_whole = message.want > 1 and self._answers.take(now)
            ages, records = self._records(
                min(message.want, SHUFFLE_RECORDS if is_whole else 1), peer, message.records, now
            )
            self._put_off(_size(message.records) + _size(records), is_whole, now)
            taken.effects.append(Send(peer, Shuffled(ages, records)))
        return taken

    def answered(self, peer: PeerId, message: Shuffled, now: float) -> Taken:
        """A peer answers; once for each question, and what comes beyond that is not looked at."""
        partner = self._partners.get(peer)
        if partner is None:
            return Taken()
        # Honest, too: on a new connection the answer to what was asked on the one before.
        if not partner.waiting:
            return self._ignore(peer, partner, message)
        partner.waiting, partner.ignored = False, 0
        return self._take(peer, message, None, now)

    def _ignore(self, peer: PeerId, partner: _Partner, message: Shuffle | Shuffled) -> Taken:
        self.records_dropped += len(message.records)
        partner.ignored += 1
        if partner.ignored < IGNORED_MAX:
            return Taken()
        partner.ignored = 0
        return Taken(
            effects=[
                Penalise(
                    peer,
                    f"{IGNORED_MAX} messages in a row with capacity records beyond what a peer may"
                    " send",
                )
            ]
        )

    def _take(
        self, peer: PeerId, message: Shuffle | Shuffled, partner: _Partner | None, now: float
    ) -> Taken:
        """The records that we can afford to check. `partner` None: in answer to our own
        question."""
        taken, table = Taken(), self._table
        too_old = 10 * table.ttl_s
        for place, sealed in enumerate(message.records):
            age = message.ages[place]
            if age >= too_old or table.holds(sealed, now):
                continue
            if partner is not None and not self._may_check(partner, place, now):
                self.records_dropped += 1
                continue
            try:
                author, record = self._sealing.unseal(sealed)
                news = (
                    "own"
                    if author == self._own
                    else table.hear(author, record, sealed, age / 10, peer, now)
                )
            except RemoteError as fault:
                self.records_refused += 1
                if isinstance(fault, Contradiction) and fault.author == peer:
                    taken.effects.append(Penalise(peer, str(fault)))
                    break
                # Its bearer need not see it as we do (protocols/strikes.md); what this costs us the
                # allowances bound.
                continue
            if news == "updated" or news == "new":  # noqa: PLR1714  Millions of times, in simulations.
                taken.heard.append((author, record))
        return taken

    def _may_check(self, partner: _Partner, place: int, now: float) -> bool:
        """The first record is the peer's own, by custom: for that no flood of others can use up the
        allowance."""
        return partner.checks.take(now) and (place == 0 or self._checks.take(now))

    # --- what we give -----------------------------------------------------------------------------

    def _records(
        self, count: int, peer: PeerId, but: Sequence[bytes], now: float
    ) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
        """Ages and records for this peer: our own first, then some of those that we know, none of
        `but`."""
        ages: list[int] = []
        records: list[bytes] = []
        own = self._fresh(now)
        if own is not None:
            ages.append(_age(self._sealed_at, now))
            records.append(own)
        for entry in self._table.give(count - len(records), now, peer, but):
            ages.append(_age(entry.born_at, now))
            records.append(entry.sealed)
        return tuple(ages), tuple(records)

    def _fresh(self, now: float) -> bytes | None:
        """Our own record, sealed not long ago."""
        if self._sealed is None or now >= self._sealed_at + RESEAL_S:
            record = self._own_record()
            self._sealed = None if record is None else self._sealing.seal(record)
            self._sealed_at = now
        return self._sealed

    def _spread(self, seconds: float) -> float:
        """So that a swarm started at once does not beat in step."""
        return seconds * self._rng.uniform(0.8, 1.2)


def _told(taken: Taken, is_usable: Callable[[CapacityRecord], bool]) -> Told:
    if not taken.heard:
        return taken.effects
    heard = tuple([Heard(peer, record, is_usable(record)) for peer, record in taken.heard])
    return [*taken.effects, RecordsHeard(heard)]


def _age(born_at: float, now: float) -> int:
    """In tenths of a second, rounded up, so that an age never shrinks on its way."""
    tenths = math.ceil((now - born_at) * 10)
    return 0 if tenths < 0 else AGE_MAX if tenths > AGE_MAX else tenths


def _size(records: Sequence[bytes]) -> int:
    """Of a message with these records, as near as the pace needs it."""
    return 16 + 7 * len(records) + sum(map(len, records))
