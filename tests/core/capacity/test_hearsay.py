"""Whole nodes that hear of each other: at once where they are few, through others where they are
not connected, and no longer than true."""

from __future__ import annotations

import random
from hashlib import sha256

from swarmllm.core.capacity.table import RECORD_TTL_S
from swarmllm.core.effects import Dial, Emit, NodeEffect, Penalise, Send
from swarmllm.core.events import ExpertFound, ExpertLost
from swarmllm.core.inputs import (
    AddressesChanged,
    DialFailed,
    EngineLoadChanged,
    EngineLost,
    EngineReady,
    Input,
    PeerConnected,
    PeerLost,
    Received,
    TimerFired,
)
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.settings.table import SHUFFLE_INTERVAL
from swarmllm.core.values import EngineLoad
from swarmllm.messages import PeerId, Shuffle, Shuffled
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.sealing import MemoSealing
from swarmllm.testing.tabletop import Tabletop

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


class Chain:
    """Nodes with an expert each, connected as a test says; messages are delivered at once, in
    order."""

    def __init__(self, *peers: PeerId) -> None:
        self.seals = MemoSealing()
        self.now = 0.0
        config = NodeConfig(bytes(32))
        self.nodes = {
            p: Node(config, p, 1, random.Random(i), self.seals.of(p)) for i, p in enumerate(peers)
        }
        self.told: dict[PeerId, list[NodeEffect]] = {p: [] for p in peers}
        for i, peer in enumerate(peers):
            model = ScriptedModel(f"model-{i}", i)
            self.feed(peer, EngineReady(model.card, model.load))
            self.feed(peer, AddressesChanged((f"/ip4/192.0.2.{i + 1}/tcp/7339/p2p/{peer}",)))

    def feed(self, peer: PeerId, event: Input) -> list[NodeEffect]:
        effects = self.nodes[peer].handle(event, self.now)
        self.told[peer] += effects
        for effect in effects:
            if isinstance(effect, Send) and effect.peer in self.nodes:
                self.feed(effect.peer, Received(peer, effect.message, 0))
        return effects

    def link(self, one: PeerId, other: PeerId) -> None:
        # The one that greets comes last.
        for near, far in sorted([(one, other), (other, one)], reverse=True):
            self.feed(near, PeerConnected(far))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while (peer := min(self.nodes, key=lambda p: self.nodes[p].next_deadline())) and self.nodes[
            peer
        ].next_deadline() <= until:
            self.now = max(self.now, self.nodes[peer].next_deadline())
            self.feed(peer, TimerFired())
        self.now = until

    def knows(self, peer: PeerId) -> list[PeerId]:
        return [expert.peer for expert in self.nodes[peer].view(self.now).experts]

    def saw(self, peer: PeerId, kind: type) -> list[object]:
        return [
            e.event for e in self.told[peer] if isinstance(e, Emit) and isinstance(e.event, kind)
        ]


def test_a_swarm_of_a_handful_knows_itself_after_one_round_trip() -> None:
    table = Tabletop([1, 2, 3, None, 5])
    table.run_until(0.05)
    experts = [p for p, seat in table.seats.items() if seat.model is not None]
    for peer, seat in table.seats.items():
        assert [e.peer for e in seat.node.view(table.now).experts] == experts
        found = {e.peer for e in seat.events if isinstance(e, ExpertFound)}
        assert found == set(experts), peer
        assert seat.penalised == []


def test_who_is_not_connected_is_heard_of_through_others_and_dialled() -> None:
    chain = Chain(A, B, C)
    chain.link(A, B)
    chain.link(B, C)
    assert chain.knows(C) == [A, B, C]
    assert chain.saw(C, ExpertFound) == [chain_found(chain, C, C), chain_found(chain, C, B)]
    assert [e.peer for e in chain.told[C] if isinstance(e, Dial)] == [A]
    chain.run(3 * SHUFFLE_INTERVAL.usual)
    assert chain.knows(A) == [A, B, C]


def chain_found(chain: Chain, peer: PeerId, expert: PeerId) -> ExpertFound:
    (found,) = [
        e for e in chain.saw(peer, ExpertFound) if isinstance(e, ExpertFound) and e.peer == expert
    ]
    return found


def test_a_peer_that_was_found_gone_is_not_heard_of_again_from_those_who_do_not_know() -> None:
    chain = Chain(A, B, C)
    chain.link(A, B)
    chain.link(B, C)
    chain.nodes.pop(A)
    chain.feed(C, DialFailed(A, "nobody answers there"))
    assert chain.knows(C) == [B, C]
    chain.run(3 * SHUFFLE_INTERVAL.usual)
    assert chain.knows(C) == [B, C]
    chain.feed(B, PeerLost(A, "reset"))
    assert chain.knows(B) == [B, C]
    chain.run(RECORD_TTL_S)
    assert chain.knows(B) == [B, C]


def test_an_expert_that_nobody_is_connected_to_is_forgotten_and_one_that_is_stays() -> None:
    chain = Chain(A, B, C)
    chain.link(A, B)
    chain.link(B, C)
    for peer in (A, B):
        del chain.nodes[peer]  # Frozen: the connection of c to b has not broken yet.
    chain.run(RECORD_TTL_S + 1)
    assert chain.knows(C) == [B, C]


def test_an_expert_whose_engine_is_lost_says_so_and_is_found_again_when_it_is_back() -> None:
    chain = Chain(A, B)
    chain.link(A, B)
    chain.run(1.0)
    chain.feed(A, EngineLost("killed"))
    chain.run(0.2)
    assert chain.knows(B) == [B]
    assert chain.saw(B, ExpertLost) == [
        ExpertLost(
            A, "it offers no place any more: its engine is down or paused, or it was stopped"
        )
    ]
    model = ScriptedModel("model-0", 0)
    chain.run(1.0)
    chain.feed(A, EngineReady(model.card, model.load))
    chain.run(0.2)
    assert chain.knows(B) == [A, B]
    assert (
        len([e for e in chain.saw(B, ExpertFound) if isinstance(e, ExpertFound) and e.peer == A])
        == 2
    )


def test_the_last_free_session_is_news() -> None:
    chain = Chain(A, B)
    chain.link(A, B)
    chain.run(1.0)
    load = chain.nodes[A].view(chain.now).load
    assert load is not None
    full = EngineLoad(load.queue_depth, 0, load.sessions_max, load.tokens_per_s)
    chain.feed(A, EngineLoadChanged(full))
    chain.run(0.2)
    (expert,) = [e for e in chain.nodes[B].view(chain.now).experts if e.peer == A]
    assert expert.record.sessions_free == 0


def test_a_thousand_shuffles_between_honest_nodes_cost_nobody_a_strike() -> None:
    chain = Chain(A, B, C)
    for one, other in ((A, B), (B, C), (A, C)):
        chain.link(one, other)
    chain.run(2000.0)
    messages = [e for effects in chain.told.values() for e in effects if isinstance(e, Send)]
    assert sum(isinstance(e.message, Shuffle | Shuffled) for e in messages) > 1000
    assert not [e for effects in chain.told.values() for e in effects if isinstance(e, Penalise)]


def test_the_same_seed_gives_the_same_shuffles_byte_for_byte() -> None:
    def once() -> str:
        chain = Chain(A, B, C)
        chain.link(A, B)
        chain.link(B, C)
        chain.run(60.0)
        return sha256(repr(chain.told).encode()).hexdigest()

    assert once() == once()
