"""A node whose owner wants the machine back, in a whole swarm: nobody's text loses or changes a
token while another holder of the model is there, and the node remains a peer."""

from __future__ import annotations

import pytest

from swarmllm.core.inputs import LendingChanged
from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.testing.world import LAPTOP_8B, VOCABULARY, Answer, Host, LinkModel, Spec, World

PROMPT = tuple(i % VOCABULARY for i in range(40))
TOKENS = 60


def swarm(seed: int, experts: int) -> tuple[World, Host, list[Host]]:
    world = World(seed, link=LinkModel(0.03, sigma=0.0), halts=False)
    holders = [world.add(Spec(model=1, service=LAPTOP_8B)) for _ in range(experts)]
    asker = world.add(Spec(model=None))
    world.run_for(20.0)
    return world, asker, holders


def begun(world: World, asker: Host, k: int) -> Answer:
    sampling = Sampling(temperature=0.0)
    order = GenerateRequest(
        PROMPT, k=k, max_tokens=TOKENS, vocab_size=VOCABULARY, sampling=sampling
    )
    return world.ask(asker, order)


def text_of(seed: int, pauses: int) -> list[int]:
    """The tokens of an answer in the middle of which so many of its experts pause."""
    world, asker, _ = swarm(seed, 4)
    answer = begun(world, asker, 2)
    world.run_for(60.0, lambda: len(answer.tokens) >= 15)
    at_work = [world.host_of(use.peer) for use in answer.chosen[-1].experts]
    for host in at_work[:pauses]:
        host.feed(LendingChanged("the owner is using the machine"))
    world.run_for(120.0, lambda: bool(answer.ends))
    assert answer.end is not None
    assert answer.end.reason == "length"
    paused = {host.peer for host in at_work[:pauses]}
    last = {use.peer for chosen in answer.chosen[-20:] for use in chosen.experts}
    assert not last & paused
    return answer.tokens


@pytest.mark.parametrize("pauses", [1, 2])
def test_an_answer_goes_on_with_other_holders_and_its_text_is_the_same(pauses: int) -> None:
    for seed in (1, 2, 3):
        text = text_of(seed, pauses)
        assert text == text_of(seed, 0)
        assert len(text) == TOKENS


def test_who_pauses_is_asked_no_more_remains_connected_and_is_found_again() -> None:
    world, asker, (holder,) = swarm(5, 1)
    assert holder.peer in asker.node.view(world.now).peers
    holder.feed(LendingChanged("it is not within 22:00-07:00; serving again at 22:00"))
    world.run_for(30.0)
    seen = asker.node.view(world.now)
    assert holder.peer in seen.peers
    assert seen.experts == ()
    assert "22:00" in holder.node.view(world.now).paused
    holder.feed(LendingChanged(""))
    world.run_for(30.0)
    assert [expert.peer for expert in asker.node.view(world.now).experts] == [holder.peer]
    answer = begun(world, asker, 1)
    world.run_for(60.0, lambda: bool(answer.ends))
    assert len(answer.tokens) == TOKENS


def test_an_answer_that_nobody_else_could_go_on_with_ends_when_the_pause_does() -> None:
    world, asker, (holder,) = swarm(6, 1)
    answer = begun(world, asker, 1)
    world.run_for(60.0, lambda: len(answer.tokens) >= 10)
    holder.feed(LendingChanged("the owner is using the machine"))
    world.run_for(8.0)
    assert len(answer.tokens) < TOKENS
    holder.feed(LendingChanged(""))
    world.run_for(120.0, lambda: bool(answer.ends))
    assert len(answer.tokens) == TOKENS
