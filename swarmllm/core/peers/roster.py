"""The roster lists the experts that this node knows, its own included, and which of them it may ask
now.

It brings together what the capacity table heard, whom peering is connected to, what the router
measured and whether the kill switch lets us talk to a peer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from swarmllm.core.capacity.table import CapacityTable
from swarmllm.core.facts import ExpertHeard, Fact, OwnExpertChanged
from swarmllm.core.halt.clearance import Clearance
from swarmllm.core.inputs import AddressesChanged, Input, VocabularyLearned
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.dialling import Dialling
from swarmllm.core.peers.relayed import halves, told_the_dht, whole
from swarmllm.core.peers.router import Candidate, Router
from swarmllm.core.peers.view import ExpertView
from swarmllm.core.serving.admission import Serving
from swarmllm.core.trust.standing import Standing, Word
from swarmllm.core.values import EngineLoad, ModelCard
from swarmllm.messages import (
    CapacityRecord,
    ExpertRecord,
    PeerId,
)
from swarmllm.wire.ext import (
    ANSWERS_ALLOWED,
    ANSWERS_DRAFTS,
    CHAT_DIGEST,
    SIGNS_SESSIONS,
    addition,
)
from swarmllm.wire.names import clip_name

UNNAMED = "unnamed"
NAME_MAX = 32


TrustIn = Callable[[PeerId, bytes, float], float]
"""What the word of an expert with this model counts now, as a factor; 0: it is excluded."""

_Said = tuple[ModelCard, EngineLoad, tuple[str, ...], bytes, bool]


class Roster(Part):
    inputs = (AddressesChanged, VocabularyLearned)

    def __init__(
        self,
        own: PeerId,
        boot: int,
        vocab_fingerprint: bytes,
        parts: tuple[CapacityTable, Router, Dialling, Serving],
        clearance: Clearance,
    ) -> None:
        self.own = own
        self.boot = boot
        self.seq = 0
        self.addrs: tuple[str, ...] = ()
        # The record of our own expert, and what it was made of.
        self._own: tuple[_Said, CapacityRecord] | None = None
        # Empty until a node without a model has learned it.
        self.fingerprint = vocab_fingerprint
        self._table, self._router, self._peering, self._serving = parts
        self._clearance = clearance
        self.is_cleared = clearance.is_cleared
        self.trust: TrustIn = _whole
        self.standing: Callable[[PeerId, bytes, float], Standing] | None = None
        # Whether our own expert signs its sessions when it is asked to.
        self.signs = False

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case AddressesChanged(addrs=addrs):
                self.addrs = addrs
                return [OwnExpertChanged("addresses")]
            case VocabularyLearned(fingerprint=fingerprint):
                self.fingerprint = fingerprint
                return [ExpertHeard(peer, whole(record)) for peer, record in self.experts(now)]
            case _:
                return ()

    # --- who is there -----------------------------------------------------------------------------

    def is_usable(self, record: CapacityRecord | None) -> bool:
        """Whether it offers an expert that can be mixed with ours; with no place for any session it
        offers none."""
        return (
            record is not None
            and record.sessions_max > 0
            and record.vocab_fingerprint == self.fingerprint
        )

    def can_ask(self, peer: PeerId, now: float) -> bool:
        """Whether a question would reach it, and be allowed to."""
        return (peer == self.own or peer in self._peering.connected) and self.is_cleared(peer, now)

    def record_of(self, peer: PeerId) -> CapacityRecord | None:
        return self.own_record() if peer == self.own else self._table.get(peer)

    def record_heard(self, peer: PeerId) -> CapacityRecord | None:
        """What another peer said of itself."""
        return self._table.get(peer)

    def experts(self, now: float) -> list[tuple[PeerId, CapacityRecord]]:
        """All with our vocabulary, by peer id."""
        own = self.own_record()
        others = [(p, r) for p, r in self._table.alive(now) if self.is_usable(r)]
        return sorted(others if own is None else [(self.own, own), *others], key=lambda e: e[0])

    def knows(self, count: int, now: float) -> bool:
        """Whether there are so many with our vocabulary, our own included."""
        found = self._table.usable(self.fingerprint, count, now)
        return found + (self._serving.card is not None) >= count

    def view(self, now: float) -> tuple[ExpertView, ...]:
        return tuple(self._view_of(peer, record, now) for peer, record in self.experts(now))

    def _view_of(self, peer: PeerId, record: CapacityRecord, now: float) -> ExpertView:
        history = self._router.seen(peer, now)
        return ExpertView(
            peer=peer,
            record=record,
            connected=peer == self.own or peer in self._peering.connected,
            local=peer == self.own,
            resting=self._router.rests(peer, now),
            replies=history.replies,
            rtt_s=history.mean_s,
            prompts=history.prompts,
            merit=self._router.track_records.of(peer, record.model_digest).merit,
            share=history.share,
            ping_s=history.ping_s,
            standing=self._standing_of(peer, record, now),
            score_s=self._router.expected_s(Candidate(peer, record, 1, member=False), now),
        )

    def _standing_of(self, peer: PeerId, record: CapacityRecord, now: float) -> Standing | None:
        if peer == self.own:
            return Standing(Word.OWN, "this node's own expert")
        if self.standing is None:
            return None
        return self.standing(peer, record.model_digest, now)

    # --- what we say of ourselves -----------------------------------------------------------------

    def own_record(self) -> CapacityRecord | None:
        """The capacity record of our own expert; None while there is none. With no place for any
        session while this node is stopped."""
        card, load = self._serving.card, self._serving.offer
        if card is None or load is None:
            return None
        clearance = self._clearance
        said = (card, load, self.addrs, clearance.digest, clearance.serves)
        if self._own is None or self._own[0] != said:
            self._own = said, self._record(card, load)
        elif self._own[1].seq != self.seq:
            self._own = said, replace(self._own[1], seq=self.seq)
        return self._own[1]

    def next_record(self) -> CapacityRecord | None:
        """What we say of ourselves from now on, with the next seq: after an expert has gone, that
        there is none."""
        self.seq += 1
        record = self.own_record()
        if record is not None or self._own is None:
            return record
        return replace(
            self._own[1],
            seq=self.seq,
            queue_depth=0,
            sessions_free=0,
            sessions_max=0,
            ctl_digest=self.digest,
        )

    def _record(self, card: ModelCard, load: EngineLoad) -> CapacityRecord:
        addrs, through = halves(self.own, self.addrs)
        return CapacityRecord(
            boot=self.boot,
            seq=self.seq,
            model=clip_name(card.name, NAME_MAX) or UNNAMED,
            model_digest=card.digest,
            vocab_fingerprint=card.vocab_fingerprint,
            n_params=card.n_params,
            context_max=card.context_max,
            rate=max(0, min(2**32 - 1, round(load.tokens_per_s * 16))),
            queue_depth=min(65_535, load.queue_depth),
            sessions_free=min(65_535, load.sessions_free) if self._clearance.serves else 0,
            sessions_max=min(65_535, load.sessions_max) if self._clearance.serves else 0,
            domains=tuple(d for d in (clip_name(domain, 16) for domain in card.domains[:4]) if d),
            addrs=addrs,
            ctl_digest=self.digest,
            ext=_additions(card, signs=self.signs) + through,
        )

    def dht_record(self) -> ExpertRecord | None:
        """What the DHT may be told; None while there is no expert, or this node is stopped."""
        card = self._serving.card
        if card is None or not self._clearance.serves or not self._serving.lends:
            return None
        addrs = told_the_dht(self.own, self.addrs)
        name = clip_name(card.name, NAME_MAX) or UNNAMED
        return ExpertRecord(
            self.boot, name, card.digest, card.vocab_fingerprint, card.n_params, addrs
        )

    @property
    def digest(self) -> bytes:
        """What our halt records add up to."""
        return self._clearance.digest

    # --- whom an answer may ask (see `core.peers.pool`) ------------------------------------------

    def askable(self, now: float) -> list[tuple[PeerId, CapacityRecord]]:
        """All that a question would reach and be allowed to, by peer id; without our own expert
        while it must not make tokens alone."""
        without = self.own if self._clearance.is_isolated(now) else None
        return [
            (peer, record)
            for peer, record in self.experts(now)
            if peer != without
            and self.can_ask(peer, now)
            and self.trust(peer, record.model_digest, now) > 0
        ]

    def shortage(self, tokens: int, now: float) -> str:
        """Why hardly anybody can be asked about a text of so many tokens: half a sentence for a
        person."""
        known = self.experts(now)
        if not known:
            down = self._own is not None and self._serving.card is None
            if down:
                return "this node's own engine is down and no other expert is known"
            others = strangers(self._table, self.fingerprint, now)
            return f"no expert for this vocabulary is known{others}"
        near = [(p, r) for p, r in known if p == self.own or p in self._peering.connected]
        if not near:
            return f"none of the {len(known)} experts that are known is connected"
        longest = max(record.context_max for _, record in near)
        if longest < tokens:
            return (
                f"the text has {tokens} tokens, and the longest context of an expert is {longest}"
            )
        if not any(self.is_cleared(peer, now) for peer, _ in near):
            return f"the kill switch has not let any of {len(near)} experts yet"
        return "every expert has no room or did not answer lately"


def strangers(table: CapacityTable, fingerprint: bytes, now: float) -> str:
    """Which experts are known and cannot be mixed with this vocabulary, in half a sentence."""
    others = [
        record
        for _, record in table.alive(now)
        if record.sessions_max > 0 and record.vocab_fingerprint != fingerprint
    ]
    if not others:
        return ""
    theirs = sorted({record.vocab_fingerprint.hex()[:12] for record in others})
    return (
        f"; {len(others)} of other vocabularies are ({others[0].model}: {', '.join(theirs[:3])}), "
        f"and this node's is {fingerprint.hex()[:12]}: only models of one vocabulary can be mixed"
    )


def _additions(card: ModelCard, *, signs: bool) -> bytes:
    """What the record says in its `ext`."""
    said = addition(CHAT_DIGEST, card.chat_digest) if any(card.chat_digest) else b""
    said += addition(ANSWERS_ALLOWED, b"") + addition(ANSWERS_DRAFTS, b"")
    return said + addition(SIGNS_SESSIONS, b"") if signs else said


def _whole(_peer: PeerId, _digest: bytes, _now: float) -> float:
    """Of a node that keeps no reputation."""
    return 1.0
