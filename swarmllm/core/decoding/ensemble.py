"""The experts of one answer: which of N are probed with its prompt, which K are kept, and how much
each of them counts.

Probe, score, keep: the first round goes to more models than the answer will need. Each gives its
distribution and says what it thought of the prompt; the models that knew it best are asked from
then on, and the others are let go. Replicas that say the same of the prompt are one voice and share
its weight (`core.decoding.voices`); evidence is each peer's own, and nobody's word stands for
another who says otherwise.

What an expert says of a prompt that it sees can be made up. So its word counts only once it has
predicted enough tokens that it could not see (`core.trust.evidence`), and by as much less as it was
found to boast; until then its model is capped (`core.trust.caps`). What hidden tokens show is
remembered for the next answer.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarmllm.core.decoding.cascade import Cascade
from swarmllm.core.decoding.gate import Gate
from swarmllm.core.decoding.pooling import Holder
from swarmllm.core.decoding.voices import contradicted, unconfirmed, voices
from swarmllm.core.events import Weighed
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import Candidate, format_trust
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import (
    EXPLORATION,
    FIRST_THRESHOLD,
    NEW_SHARE,
    PROBES,
    QUORUM_SHARE,
)
from swarmllm.core.trust.acquaintance import Acquaintance
from swarmllm.core.trust.caps import capped, crowded, in_turn
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, PeerId
from swarmllm.wire.target_logprob import decode_target

# Outside tokens (the last ones) that weigh the experts: each costs an expert a full row of logits.
EVIDENCE_MAX = 64
PROBE_PROMPT_MAX = 4096  # Tokens; beyond this a prefill is worth more than what it would tell.
# What a model that was never probed is expected to be worth once others were, and an unknown holder
# that contradicts a known one.
UNKNOWN_SHARE = 0.01
SETS_MAX = 64  # Sets of models whose shares are remembered.
# Newcomers of one address block (IPv4 /24, IPv6 /64) in an answer, or as many as make a token;
# twice as many of the next larger one (/16, /48).
BLOCK_MAX = 4
# Known to one answer; its candidates are bounded by connections, but these come and go.
PEERS_MAX = 1024


Voice = PeerId
"""The peer that leads it."""
Model = bytes
"""The digest of a model: what all its replicas have in common."""


class Ensemble:
    """Of one answer. `rng` decides only what is explored, so that it changes nothing else about the
    answer."""

    def __init__(self, order: GenerateRequest, rng: random.Random, settings: Settings) -> None:
        self._k = order.k
        self._extra = order.extra
        self._domain, self._chat_digest = order.domain, order.chat_digest
        self._short = len(order.prompt) <= PROBE_PROMPT_MAX
        self._rng = rng
        self._settings = settings
        self.trust = Acquaintance(order, rng, settings)
        self._turn = b""  # Drawn when there is somebody to take turns.
        self._records: dict[PeerId, CapacityRecord] = {}
        self._priors: dict[PeerId, float] = {}
        self._own: PeerId | None = None
        # Of everybody in `_records`; empty: to be found anew.
        self._voices: dict[PeerId, Voice] = {}
        self._shares: dict[frozenset[Voice], dict[Voice, float]] = {}
        self._shared_by = settings.version  # What the shares were made with.
        self.gate = Gate(evidence_turns(order), settings)
        self.cascade = Cascade(order.quality, settings[FIRST_THRESHOLD])

    # --- choosing ---------------------------------------------------------------------------------

    def fitted(self, pool: ExpertPool, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with what is expected of their models. Who comes when `PEERS_MAX` are
        known has no part in this answer, nor has one of a crowd of newcomers at one address block,
        until some of them are known."""
        candidates = [c for c in candidates if self._meet(pool, c.peer, c.record)]
        newcomers = [c.peer for c in candidates if self.trust.is_new(c.peer)]
        most = max(BLOCK_MAX, self._k)
        relayed = pool.blocks(newcomers, relayed=True)
        if relayed and not self._turn:
            self._turn = self._rng.randbytes(8)
        places = [*pool.blocks(newcomers), *in_turn(relayed, self._turn)]
        left_out = crowded(places, most, 2 * most)
        candidates = [c for c in candidates if c.peer not in left_out]
        fits = {
            voice: math.log(share)
            for voice, share in self._expected({c.peer for c in candidates}).items()
        }
        return [
            Candidate(c.peer, c.record, c.missing, c.member, fits[self._voice(c.peer)])
            for c in candidates
        ]

    def probe(self, pool: ExpertPool, candidates: Sequence[Candidate]) -> list[PeerId]:
        """Whom to ask first; our own expert, whose word we need not take on trust, is among them
        wherever a prompt is weighed."""
        models = len({c.record.model_digest for c in candidates})
        probes = self._settings[PROBES] * self._k
        wide = min(models, probes) if self._short and self.gate.turns else 0
        picked = pool.pick(max(self._k + self._extra, wide), candidates)
        if wide:
            picked += pool.pick(
                1, [c for c in candidates if pool.is_local(c.peer) and c.peer not in picked]
            )
        known = {c.record.model_digest for c in candidates if c.peer in picked}
        others = sorted(c.peer for c in candidates if c.record.model_digest not in known)
        if others and self._short and self._rng.random() < self._settings[EXPLORATION]:
            picked.append(self._rng.choice(others))
        self.trust.hide(pool, picked, self.gate.positions)
        return picked

    def best(
        self, peers: Iterable[PeerId], count: int, pool: ExpertPool | None = None
    ) -> list[PeerId]:
        """The `count` whose lists make the best pool: other voices before replicas, the heavier
        and of replicas the known ones first. With `pool` they are those that the rest of the answer
        is asked of: one that is slow makes each token late."""
        found = set(peers)
        expected = self._expected(found)
        shares = {p: expected[self._voice(p)] for p in found}
        if pool is not None:
            for p in found:
                shares[p] *= math.exp(-pool.wait_nats(p, self._records[p]))
        ordered = sorted(found, key=lambda p: (-shares[p], self.trust.is_new(p), p))
        seen: Counter[Voice] = Counter()
        ranks: list[tuple[int, int, PeerId]] = []
        for peer in ordered:
            ranks.append((seen[self._voice(peer)], len(ranks), peer))
            seen[self._voice(peer)] += 1
        return [peer for _, _, peer in sorted(ranks)[:count]]

    def is_quorum(self, replied: Iterable[PeerId], waiting: Iterable[PeerId], count: int) -> bool:
        """Whether the best `count` voices that have answered weigh nearly as much as the best
        `count` would if all answered: a token is made of no more than that, and who was asked as
        insurance is not waited for. One that has not been weighed yet, but will be by its answer,
        counts as much as its prior."""
        voiced = frozenset(map(self._voice, replied))
        shares = self._among(voiced | frozenset(map(self._voice, waiting)))
        now = sorted((shares[v] for v in voiced), reverse=True)[:count]
        then = sorted(shares.values(), reverse=True)[:count]
        return sum(now) >= self._settings[QUORUM_SHARE] * sum(then) - 1e-9

    def evidence_awaited(
        self, replied: Iterable[PeerId], waiting: Iterable[PeerId]
    ) -> list[PeerId]:
        """Of those that are waited for before the first token, whoever may still change what is
        known of the prompt: how quick the others were says nothing about them. Only a replica has
        nothing to add, once two of its model agree (or our own has spoken)."""
        replied = set(replied)
        counts = Counter((self._model(p), self._voice(p)) for p in replied)
        settled = {
            model for (model, _), count in counts.items() if count > 1 or not self.gate.turns
        }
        settled |= {self._model(p) for p in replied if p == self._own}
        return [p for p in waiting if p == self._own or self._model(p) not in settled]

    # --- weighing ---------------------------------------------------------------------------------

    def told(self, peer: PeerId, positions: Sequence[int], raw: bytes) -> None:
        """Keep what the expert thought of the prompt at these positions, as it is on the wire.
        RemoteError: it told more or less."""
        if len(raw) != 2 * len(positions):
            raise RemoteError(
                f"expert {peer}: {len(raw)} bytes of target log-probabilities for {len(positions)}"
                " positions"
            )
        for i, position in enumerate(positions):
            self.learn(peer, position, decode_target(raw[2 * i : 2 * i + 2]))

    def learn(self, peer: PeerId, position: int, logprob: float) -> None:
        self._voices.clear()
        self._shares.clear()
        self.gate.learn(peer, position, logprob)

    def conclude(self, pool: ExpertPool) -> None:
        """All that the prompt can tell was told."""
        self.trust.conclude(pool, self.gate.merits(self.trust.tested()))
        for peer in sorted(self._records):
            self._believe(pool, peer)
        self._voices.clear()
        self._shares.clear()

    def contradicted(self) -> list[PeerId]:
        """Those who claim the model that our own expert runs, and say of the prompt what it does
        not."""
        if self._own is None or not self.gate.is_informed(self._own):
            return []
        model = self._model(self._own)
        return contradicted(
            [p for p in self._records if self._model(p) == model], self.gate, self._own
        )

    def weights(self, peers: Sequence[PeerId]) -> list[float]:
        """The mixture weights of these peers' lists, in their order, adding up to 1. A replica that
        is not known weighs nothing beside one that is: what it can say rightly is said already."""
        known = {self._voice(p) for p in peers if not self.trust.is_new(p)}
        heard = [p for p in peers if self._voice(p) not in known or not self.trust.is_new(p)]
        replicas = Counter(self._voice(p) for p in heard)
        shares = self._among(frozenset(replicas))
        return [shares[self._voice(p)] / replicas[self._voice(p)] * (p in heard) for p in peers]

    def holders(self, peers: Iterable[PeerId]) -> list[Holder]:
        """Which model each of them claims, which one is our own, of whom too little is known, or
        too much, and who was never tried in an answer."""
        trust, found = self.trust, []
        for p in peers:
            is_false = trust.is_false(p)
            is_new, is_untried = is_false or trust.is_new(p), not trust.is_tried(p)
            found.append(Holder(self._model(p), p == self._own, is_new, is_untried, is_false))
        return found

    def verdict(
        self, pool: ExpertPool, probed: Iterable[PeerId], kept: Sequence[PeerId]
    ) -> list[Weighed]:
        """What each of the probed experts was worth, best first; the router remembers it."""
        peers, nats = sorted(probed), self.gate.nats()
        found = []
        for peer, share in zip(peers, self.weights(peers), strict=True):
            if peer in nats:
                pool.weighed(peer, share)
            found.append(
                Weighed(
                    *(peer, self._records[peer].model, nats.get(peer), share, peer in kept),
                    self.trust.why(peer),
                )
            )
        return sorted(found, key=lambda w: (-w.share, not w.kept, w.peer))

    # --- inside -----------------------------------------------------------------------------------

    def _meet(self, pool: ExpertPool, peer: PeerId, record: CapacityRecord) -> bool:
        known = self._records.get(peer)
        if known is not None and known.model_digest == record.model_digest:
            return True
        if known is None and len(self._records) >= PEERS_MAX:
            return False
        self._records[peer] = record
        self._believe(pool, peer)
        if pool.is_local(peer):
            self._own = peer
        if known is not None:
            self.gate.forget(peer)  # What it said, it said of another model.
        self._voices.clear()
        self._shares.clear()
        return True

    def _believe(self, pool: ExpertPool, peer: PeerId) -> None:
        record = self._records[peer]
        self.trust.meet(pool, peer, record.model_digest)
        believed = pool.prior(peer, record, self._domain)
        self._priors[peer] = believed * format_trust(record, self._chat_digest)

    def _model(self, peer: PeerId) -> Model:
        return self._records[peer].model_digest

    def _voice(self, peer: PeerId) -> Voice:
        if not self._voices:
            holders: dict[Model, list[PeerId]] = {}
            for known, record in self._records.items():
                holders.setdefault(record.model_digest, []).append(known)
            for group in holders.values():
                self._voices |= voices(group, self.gate, self._own)
        return self._voices[peer]

    def _prior(self, voice: Voice) -> float:
        """That of its best member, so that nobody is believed less for whoever joins it; but our
        own expert's where it is one. A member of which nothing is known lends its name to nobody
        who has spoken, and is believed less for each that was found wanting: else who has many
        identities would always have a fresh one."""
        members = [p for p, v in self._voices.items() if v == voice]
        if self._own in members:
            return self._priors[self._own]
        tried = {p for p in members if self.trust.is_seen(p)}
        spoken = {p for p in members if self.gate.is_informed(p)}
        wanting = sum(self.trust.is_wanting(p) for p in tried)
        fresh = (1 + len(tried) - wanting) / (1 + len(tried))
        known = tried | spoken
        priors = [self._priors[p] for p in known]
        if not spoken:
            priors += [fresh * self._priors[p] for p in members if p not in known]
        return max(priors)

    def _among(self, found: frozenset[Voice]) -> dict[Voice, float]:
        """What these voices weigh: by their word, as far as it counts, and under the caps. A voice
        is known if one of its members is, and boasts no more than the most modest of these."""
        if self.trust.hears_of_audits() or self._shared_by != self._settings.version:
            self._shared_by = self._settings.version
            self._shares.clear()
        shares = self._shares.get(found)
        if shares is not None:
            return shares
        doubts: dict[Voice, float] = {}
        credible = self.trust.credible()
        heard: Counter[Voice] = Counter()
        for peer in sorted(self._voices):
            voice = self._voices[peer]
            if not self.trust.is_doubtful(peer):  # The word of others does not count.
                less = self.trust.doubt(peer)
                doubts[voice] = min(less, doubts.get(voice, less))
                if peer in credible:
                    heard[voice] += 1
        boasts = unconfirmed(heard, {v: self._model(v) for v in heard}, self.gate)
        doubts = {v: d + boasts.get(v, 0.0) for v, d in doubts.items() if v in found}
        new = {voice: self._model(voice) for voice in sorted(found) if voice not in doubts}
        # Who is not known and contradicts a known holder of its model has nothing but a name.
        taken = {self._model(voice) for voice in heard}
        priors = {
            v: self._prior(v) * (UNKNOWN_SHARE if v in new and new[v] in taken else 1.0)
            for v in sorted(found)
        }
        shares = self.gate.shares(priors, doubts)
        if new:
            shares = capped(shares, priors, new, self._settings[NEW_SHARE])
        if len(self._shares) >= SETS_MAX:
            self._shares.clear()
        self._shares[found] = shares
        return shares

    def _expected(self, peers: Iterable[PeerId]) -> Mapping[Voice, float]:
        """The share of each of these peers' voices: as weighed if it was probed, else by prior; all
        > 0."""
        found = frozenset(map(self._voice, peers))
        informed = frozenset(v for v in found if self.gate.is_informed(v))
        if not informed:
            return self._among(found) if found else {}
        return {**dict.fromkeys(found - informed, UNKNOWN_SHARE), **self._among(informed)}


def evidence_turns(order: GenerateRequest) -> list[range]:
    """The positions whose next tokens came from outside, the last EVIDENCE_MAX of them, by
    stretches."""
    spans = order.outside or ((0, len(order.prompt)),)
    turns: list[range] = []
    left = EVIDENCE_MAX
    for start, end in reversed(spans):
        turn = range(max(start - 1, 0), min(end, len(order.prompt)) - 1)
        turn = turn[max(0, len(turn) - left) :]
        left -= len(turn)
        if len(turn):
            turns.append(turn)
    return turns[::-1]
