"""A node that may not make tokens offers none: its record says so at once to everybody, the DHT is
told no more, and both come back."""

from __future__ import annotations

import random

from swarmllm.core.capacity.exchange import TELL_GAP_S, TELL_PEERS
from swarmllm.core.effects import Advertise, NodeEffect, Persist, Send, Withdraw
from swarmllm.core.inputs import (
    EngineLost,
    EngineReady,
    OwnerStarts,
    OwnerStops,
    PeerConnected,
    Persisted,
    Received,
    TimerFired,
)
from swarmllm.core.node import Node, NodeConfig
from swarmllm.messages import CapacityRecord, PeerId, Shuffle
from swarmllm.testing.scripted_model import ScriptedModel
from swarmllm.testing.sealing import MemoSealing
from tests.core.halt.support import running

OWN = PeerId("own")
PEERS = tuple(PeerId(f"peer {i:02}") for i in range(TELL_PEERS + 4))
MODEL = ScriptedModel("model", 0)


class Bench:
    """One node with a kill switch, an expert and many connections; its disk answers at once."""

    def __init__(self) -> None:
        self.seals = MemoSealing()
        self.node = Node(
            NodeConfig(bytes(32)), OWN, 1, random.Random(1), self.seals.of(OWN), running()
        )
        self.now = 10.0
        self.give(EngineReady(MODEL.card, MODEL.load))
        for peer in PEERS:
            self.give(PeerConnected(peer))
        self.wait(30.0)

    def give(self, event: object) -> list[NodeEffect]:
        effects = self.node.handle(event, self.now)  # type: ignore[arg-type]
        for effect in list(effects):
            if isinstance(effect, Persist):
                effects += self.give(Persisted(effect.number, ok=True))
        return effects

    def wait(self, seconds: float) -> list[NodeEffect]:
        until, effects = self.now + seconds, list[NodeEffect]()
        while (at := self.node.next_deadline()) <= until:
            self.now = max(self.now, at)
            effects += self.give(TimerFired())
        self.now = until
        return effects

    def news(self, effects: list[NodeEffect]) -> dict[PeerId, CapacityRecord]:
        sent = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Shuffle)]
        return {e.peer: self.seals.of(e.peer).unseal(e.message.records[0])[1] for e in sent}  # type: ignore[union-attr]


def places(record: CapacityRecord | None) -> tuple[int, int]:
    assert record is not None
    return record.sessions_free, record.sessions_max


# CAP-17
def test_a_stopped_node_tells_all_that_it_has_no_place_and_takes_it_back_at_the_start() -> None:
    bench = Bench()
    (own,) = bench.node.view(bench.now).experts
    full = places(own.record)
    assert full[1] > 0
    effects = bench.give(OwnerStops()) + bench.wait(0.2)
    assert {peer: places(record) for peer, record in bench.news(effects).items()} == dict.fromkeys(
        PEERS, (0, 0)
    )
    assert [e for e in effects if isinstance(e, (Advertise, Withdraw))] == [
        Withdraw(MODEL.card.vocab_fingerprint)
    ]
    assert places(bench.node.view(bench.now).experts[0].record) == (0, 0)
    later = bench.wait(700.0)
    assert {places(record) for record in bench.news(later).values()} == {(0, 0)}
    assert not [e for e in later if isinstance(e, Advertise)]
    effects = bench.give(OwnerStarts()) + bench.wait(TELL_GAP_S)
    assert {peer: places(record) for peer, record in bench.news(effects).items()} == dict.fromkeys(
        PEERS, full
    )
    assert len([e for e in effects if isinstance(e, Advertise)]) == 1


def test_who_answers_a_question_while_it_is_stopped_gives_a_record_without_places() -> None:
    bench = Bench()
    bench.give(OwnerStops())
    bench.wait(5.0)
    (answer,) = [
        e
        for e in bench.give(Received(PEERS[0], Shuffle(bytes(8), (), (), 1), 0))
        if isinstance(e, Send)
    ]
    assert places(bench.seals.of(OWN).unseal(answer.message.records[0])[1]) == (0, 0)  # type: ignore[union-attr]


def test_a_requester_that_heard_of_the_stop_asks_the_others_and_loses_nobody() -> None:
    bench, asker = Bench(), PeerId("asker")
    requester = Node(NodeConfig(bytes(32)), asker, 1, random.Random(2), bench.seals.of(asker))
    requester.handle(PeerConnected(OWN), bench.now)
    for event, experts in ((None, [OWN]), (OwnerStops(), []), (OwnerStarts(), [OWN])):
        effects = (bench.give(event) if event else []) + bench.wait(6.0)
        for sent in (e for e in effects if isinstance(e, Send) and isinstance(e.message, Shuffle)):
            requester.handle(Received(OWN, sent.message, 0), bench.now)
        assert [one.peer for one in requester.view(bench.now).experts] == experts


def test_an_expert_that_is_gone_is_taken_out_of_the_dht() -> None:
    bench = Bench()
    effects = bench.give(EngineLost("killed")) + bench.wait(700.0)
    assert [e for e in effects if isinstance(e, (Advertise, Withdraw))] == [
        Withdraw(MODEL.card.vocab_fingerprint)
    ]
    effects = bench.give(EngineReady(MODEL.card, MODEL.load)) + bench.wait(1.0)
    assert len([e for e in effects if isinstance(e, Advertise)]) == 1
