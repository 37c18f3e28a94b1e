"""Peers and experts that come and go, as the node's user is told of them.

An expert is found when three things are true: its record is known, its connection is up, and the
kill switch lets us ask it. That is said once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from swarmllm.core.effects import Emit, NodeEffect
from swarmllm.core.events import ExpertFound, ExpertLost, PeerSeen
from swarmllm.core.facts import (
    Fact,
    Heard,
    OwnExpertChanged,
    PeerGone,
    PeerSettled,
    RecordsHeard,
    TokensAllowed,
)
from swarmllm.core.inputs import EngineLost, Input, PeerConnected, VocabularyLearned
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.roster import Roster
from swarmllm.messages import PeerId

NO_PLACE = "it offers no place any more: its engine is down or paused, or it was stopped"


class Sightings(Part):
    inputs = (
        *(PeerConnected, PeerGone, PeerSettled, RecordsHeard),
        *(EngineLost, OwnExpertChanged, TokensAllowed, VocabularyLearned),
    )

    def __init__(self, roster: Roster, connected: Collection[PeerId]) -> None:
        self._roster = roster
        self._connected = connected
        # Experts that were told of and not yet lost; bounded by connections.
        self._met: set[PeerId] = set()

    def handle(self, event: Input | Fact, now: float) -> Told:
        match event:
            case RecordsHeard(heard=heard):
                return self._heard(heard, now)
            case PeerSettled(peer=peer):
                return self._meet(peer, now)
            case PeerConnected(peer=peer):
                return [Emit(PeerSeen(peer, connected=True)), *self._meet(peer, now)]
            case PeerGone(peer=peer, reason=reason):
                return self._lost(peer, reason)
            case TokensAllowed() | VocabularyLearned():
                return [e for peer, _ in self._roster.experts(now) for e in self._meet(peer, now)]
            case OwnExpertChanged(what="ready"):
                self._met.discard(self._roster.own)
                return self._meet(self._roster.own, now)
            case EngineLost(reason=reason):
                return [Emit(ExpertLost(self._roster.own, reason))]
            case _:
                return ()

    def _heard(self, heard: Sequence[Heard], now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for peer, _, is_usable in heard:
            if peer not in self._connected or is_usable == (peer in self._met):
                continue
            if is_usable:
                effects += self._meet(peer, now)
            else:
                self._met.discard(peer)
                effects.append(Emit(ExpertLost(peer, NO_PLACE)))
        return effects

    def _lost(self, peer: PeerId, reason: str) -> list[NodeEffect]:
        effects: list[NodeEffect] = [Emit(PeerSeen(peer, connected=False, reason=reason))]
        if self._roster.is_usable(self._roster.record_of(peer)):
            effects.append(Emit(ExpertLost(peer, reason)))
        self._met.discard(peer)
        return effects

    def _meet(self, peer: PeerId, now: float) -> list[NodeEffect]:
        if peer in self._met:
            return []
        record = self._roster.record_of(peer)
        if (
            record is None
            or not self._roster.is_usable(record)
            or not self._roster.can_ask(peer, now)
        ):
            return []
        self._met.add(peer)
        return [Emit(ExpertFound(peer, record))]
