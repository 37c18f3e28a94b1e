"""The experts of one answer: which of N are probed with its prompt, which K are kept, and how much each of them counts.

Probe, score, keep: the first round goes to more models than the answer will need. Each gives its distribution and says what it thought
of the prompt; the models that knew it best are asked from then on, and the others are let go. What they turned out to be worth is
remembered for the next answer. A replica speaks with its model's voice: it shares the model's weight and brings no evidence of its own.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarmllm.core.decoding.escalation import Escalation
from swarmllm.core.decoding.gate import Gate, Model
from swarmllm.core.decoding.round import Swarm
from swarmllm.core.events import Weighed
from swarmllm.core.peers.router import Candidate
from swarmllm.core.values import GenerateOrder
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, PeerId

EVIDENCE_MAX = 64  # Outside tokens (the last ones) that weigh the experts: each costs an expert a full row of logits.
EVIDENCE_MIN = 8  # With fewer, what was found says more about these words than about the expert, and is not remembered.
PROBES_PER_K = 2  # Models in the first round; each costs it a prefill of the prompt.
PROBE_PROMPT_MAX = 4096  # Tokens; beyond this a prefill is worth more than what it would tell.
EXPLORE = 0.1  # How often one more is probed, drawn from all the rest, so that no early verdict stands for ever.
UNKNOWN_SHARE = 0.01  # What a model that was never probed is expected to be worth once others were.
QUORUM_SHARE = 0.9  # Of the weight that a token could have: it waits no longer for the rest.
SETS_MAX = 64  # Sets of models whose shares are remembered.
PEERS_MAX = 1024  # Remembered; candidates of one answer are bounded by connections, but these come and go.


class Panel:
    """Of one answer. `rng` decides only what is explored, so that it changes nothing else about the answer."""

    def __init__(self, order: GenerateOrder, rng: random.Random) -> None:
        self._k = order.k
        self._extra = order.extra
        self._domain = order.domain
        self._short = len(order.prompt) <= PROBE_PROMPT_MAX
        self._rng = rng
        self._records: dict[PeerId, CapacityRecord] = {}
        self._priors: dict[PeerId, float] = {}
        self._shares: dict[frozenset[Model], dict[Model, float]] = {}
        self.gate = Gate(evidence_turns(order))
        self.escalation = Escalation(order.quality)

    # --- choosing ------------------------------------------------------------------------------------------------------------

    def fitted(self, swarm: Swarm, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with what is expected of their models."""
        for c in candidates:
            self._meet(swarm, c.peer, c.record)
        fits = {model: math.log(share) for model, share in self._expected({c.peer for c in candidates}).items()}
        return [Candidate(c.peer, c.record, c.missing, c.member, fits[c.record.model_digest]) for c in candidates]

    def probe(self, swarm: Swarm, candidates: Sequence[Candidate], now: float) -> list[PeerId]:
        """Whom to ask first."""
        models = len({c.record.model_digest for c in candidates})
        wide = min(models, PROBES_PER_K * self._k) if self._short and self.gate.turns else 0
        picked = swarm.pick(max(self._k + self._extra, wide), candidates, now)
        known = {c.record.model_digest for c in candidates if c.peer in picked}
        others = sorted(c.peer for c in candidates if c.record.model_digest not in known)
        if others and self._short and self._rng.random() < EXPLORE:
            picked.append(self._rng.choice(others))
        return picked

    def best(self, peers: Iterable[PeerId], count: int) -> list[PeerId]:
        """The `count` whose lists make the best pool: other models before replicas, the heavier first."""
        found = set(peers)
        shares = self._expected(found)
        ordered = sorted(found, key=lambda p: (-shares[self._model(p)], p))
        seen: Counter[Model] = Counter()
        ranks: list[tuple[int, int, PeerId]] = []
        for peer in ordered:
            ranks.append((seen[self._model(peer)], len(ranks), peer))
            seen[self._model(peer)] += 1
        return [peer for _, _, peer in sorted(ranks)[:count]]

    def is_quorum(self, replied: Iterable[PeerId], waiting: Iterable[PeerId], count: int) -> bool:
        """Whether the best `count` models that have answered weigh nearly as much as the best `count` would if all answered: a token is
        made of no more than that, and who was asked as insurance is not waited for. One that has not been weighed yet, but will be
        by its answer, counts as much as its prior."""
        voiced = frozenset(map(self._model, replied))
        shares = self._among(voiced | frozenset(map(self._model, waiting)))
        now = sorted((shares[m] for m in voiced), reverse=True)[:count]
        then = sorted(shares.values(), reverse=True)[:count]
        return sum(now) >= QUORUM_SHARE * sum(then) - 1e-9

    # --- weighing ------------------------------------------------------------------------------------------------------------

    def told(self, peer: PeerId, positions: Sequence[int], raw: bytes) -> None:
        """Keep what the expert thought of the prompt at these positions, as it is on the wire. RemoteError: it told more or less."""
        if len(raw) != 2 * len(positions):
            raise RemoteError(f"expert {peer}: {len(raw)} bytes of target log-probabilities for {len(positions)} positions")
        for i, position in enumerate(positions):
            self.learn(peer, position, -int.from_bytes(raw[2 * i : 2 * i + 2], "big") / 1024)

    def learn(self, peer: PeerId, position: int, logprob: float) -> None:
        self._shares.clear()
        self.gate.learn(self._model(peer), position, logprob)

    def weights(self, peers: Sequence[PeerId]) -> list[float]:
        """The mixture weights of these peers' lists, in their order, adding up to 1."""
        replicas = Counter(self._model(p) for p in peers)
        shares = self._among(frozenset(replicas))
        return [shares[self._model(p)] / replicas[self._model(p)] for p in peers]

    def verdict(self, swarm: Swarm, probed: Iterable[PeerId], kept: Sequence[PeerId], now: float) -> list[Weighed]:
        """What each of the probed experts was worth, best first; the router remembers it."""
        peers = sorted(probed)
        merits, nats = self.gate.merits(), self.gate.nats()
        found = []
        for peer, share in zip(peers, self.weights(peers), strict=True):
            model = self._model(peer)
            if model in merits and len(merits) > 1 and len(self.gate.positions) >= EVIDENCE_MIN:
                swarm.weighed(peer, merits[model], share, now)
            found.append(Weighed(peer, self._records[peer].model, nats.get(model), share, peer in kept))
        return sorted(found, key=lambda w: (-w.share, not w.kept, w.peer))

    # --- inside --------------------------------------------------------------------------------------------------------------

    def _meet(self, swarm: Swarm, peer: PeerId, record: CapacityRecord) -> None:
        known = self._records.get(peer)
        if known is not None and known.model_digest == record.model_digest:
            return
        if len(self._records) >= PEERS_MAX:
            gone = next(iter(self._records))
            del self._records[gone], self._priors[gone]
        self._records[peer] = record
        self._priors[peer] = swarm.prior(peer, record, self._domain)
        self._shares.clear()

    def _model(self, peer: PeerId) -> Model:
        return self._records[peer].model_digest

    def _prior(self, model: Model) -> float:
        """That of its best replica."""
        return max(self._priors[p] for p, r in self._records.items() if r.model_digest == model)

    def _among(self, models: frozenset[Model]) -> dict[Model, float]:
        found = self._shares.get(models)
        if found is None:
            if len(self._shares) >= SETS_MAX:
                self._shares.clear()
            found = self._shares[models] = self.gate.shares({m: self._prior(m) for m in models})
        return found

    def _expected(self, peers: Iterable[PeerId]) -> Mapping[Model, float]:
        """The share of each of these peers' models: as weighed if it was probed, else by prior; all > 0."""
        models = frozenset(map(self._model, peers))
        informed = frozenset(m for m in models if self.gate.is_informed(m))
        if not informed:
            return self._among(models) if models else {}
        return {**dict.fromkeys(models - informed, UNKNOWN_SHARE), **self._among(informed)}


def evidence_turns(order: GenerateOrder) -> list[range]:
    """The positions whose next tokens came from outside, the last EVIDENCE_MAX of them, by stretches."""
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
