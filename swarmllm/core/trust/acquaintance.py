"""Who is known in one answer: what was seen of its experts before, and what hidden tokens of its
prompt add to that."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import seems_false
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import HIDDEN_SHARE, RESULTS
from swarmllm.core.trust.evidence import HiddenTokens, cuts_of, doubt, is_credible, merits_of
from swarmllm.core.trust.track_record import NOTHING, TrackRecord, TrackRecords
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import PeerId

# Per token, beyond what chance explains: who claims so much too much is taken for a liar.
BOAST_NATS = 1.0


class Acquaintance:
    """Of one answer. `rng` draws the cuts by lot."""

    def __init__(self, order: GenerateRequest, rng: random.Random, settings: Settings) -> None:
        self._prompt, self._vocab_size = order.prompt, order.vocab_size
        self._rng = rng
        self._settings = settings
        self._own: PeerId | None = None
        self._records = TrackRecords()
        self._refutations = 0
        self._models: dict[PeerId, bytes] = {}
        self._known: dict[PeerId, TrackRecord] = {}
        self.hidden = HiddenTokens(order.prompt, (), order.vocab_size)

    def meet(self, pool: ExpertPool, peer: PeerId, digest: bytes) -> None:
        """A peer that may take part, with the model that it claims; as many as the ensemble has."""
        self._models[peer] = digest
        self._known[peer] = pool.track_records.of(peer, digest)
        self._records = pool.track_records
        if pool.is_local(peer):
            self._own = peer

    def is_new(self, peer: PeerId) -> bool:
        """Whether there is too little that it could not make up. Our own expert is known."""
        results = self._known.get(peer, NOTHING).results
        return peer != self._own and results < self._settings[RESULTS]

    def is_seen(self, peer: PeerId) -> bool:
        """Whether anything is known of it that it could not make up."""
        known = self._known.get(peer, NOTHING)
        return known.is_refuted or known.results > 0

    def is_wanting(self, peer: PeerId) -> bool:
        """Whether what is known of it is hardly a language model's."""
        return self._known.get(peer, NOTHING).is_wanting

    def doubt(self, peer: PeerId) -> float:
        """By how many nats per token its word for given tokens is taken to be too good."""
        return 0.0 if peer == self._own else doubt(self._known[peer])

    def is_doubtful(self, peer: PeerId) -> bool:
        """Whether it is new, or was found to be something else than it says: alone it chooses
        nothing."""
        return self.is_new(peer) or self.is_false(peer)

    def is_false(self, peer: PeerId) -> bool:
        """Whether it was found to be something else than it says."""
        if peer == self._own:
            return False
        return self._known.get(peer, NOTHING).is_refuted or self.doubt(peer) > BOAST_NATS

    def is_tried(self, peer: PeerId) -> bool:
        """Whether something that it said in an answer was looked at; of our own expert, where there
        are no audits, and where no results are asked of anybody, nothing has to be."""
        is_audited = self._records.has_audits and peer != self._own and self._settings[RESULTS] > 0
        return not is_audited or self._known.get(peer, NOTHING).is_confirmed

    def hears_of_audits(self) -> bool:
        """Whether audits have refuted anybody of this answer since this was asked last: for the
        rest of it such a one has no word."""
        if self._records.refutations == self._refutations:
            return False
        self._refutations = self._records.refutations
        now = {peer: self._records.of(peer, model) for peer, model in self._models.items()}
        found = {
            peer: record
            for peer, record in now.items()
            if record.is_refuted and not self._known[peer].is_refuted
        }
        self._known |= found
        return bool(found)

    def credible(self) -> set[PeerId]:
        """Who may speak for its model: it is known, what it says of given tokens is no better than
        its results, and these are no worse than those of others with its model."""
        known = [peer for peer in self._models if not self.is_new(peer)]
        best: dict[bytes, float] = {}
        for peer in known:
            model = self._models[peer]
            best[model] = max(best.get(model, -math.inf), self._known[peer].merit)
        return {
            peer
            for peer in known
            if peer == self._own
            or (
                is_credible(self._known[peer])
                and not seems_false(self._known[peer], best[self._models[peer]])
            )
        }

    def why(self, peer: PeerId) -> str:
        """What its weight is held down for: half a sentence for a person."""
        record, wanted = self._known.get(peer, NOTHING), self._settings[RESULTS]
        if peer == self._own:
            return ""
        if record.is_refuted:
            return "an audit found something else than its model"
        if self.is_new(peer):
            return f"new here: {record.results:.0f} of {wanted} results"
        less = self.doubt(peer)
        return f"claims {less:.1f} nats/token too much" if less else ""

    def hide(self, pool: ExpertPool, picked: Sequence[PeerId], positions: Sequence[int]) -> None:
        """Which tokens behind these positions the experts are not told before they have said what
        they expect there: as many as it takes to know the newest of them, or one now and then."""
        others = [peer for peer in picked if peer != self._own]
        if len({self._models[peer] for peer in picked}) < 2 or not self._settings[HIDDEN_SHARE]:
            return  # There is nobody to compare with, or nothing to spend.
        short = self._settings[RESULTS] - min(self._known[peer].results for peer in others)
        wanted, reserve = (math.ceil(short), 0) if short > 0 else (1, self._settings[RESULTS])
        count = pool.allowance.spend(min(wanted, len(positions)), reserve)
        cuts = cuts_of(positions, count, self._rng)
        self.hidden = HiddenTokens(self._prompt, cuts, self._vocab_size)

    def conclude(self, pool: ExpertPool, claimed: Mapping[PeerId, float]) -> None:
        """The whole prompt was told: remember what hidden tokens have shown. `claimed`: the merit
        of each by its own word."""
        for position in sorted(self.hidden.said):
            said = self.hidden.said[position]
            if len({self._models[peer] for peer in said}) < 2:
                continue
            for peer, merit in merits_of(said).items():
                if peer != self._own:
                    boast = claimed[peer] - merit if peer in claimed else None
                    # As it is now: an audit may have ended since this answer began.
                    record = pool.track_records.of(peer, self._models[peer])
                    self._keep(pool, peer, record.after_hidden(merit, boast))

    def tested(self) -> set[PeerId]:
        """Who has said what it expects behind any cut."""
        return {peer for said in self.hidden.said.values() for peer in said}

    def refuted(self, pool: ExpertPool, peer: PeerId) -> None:
        """Our own expert, which is the same model, shows that this one does not run it."""
        self._keep(pool, peer, self._known[peer].after_audit(is_passed=False))

    def _keep(self, pool: ExpertPool, peer: PeerId, record: TrackRecord) -> None:
        self._known[peer] = record
        pool.track_records.put(peer, self._models[peer], record)
