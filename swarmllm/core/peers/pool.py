"""The expert pool is what one input finds of the experts: who can be asked at this moment, what
waiting for each would cost, and where what an answer learns of them is kept.

It is made for one input and carries its time; an answer that keeps one for the next input would
act on what is no longer so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from swarmllm.core.peers.eviction import Block
from swarmllm.core.peers.roster import Roster
from swarmllm.core.peers.router import Candidate, Router
from swarmllm.core.peers.subset_routers import SubsetRouters
from swarmllm.core.trust.evidence import Allowance
from swarmllm.core.trust.track_record import TrackRecords
from swarmllm.core.values import ALL, Only
from swarmllm.messages import CapacityRecord, PeerId

# Of one that was excluded while it had a part in an answer.
TRUST_MIN: Final = 1e-6


@dataclass(frozen=True, slots=True)
class ExpertPool:
    """`now` is the time of the input, in seconds on the clock of whoever asks."""

    roster: Roster
    router: Router
    now: float
    subsets: SubsetRouters | None = None

    def seen_by(self, only: Only) -> ExpertPool:
        """For an answer that asks these alone: a subset has a router of its own."""
        if only.among is None or self.subsets is None:
            return self
        return replace(self, router=self.subsets.of(only.among))

    # --- who is there --------------------------------------------------------------------------

    @property
    def digest(self) -> bytes:
        """What our halt records add up to; it goes into every request."""
        return self.roster.digest

    def is_local(self, peer: PeerId) -> bool:
        return peer == self.roster.own

    def candidates(
        self, missing: Mapping[PeerId, int], tokens: int, only: Only = ALL
    ) -> list[Candidate]:
        """Experts that can be asked about a text of so many tokens; `missing[peer]` is known for
        members, all others lack all of it."""
        return [
            Candidate(peer, record, missing.get(peer, tokens), peer in missing)
            for peer, record in self.roster.askable(self.now)
            if record.context_max >= tokens and self._is_of(only, peer, record)
        ]

    def hopes(self, tokens: int, only: Only = ALL) -> bool:
        """Whether an expert is known that could take so many tokens, but cannot be asked now: not
        connected, or not let yet."""
        return any(
            record.context_max >= tokens
            and self._is_of(only, peer, record)
            and not self.roster.can_ask(peer, self.now)
            for peer, record in self.roster.experts(self.now)
        )

    def _is_of(self, only: Only, peer: PeerId, record: CapacityRecord) -> bool:
        return (
            only.digest in {b"", record.model_digest}
            and (not only.own or self.is_local(peer))
            and (only.among is None or peer in only.among)
        )

    def shortage(self, tokens: int) -> str:
        """Why hardly anybody can be asked about a text of so many tokens: half a sentence for a
        person."""
        return self.roster.shortage(tokens, self.now)

    # --- whom to ask, and how long to wait -----------------------------------------------------

    def pick(self, count: int, candidates: Sequence[Candidate]) -> list[PeerId]:
        """Up to `count` that do not rest, best first."""
        return self.router.pick(count, candidates, self.now)

    def suspect(self, candidates: Sequence[Candidate]) -> list[PeerId]:
        """At most one expert of those that rest: worth a try where nobody else is left."""
        return self.router.suspect(candidates, self.now)

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str) -> float:
        """How much an expert is believed in before it has seen the text: relative, > 0."""
        trust = self.roster.trust(peer, record.model_digest, self.now)
        return self.router.prior(peer, record, domain) * max(TRUST_MIN, trust)

    def patience_s(self, candidate: Candidate) -> float:
        """How long to wait for its answer before it counts as missing."""
        return self.router.patience_s(candidate, self.now)

    def wait_nats(self, peer: PeerId, record: CapacityRecord) -> float:
        """What waiting for a round of it costs, as a logarithm of shares."""
        candidate = Candidate(peer, record, 1, member=True)
        return self.router.wait_nats(self.router.expected_s(candidate, self.now))

    def catch_up_s(self, candidate: Candidate) -> float:
        """How long it will compute before it can answer for the last token alone."""
        return self.router.catch_up_s(candidate, self.now)

    # --- what an answer has learned ------------------------------------------------------------

    def weighed(self, peer: PeerId, share: float) -> None:
        self.router.weighed(peer, share, self.now)

    @property
    def track_records(self) -> TrackRecords:
        """What was seen of each peer with each model."""
        return self.router.track_records

    def blocks(
        self, peers: Iterable[PeerId], *, relayed: bool = False
    ) -> list[tuple[PeerId, Block]]:
        """The address blocks of those of these peers that were met directly, or of the relays of
        the others, as far as they are known; who was seen first stands first."""
        found = [(self.router.seen(peer, self.now), peer) for peer in sorted(peers)]
        found.sort(key=lambda one: one[0].first_seen_at)
        return [
            (peer, history.block)
            for history, peer in found
            if history.block is not None and history.is_relayed is relayed
        ]

    @property
    def allowance(self) -> Allowance:
        """The rounds that may be spent on hidden tokens."""
        return self.router.allowance

    def replied(self, peer: PeerId, seconds: float, tokens: int) -> None:
        record = self.roster.record_heard(peer)
        self.router.replied(peer, seconds, tokens, record, self.now)

    def missed(self, peer: PeerId) -> None:
        self.router.missed(peer, self.now)

    def rest(self, peer: PeerId, seconds: float) -> None:
        self.router.rest(peer, seconds, self.now)
