"""The node as one pure state machine: an input and the time go in, effects come out.

It composes the machines of this package (capacity table, router, peering, serving, one Generation per request); they return values and
never hold each other. The trio driver and the simulator both drive this class and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from swarmllm.core.answers import Answers
from swarmllm.core.capacity import CapacityTable
from swarmllm.core.events import (
    AddressesChanged,
    AddressesFound,
    Advertise,
    Asked,
    Cancelled,
    DialFailed,
    Effect,
    Emit,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    ExpertFound,
    ExpertLost,
    Heard,
    Input,
    LookUp,
    PeerConnected,
    PeerLost,
    PeerSeen,
    Penalise,
    PingMeasured,
    Publish,
    Received,
    Save,
    Scored,
    TimerFired,
)
from swarmllm.core.peering import Peering
from swarmllm.core.router import Candidate, Router
from swarmllm.core.serving import Serving
from swarmllm.core.view import ExpertView, NodeView
from swarmllm.errors import RemoteError
from swarmllm.messages import (
    NO_CONTROL,
    RECORD_ADDR_MAX,
    RECORD_ADDRS_MAX,
    Busy,
    CapacityRecord,
    Close,
    ExpertRecord,
    Need,
    Open,
    PeerId,
    Refused,
    Score,
    Scores,
)
from swarmllm.wire.codec import clip_text

SAVED_PEERS = "peers"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Intervals in seconds; every one is spread by +-20 % so that a swarm started at once does not beat in step."""

    vocab_fingerprint: bytes
    publish_every_s: float = 3.0
    publish_min_s: float = 1.0  # Between two records, however much changes.
    advertise_every_s: float = 600.0
    look_up_every_s: float = 30.0
    look_up_below: int = 16  # Experts known; with more there is nobody to look for.
    save_every_s: float = 30.0


class Node:
    """`boot` is the Unix time in milliseconds at start; `rng` decides every choice that is left to chance."""

    def __init__(self, config: NodeConfig, peer: PeerId, boot: int, rng: random.Random) -> None:
        self._config = config
        self._peer = peer
        self._boot = boot
        self._rng = rng
        self._seq = 0
        self._addrs: tuple[str, ...] = ()
        self._table = CapacityTable()
        self._router = Router(peer, rng)
        self._peering = Peering(peer, rng)
        self._serving = Serving()
        self._answers = Answers(peer, rng)
        self._published_at = float("-inf")
        self._publish_at = self._advertise_at = self._look_up_at = self._save_at = float("inf")
        self._saved = b""

    # --- the seam ------------------------------------------------------------------------------------------------------------

    def handle(self, event: Input, now: float) -> list[Effect]:
        """Everything that this input brings about, in order."""
        effects = self._dispatch(event, now)
        effects += self._peering.due(now)
        return effects

    def next_deadline(self) -> float:
        """When a `TimerFired` is wanted, on the clock of `now`; infinity if never."""
        own = (self._publish_at, self._advertise_at, self._look_up_at, self._save_at)
        return min(*own, self._table.next_deadline(), self._peering.next_deadline(), self._answers.next_deadline())

    def view(self, now: float) -> NodeView:
        """What `status` and `experts` show."""
        return NodeView(
            peer=self._peer,
            boot=self._boot,
            card=self._serving.card,
            load=self._serving.load,
            addrs=self._addrs,
            peers=tuple(sorted(self._peering.connected)),
            experts=tuple(self._expert_view(p, r, now) for p, r in self._experts(now)),
            answers_open=len(self._answers),
            rounds_served_open=self._serving.rounds_open,
        )

    def _dispatch(self, event: Input, now: float) -> list[Effect]:
        match event:
            case Received():
                return self._received(event, now)
            case Scored(order=order, reply=reply):
                if self._answers.owns(order):
                    return self._answers.scored(_Surroundings(self), order, reply, now)
                return self._serving.scored(order, reply)
            case Heard(peer=peer, record=record):
                return self._heard(peer, record, now)
            case Asked():
                return self._answers.asked(event, _Surroundings(self), now)
            case Cancelled():
                return self._answers.cancelled(event)
            case TimerFired():
                return self._timer(now)
            case _:
                return self._changed(event, now)

    def _changed(
        self,
        event: PeerConnected
        | PeerLost
        | PingMeasured
        | AddressesFound
        | DialFailed
        | EngineReady
        | EngineLoadChanged
        | EngineLost
        | AddressesChanged,
        now: float,
    ) -> list[Effect]:
        match event:
            case PeerConnected(peer=peer):
                return self._connected(peer, now)
            case PeerLost(peer=peer, reason=reason):
                return self._lost(peer, reason, now)
            case PingMeasured(peer=peer, rtt_s=rtt_s):
                self._router.pinged(peer, rtt_s, now)
            case AddressesFound(peer=peer, addrs=addrs):
                self._peering.found(peer, addrs, now)
            case DialFailed(peer=peer):
                self._peering.dial_failed(peer, now)
            case EngineReady(card=card, load=load):
                self._serving.card, self._serving.load = card, load
                self._advertise_at = now
                self._publish_soon(now)
                return self._meet(self._peer, now)
            case EngineLoadChanged(load=load):
                before, self._serving.load = self._serving.load, load
                if before is not None and (before.sessions_free == 0) != (load.sessions_free == 0):
                    self._publish_soon(now)
            case EngineLost(reason=reason):
                self._serving.engine_lost()
                return [Emit(ExpertLost(self._peer, reason))]
            case AddressesChanged(addrs=addrs):
                self._addrs = addrs
                self._advertise_at = now
                self._publish_soon(now)
            case _:
                assert_never(event)
        return []

    # --- peers and experts ---------------------------------------------------------------------------------------------------

    def _connected(self, peer: PeerId, now: float) -> list[Effect]:
        self._router.seen(peer, now)
        self._peering.peer_connected(peer)
        self._publish_soon(now)
        self._advertise_at = min(self._advertise_at, now + 1.0)  # The first peer makes the DHT useful.
        self._look_up_at = min(self._look_up_at, now + 1.0)
        self._save_at = min(self._save_at, now + self._spread(self._config.save_every_s))
        seen: list[Effect] = [Emit(PeerSeen(peer, connected=True))]
        return seen + self._meet(peer, now)

    def _lost(self, peer: PeerId, reason: str, now: float) -> list[Effect]:
        if peer not in self._peering.connected:
            return []
        self._peering.peer_lost(peer, now)
        effects: list[Effect] = [Emit(PeerSeen(peer, connected=False, reason=reason))]
        if self._usable(self._table.get(peer)):
            effects.append(Emit(ExpertLost(peer, reason)))
        self._table.forget(peer)  # Whoever is alive says so again within seconds.
        return effects + self._serving.lost(peer) + self._answers.lost(_Surroundings(self), peer, now)

    def _heard(self, peer: PeerId, record: CapacityRecord, now: float) -> list[Effect]:
        if peer == self._peer:
            return []
        known = self._table.get(peer) is not None
        try:
            self._table.hear(peer, record, now, self._peering.connected.__contains__)
        except RemoteError as fault:
            return [Penalise(peer, str(fault))]
        if not self._usable(record):
            return []
        self._router.seen(peer, now)
        self._peering.found(peer, record.addrs, now)
        if known or self._table.get(peer) is None:
            return []
        return self._meet(peer, now)

    def _meet(self, peer: PeerId, now: float) -> list[Effect]:
        """An expert became usable, or its connection came up: say so once both are true, and let waiting answers know."""
        record = self._own_record() if peer == self._peer else self._table.get(peer)
        if record is None or not self._usable(record) or not (peer == self._peer or peer in self._peering.connected):
            return []
        return [Emit(ExpertFound(peer, record))]

    def _usable(self, record: CapacityRecord | None) -> bool:
        return record is not None and record.vocab_fingerprint == self._config.vocab_fingerprint

    def _experts(self, now: float) -> list[tuple[PeerId, CapacityRecord]]:
        own = self._own_record()
        others = [(p, r) for p, r in self._table.alive(now) if self._usable(r)]
        return sorted(others if own is None else [(self._peer, own), *others], key=lambda e: e[0])

    def _own_record(self) -> CapacityRecord | None:
        card, load = self._serving.card, self._serving.load
        if card is None or load is None:
            return None
        return CapacityRecord(
            boot=self._boot,
            seq=self._seq,
            model=clip_text(card.name, 32) or "unnamed",
            model_digest=card.digest,
            vocab_fingerprint=card.vocab_fingerprint,
            n_params=card.n_params,
            context_max=card.context_max,
            rate=max(0, min(2**32 - 1, round(load.tokens_per_s * 16))),
            queue_depth=min(65_535, load.queue_depth),
            sessions_free=min(65_535, load.sessions_free),
            sessions_max=min(65_535, load.sessions_max),
            domains=tuple(d for d in (clip_text(domain, 16) for domain in card.domains[:4]) if d),
            addrs=self._short_addrs(),
            ctl_digest=NO_CONTROL,
        )

    def _short_addrs(self) -> tuple[str, ...]:
        """Without our peer id, which the envelope proves anyway and which would be half of the record."""
        bare = dict.fromkeys(a.removesuffix(f"/p2p/{self._peer}") for a in self._addrs)
        return tuple(a for a in bare if len(a.encode()) <= RECORD_ADDR_MAX)[:RECORD_ADDRS_MAX]

    def _expert_view(self, peer: PeerId, record: CapacityRecord, now: float) -> ExpertView:
        history = self._router.seen(peer, now)
        return ExpertView(
            peer=peer,
            record=record,
            connected=peer == self._peer or peer in self._peering.connected,
            local=peer == self._peer,
            resting=self._router.rests(peer, now),
            replies=history.replies,
            rtt_s=history.mean_s,
            prompts=history.prompts,
            merit=history.merit,
            share=history.share,
            ping_s=history.ping_s,
            score_s=self._router.expected_s(Candidate(peer, record, 1, member=False), now),
        )

    def _received(self, event: Received, now: float) -> list[Effect]:
        message = event.message
        match message:
            case Open() | Score() | Close():
                return self._serving.received(event.peer, message)
            case Scores() | Need() | Busy() | Refused():
                return self._answers.received(_Surroundings(self), event.peer, message, event.size_bytes, now)
            case _:
                assert_never(message)

    # --- time ----------------------------------------------------------------------------------------------------------------

    def _timer(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for peer in self._table.expire(now):
            if peer in self._peering.connected:
                effects.append(Emit(ExpertLost(peer, "no capacity record for too long")))
        effects += self._answers.timer(_Surroundings(self), now)
        if now >= self._publish_at:
            effects += self._publish(now)
        if now >= self._advertise_at:
            effects += self._advertise(now)
        if now >= self._look_up_at:
            self._look_up_at = now + self._spread(self._config.look_up_every_s)
            if len(self._experts(now)) < self._config.look_up_below:
                effects.append(LookUp(self._config.vocab_fingerprint))
        if now >= self._save_at:
            effects += self._save(now)
        return effects

    def _publish_soon(self, now: float) -> None:
        """Bring the next record forward, within the rate that others accept."""
        self._publish_at = min(self._publish_at, max(now + 0.1, self._published_at + self._config.publish_min_s))

    def _publish(self, now: float) -> list[Effect]:
        record = self._own_record()
        self._publish_at = now + self._spread(self._config.publish_every_s) if record is not None else float("inf")
        if record is None or not self._peering.connected:
            return []
        self._published_at = now
        self._seq += 1
        return [Publish(replace(record, seq=self._seq))]

    def _advertise(self, now: float) -> list[Effect]:
        card = self._serving.card
        if card is None or not self._peering.connected:
            self._advertise_at = float("inf")  # Until there is an expert to advertise and somebody to tell.
            return []
        self._advertise_at = now + self._spread(self._config.advertise_every_s)
        addrs = tuple(a for a in self._addrs if len(a.encode()) <= 128)[:8]
        record = ExpertRecord(
            self._boot, clip_text(card.name, 32) or "unnamed", card.digest, card.vocab_fingerprint, card.n_params, addrs
        )
        return [Advertise(record)]

    def _save(self, now: float) -> list[Effect]:
        self._save_at = now + self._spread(self._config.save_every_s) if self._peering.connected else float("inf")
        value = self._peering.save()
        if value == self._saved:
            return []
        self._saved = value
        return [Save(SAVED_PEERS, value)]

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.8, 1.2)


class _Surroundings:
    """`decoding.Swarm` for one call: what a generation may know of the node around it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def candidates(self, missing: Mapping[PeerId, int], tokens: int, now: float) -> list[Candidate]:
        node = self._node
        reachable = node._peering.connected
        return [
            Candidate(peer, record, missing.get(peer, tokens), peer in missing)
            for peer, record in node._experts(now)
            if (peer in reachable or peer == node._peer) and record.context_max >= tokens
        ]

    def pick(self, count: int, candidates: Sequence[Candidate], now: float) -> list[PeerId]:
        return self._node._router.pick(count, candidates, now)

    def prior(self, peer: PeerId, record: CapacityRecord, domain: str) -> float:
        return self._node._router.prior(peer, record, domain)

    def weighed(self, peer: PeerId, merit: float, share: float, now: float) -> None:
        self._node._router.weighed(peer, merit, share, now)

    def patience_s(self, candidate: Candidate, now: float) -> float:
        return self._node._router.patience_s(candidate, now)

    def replied(self, peer: PeerId, seconds: float, tokens: int, now: float) -> None:
        self._node._router.replied(peer, seconds, tokens, self._node._table.get(peer), now)

    def missed(self, peer: PeerId, now: float) -> None:
        self._node._router.missed(peer, now)

    def rest(self, peer: PeerId, seconds: float, now: float) -> None:
        self._node._router.rest(peer, seconds, now)

    def is_local(self, peer: PeerId) -> bool:
        return peer == self._node._peer
