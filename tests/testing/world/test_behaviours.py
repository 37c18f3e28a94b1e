"""Who does not behave does just that: each such behaviour shows, and an honest swarm lives with
it."""

from __future__ import annotations

import pytest

from swarmllm.core.serving.admission import ROUNDS_PER_PEER_MAX
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.testing.world import VOCABULARY, Answer, Behaviour, Host, LinkModel, Spec, World
from swarmllm.testing.world.behaviours import (
    Boaster,
    Dropper,
    Flooder,
    Forger,
    Poisoner,
    Silent,
    forgeries,
)
from swarmllm.testing.world.laws import all_laws


def swarm(
    behaviour: Behaviour, honest: int = 3, *, asker_has_expert: bool = False
) -> tuple[World, list[Host], Host]:
    """Some honest hosts, the first of which asks, and one that misbehaves."""
    world = World(3, link=LinkModel(0.01), checkers=all_laws())
    hosts = [
        world.add(Spec(model=1 if number or asker_has_expert else None)) for number in range(honest)
    ]
    liar = world.add(Spec(), behaviour)
    world.run_for(20.0)
    return world, hosts, liar


def asked(world: World, host: Host, k: int = 3, seconds: float = 30.0) -> Answer:
    order = GenerateRequest(
        (1, 2, 3), k=k, max_tokens=8, vocab_size=VOCABULARY, sampling=Sampling(temperature=0.0)
    )
    answer = world.ask(host, order)
    world.run_for(seconds, lambda: bool(answer.ends))
    return answer


def test_a_silent_expert_is_asked_and_never_used() -> None:
    world, (asker, *_), liar = swarm(Silent())
    answer = asked(world, asker)
    assert answer.end is not None
    assert answer.end.reason == "length"
    assert liar.engine is not None
    assert liar.engine.served
    assert all(use.peer != liar.peer for chosen in answer.chosen for use in chosen.experts)


def test_a_poisoner_gives_another_text() -> None:
    world, (asker, *_), _ = swarm(Poisoner(), honest=1)
    honest, (first, *_), _ = swarm(Behaviour(), honest=1)
    assert asked(world, asker).tokens != asked(honest, first).tokens


def test_a_dropper_obeys_and_passes_nothing_on() -> None:
    world = World(1, link=LinkModel(0.01))
    ends = [world.add(Spec(model=None), starts=False) for _ in range(2)]
    between = world.add(Spec(model=None), Dropper(), starts=False)
    for host in (*ends, between):
        world.start(host, introduced=0)
    for end in ends:
        world.network.connect(end, between)
    world.run_for(10.0)
    world.publish(ends[0], world.founders.halt())
    world.run_for(1.0)
    assert between.is_halted
    assert not ends[1].is_halted or ends[0].peer in ends[1].connections


def test_a_flood_is_answered_within_its_bounds() -> None:
    world, (_, first, _), flooder = swarm(Flooder(rate=200.0))
    requester = first.node._serving._requesters[flooder.peer]
    assert requester.rounds <= ROUNDS_PER_PEER_MAX
    assert asked(world, first).end is not None
    flooder.behaviour = Behaviour()
    world.run_for(30.0)
    assert first.node._serving.rounds_open == 0


def test_a_boaster_is_listed_with_what_it_says() -> None:
    _, (asker, *_), liar = swarm(Boaster(rate=500_000, context=9000))
    (record,) = [e.record for e in asker.node.view(asker.clock()).experts if e.peer == liar.peer]
    assert (record.rate, record.context_max, record.queue_depth) == (500_000, 9000, 0)


def test_a_forger_is_struck_and_obeyed_by_nobody() -> None:
    world, hosts, liar = swarm(Forger(every_s=0.5))
    world.run_for(20.0)
    assert not any(host.is_halted for host in hosts)
    assert all(host.refuses(liar.peer) for host in hosts)
    assert not any(host.refuses(other.peer) for host in hosts for other in hosts)


@pytest.mark.parametrize("kind", range(4))
def test_nobody_obeys_a_forgery_that_its_own_operator_imports(kind: int) -> None:
    world, (host, *_), _ = swarm(Behaviour())
    world.publish(host, world.founders.halt(1))
    before = host.halt_machine.state if host.halt_machine is not None else None
    world.publish(host, forgeries(world.founders, 7)[kind])
    assert host.halt_machine is not None
    assert host.halt_machine.state is before
