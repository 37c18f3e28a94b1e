"""The router ranks the experts that this node can reach by what it has measured of them itself.

A capacity record is a hint by its author; a round trip is a fact. So a peer's expected time for a
round starts from its record (rate, queue) and its pings, and belongs to our own history as soon as
there is one. In the same way a model's worth starts from what its record claims (size, domains), is
corrected by how well it did on our own earlier prompts, and gives way to what it thinks of the text
at hand.

An expert's score is the logarithm of the share that its model is expected to have in the answer,
less what its waiting time costs. Another model is worth more than another replica of the same one.
Choosing among replicas is by power of two choices, and scores of strangers are blurred a little:
many hear the same records, and always taking the single best would send the whole swarm to one peer
(Mitzenmacher 2001).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmllm.core.facts import Fact, TokensAllowed
from swarmllm.core.inputs import Input, PeerConnected, PeerMoved, PingMeasured, Received
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.eviction import Block, block_of
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import (
    BLUR,
    PATIENCE_FLOOR,
    PATIENCE_MAX,
    PATIENCE_UNKNOWN,
    REPLICA_COST,
    SUSPECT_REST,
    SWITCH_ADVANTAGE,
    SWITCH_RATIO,
    WAIT_COST,
)
from swarmllm.core.trust.evidence import Allowance
from swarmllm.core.trust.track_record import TrackRecord, TrackRecords
from swarmllm.messages import CapacityRecord, Halted, PeerId
from swarmllm.wire.ext import chat_digest_in

# Before a peer that said it is halted is asked again; our own start after a halt ends this sooner.
HALTED_REST_S = 5.0

# Peers with own history; more than the capacity table holds, for who was asked is remembered
# longer.
HISTORY_MAX = 4096
# After a missed deadline a peer rests for SUSPECT_REST, doubled for each further miss in a row, and
# no longer than this.
SUSPECT_MAX_S = 60.0
GAIN = 1 / 8  # Of the running mean and deviation, as in TCP's round-trip estimator (RFC 6298).
RATE_UNKNOWN = 10.0  # Tokens/s of an expert that claims nothing: a small model on a laptop.
# Catching up is batched, so at least this much faster than decoding token by token.
PREFILL_SPEEDUP = 4.0
PREFILL_TOKENS = 16  # From so many on a reply tells how fast an expert catches up.
PREFILL_GAIN = 1 / 4
# A model of 16 times the parameters is believed a fifth more before anything is known of it ...
SIZE_POWER = 1 / 16
SIZE_TYPICAL = 1e9
# ... none more than this, and none less than its inverse: a claim costs nothing, and what every
# record
SIZE_GAIN_MAX = 2.0**0.25
# An expert that says another chat format than the conversation's was trained on other marks. It
# may know the text all the same, and its answers soon tell; so a little, and never a refusal.
OTHER_FORMAT = 0.75
DOMAIN_GAIN = (
    2.0**0.5
    # can say of itself (its size, and the domain that the user names) makes no more than twice the
    # weight in all.
)
SHARE_GAIN = 1 / 8  # Of the running mean of the weight that an expert had.
MERIT_MAX_NATS = 3.0  # Per token, either way: one strange prompt must not brand an expert.
# From so many results on a holder of a model that has so much less merit than another one of that
# model is not asked in its place, unless an audit has shown that it runs it. Each has met other
# prompts, and on a strange one honest experts are worse by three nats and more.
FALSE_MIN, FALSE_NATS = 4, 5.0
MERIT_DOUBT = 4.0  # Hidden tokens that merit is taken to have had before, each a typical one.
READING_S = 0.2  # A token: what comes much sooner few have the time to read.
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
    # It said so itself; until then it is not asked even where nobody else is left.
    full_until: float = 0.0
    ping_s: float = 0.0
    prefill_s: float = 0.0  # Per token that it had to catch up with; 0: never seen.
    # The address block of its last direct connection, of its relay's if there was none; None: not
    # known.
    block: Block | None = None
    is_relayed: bool = True  # Whether that is a relay's.
    prompts: int = 0  # That it was weighed on.
    share: float = 0.0  # Its mean weight in our answers.

    def met(self, host: str, *, is_relayed: bool) -> None:
        """Connected there. Where it was itself tells more than where its relay is."""
        if host and (self.is_relayed or not is_relayed):
            self.block, self.is_relayed = block_of(host), is_relayed

    def weighed(self, share: float) -> None:
        gain = max(SHARE_GAIN, 1 / (1 + self.prompts))
        self.share += gain * (share - self.share)
        self.prompts += 1

    def caught_up(self, seconds_per_token: float) -> None:
        before = self.prefill_s
        self.prefill_s = (
            seconds_per_token
            if before == 0
            else before + PREFILL_GAIN * (seconds_per_token - before)
        )

    def observe(self, seconds: float) -> None:
        if self.replies == 0:
            self.mean_s, self.deviation_s = seconds, seconds / 2
        else:
            self.deviation_s += GAIN * (abs(seconds - self.mean_s) - self.deviation_s)
            self.mean_s += GAIN * (seconds - self.mean_s)
        self.replies += 1
        self.misses = 0
        self.rests_until = self.full_until = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expert that could be asked now; `missing` is how many tokens it would have to be sent.

    `fit` is the logarithm of the share that its model is expected to have in the answer, up to a
    constant.
    """

    peer: PeerId
    record: CapacityRecord
    missing: int
    member: bool
    fit: float = 0.0


class Router(Part):
    inputs = (PeerConnected, PeerMoved, PingMeasured, Halted, TokensAllowed)

    def __init__(
        self,
        own: PeerId,
        rng: random.Random,
        settings: Settings | None = None,
        track_records: TrackRecords | None = None,
    ) -> None:
        self._own = own
        self._rng = rng
        self.track_records = TrackRecords() if track_records is None else track_records
        self.allowance = Allowance()
        self._settings = settings or Settings()
        self._history: dict[PeerId, History] = {}

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case PeerConnected(peer=peer, host=host, is_relayed=is_relayed):
                self.seen(peer, now).met(host, is_relayed=is_relayed)
            case PeerMoved(peer=peer, host=host):
                self.seen(peer, now).met(host, is_relayed=False)
            case PingMeasured(peer=peer, rtt_s=rtt_s):
                self.pinged(peer, rtt_s, now)
            case Received(peer=peer):
                self.rest(peer, HALTED_REST_S, now)
            case TokensAllowed():
                self.wake()
            case _:
                pass
        return ()

    def seen(self, peer: PeerId, now: float) -> History:
        """The peer's history, begun now if there is none. Full: the peer with the fewest replies is
        forgotten."""
        found = self._history.get(peer)
        if found is None:
            if len(self._history) >= HISTORY_MAX:
                del self._history[min(self._history, key=lambda p: (self._history[p].replies, p))]
            found = self._history[peer] = History(first_seen_at=now)
        return found

    def pinged(self, peer: PeerId, rtt_s: float, now: float) -> None:
        history = self.seen(peer, now)
        history.ping_s = (
            rtt_s if history.ping_s == 0 else history.ping_s + GAIN * (rtt_s - history.ping_s)
        )

    def replied(
        self, peer: PeerId, seconds: float, tokens: int, record: CapacityRecord | None, now: float
    ) -> None:
        """A round trip of `seconds` in which the expert took in `tokens`; long catch-ups say little
        about a round of one."""
        history = self.seen(peer, now)
        if tokens >= PREFILL_TOKENS:
            # What a round of one takes is measured, or it is claimed; what is beyond it was spent
            # on catching up.
            alone_s = (
                history.mean_s
                if history.replies
                else history.ping_s + (1 / _rate(record) if record is not None else 0.0)
            )
            history.caught_up(max(0.0, seconds - alone_s) / (tokens - 1))
        if tokens < PREFILL_TOKENS or history.replies == 0:
            history.observe(
                max(
                    0.0,
                    seconds - _prefill_s(history, record, tokens - 1) if tokens > 4 else seconds,
                )
            )
        history.misses, history.rests_until, history.full_until = 0, 0.0, 0.0

    def missed(self, peer: PeerId, now: float) -> None:
        """The peer let a deadline pass: it rests, longer each time, and its mean moves towards what
        it cost."""
        history = self.seen(peer, now)
        history.misses += 1
        rest_s = self._settings[SUSPECT_REST] * 2.0 ** (history.misses - 1)
        history.rests_until = now + min(SUSPECT_MAX_S, rest_s)

    def rest(self, peer: PeerId, seconds: float, now: float) -> None:
        """The peer said itself that it has no room for a while."""
        history = self.seen(peer, now)
        history.full_until = max(history.full_until, now + min(seconds, SUSPECT_MAX_S))
        history.rests_until = max(history.rests_until, history.full_until)

    def wake(self) -> None:
        """Nobody rests any longer: what made them rest was before a halt, and most of them only
        said that they were halted, too."""
        for history in self._history.values():
            history.rests_until = history.full_until = 0.0

    def rests(self, peer: PeerId, now: float) -> bool:
        found = self._history.get(peer)
        return found is not None and found.rests_until > now

    def expected_s(self, candidate: Candidate, now: float) -> float:
        """Expected seconds until its answer, catching up included."""
        history = self.seen(candidate.peer, now)
        base = (
            history.mean_s
            if history.replies
            else history.ping_s + (1 + candidate.record.queue_depth) / _rate(candidate.record)
        )
        age = max(0.0, now - history.first_seen_at)
        young = YOUNG_PENALTY * max(0.0, 1 - age / YOUNG_S) if candidate.peer != self._own else 0.0
        return base * (1 + young) + self.catch_up_s(candidate, now)

    def catch_up_s(self, candidate: Candidate, now: float) -> float:
        """How long it will compute until only the last token is missing: as measured, else as its
        record lets one expect."""
        return _prefill_s(self.seen(candidate.peer, now), candidate.record, candidate.missing - 1)

    def patience_s(self, candidate: Candidate, now: float) -> float:
        """How long to wait for its answer before it counts as missing: mean plus four deviations,
        as TCP does."""
        history, settings = self.seen(candidate.peer, now), self._settings
        prefill = 2 * self.catch_up_s(candidate, now)
        if history.replies:
            usual_s = history.mean_s + 4 * history.deviation_s
            return min(settings[PATIENCE_MAX], usual_s + settings[PATIENCE_FLOOR] + prefill)
        expected_s = 2 * self.expected_s(candidate, now)
        return min(settings[PATIENCE_MAX], settings[PATIENCE_UNKNOWN] + expected_s + prefill)

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str = "") -> float:
        """How much the expert is believed in before it has seen the text: relative, > 0."""
        known = self.track_records.of(peer, record.model_digest)
        merit = known.hidden * known.merit + MERIT_DOUBT * self.track_records.typical
        merit /= MERIT_DOUBT + known.hidden
        merit = -MERIT_MAX_NATS if known.is_refuted else merit
        merit = max(-MERIT_MAX_NATS, min(MERIT_MAX_NATS, merit))
        size = math.pow((1 + record.n_params) / SIZE_TYPICAL, SIZE_POWER)
        size = max(1 / SIZE_GAIN_MAX, min(SIZE_GAIN_MAX, size))
        # What size is good for, merit tells.
        believed = math.pow(size, 1 / (1 + known.results))
        return (
            believed
            * (DOMAIN_GAIN if domain and domain in record.domains else 1.0)
            * math.exp(merit)
        )

    def weighed(self, peer: PeerId, share: float, now: float) -> None:
        """The share that the expert was given when it was weighed on a text from outside."""
        self.seen(peer, now).weighed(share)

    def pick(self, count: int, candidates: Sequence[Candidate], now: float) -> list[PeerId]:
        """Up to `count` distinct peers that do not rest, best first."""
        cost = {c.peer: self.expected_s(c, now) for c in candidates}
        replicas: dict[bytes, list[Candidate]] = {}
        for candidate in sorted(candidates, key=lambda c: c.peer):
            if not self.rests(candidate.peer, now):
                replicas.setdefault(candidate.record.model_digest, []).append(candidate)
        replicas = {
            model: _credible(group, self.track_records) for model, group in replicas.items()
        }
        fronts = {model: self._front(group, cost) for model, group in replicas.items()}
        scores = {model: self._score(front, cost) for model, front in fronts.items()}
        replica_nats = self._settings[REPLICA_COST]
        taken: Counter[bytes] = Counter()
        picked: list[PeerId] = []
        while fronts and len(picked) < count:
            model = max(fronts, key=lambda m: (scores[m] - replica_nats * taken[m], m))
            front = fronts.pop(model)
            picked.append(front.peer)
            taken[model] += 1
            replicas[model].remove(front)
            if replicas[model]:
                fronts[model] = self._front(replicas[model], cost)
                scores[model] = self._score(fronts[model], cost)
        return picked

    def suspect(self, candidates: Sequence[Candidate], now: float) -> list[PeerId]:
        """Where all rest: the one that was suspected longest ago, for suspicion is ours and may be
        over. Whoever said itself that it has no room is left alone until it has."""
        able = [c.peer for c in candidates if self.seen(c.peer, now).full_until <= now]
        return sorted(able, key=lambda p: (self.seen(p, now).rests_until, p))[:1]

    def _front(self, group: Sequence[Candidate], cost: Mapping[PeerId, float]) -> Candidate:
        """Whom to ask next of these replicas: our own, else a member (it holds the context) unless
        a stranger is much faster."""
        members = [c for c in group if c.member]
        strangers = [c for c in group if not c.member]
        for candidate in group:
            if candidate.peer == self._own:
                return candidate
        best = min(members, key=lambda c: (cost[c.peer], c.peer), default=None)
        if not strangers:
            assert best is not None
            return best
        pair = strangers if len(strangers) <= 2 else self._rng.sample(strangers, 2)
        challenger = min(pair, key=lambda c: (cost[c.peer], c.peer))
        return (
            challenger
            if best is None
            or cost[challenger.peer] * self._settings[SWITCH_RATIO] < cost[best.peer]
            else best
        )

    def _score(self, candidate: Candidate, cost: Mapping[PeerId, float]) -> float:
        settings = self._settings
        known = (
            settings[SWITCH_ADVANTAGE] if candidate.member else settings[BLUR] * self._rng.random()
        )
        return candidate.fit + known - self.wait_nats(cost[candidate.peer])

    def wait_nats(self, seconds: float) -> float:
        """What waiting so long for each token costs, as a logarithm of shares: so much a second,
        and of those that are slower than people read, one that takes twice as long must be worth
        twice the share. In seconds alone one at half the pace of the others is hardly worse than
        they are, and it makes every token late."""
        slower = math.log1p(seconds / READING_S)
        return self._settings[WAIT_COST] * seconds + slower

    def histories(self) -> Mapping[PeerId, History]:
        return self._history


def claimed_step_s(record: CapacityRecord) -> float:
    """How long one more token takes an expert, as its record has it."""
    return 1 / _rate(record)


def _rate(record: CapacityRecord) -> float:
    """Tokens per second."""
    return record.rate / 16 if record.rate else RATE_UNKNOWN


def _prefill_s(history: History, record: CapacityRecord | None, tokens: int) -> float:
    """How long it takes in so many tokens."""
    if history.prefill_s > 0:
        return max(0, tokens) * history.prefill_s
    rate = _rate(record) if record is not None else RATE_UNKNOWN
    return max(0, tokens) / (rate * PREFILL_SPEEDUP)


def format_trust(record: CapacityRecord, chat_digest: bytes) -> float:
    """What an expert is believed for a conversation in this chat format (empty: plain text), as a
    factor; one that says nothing of its format loses nothing."""
    theirs = chat_digest_in(record.ext)
    return OTHER_FORMAT if chat_digest and any(theirs) and theirs != chat_digest else 1.0


def _credible(group: list[Candidate], records: TrackRecords) -> list[Candidate]:
    """The replicas that are not known to be something else than the model that they claim, if there
    are any: who takes an honest name must not be asked in place of those who have it by right."""
    known = [records.of(c.peer, c.record.model_digest) for c in group]
    best = max((record.merit for record in known if not record.is_refuted), default=0.0)
    credible = [
        candidate
        for candidate, record in zip(group, known, strict=True)
        if not seems_false(record, best)
    ]
    return credible or group


def seems_false(record: TrackRecord, best: float) -> bool:
    """Whether this is hardly the same model as a replica with this merit. An audit tells for
    certain."""
    is_worse = record.results >= FALSE_MIN and record.merit < best - FALSE_NATS
    return record.is_refuted or (is_worse and not record.audits)
