"""How an answer goes on when somebody is late, on whole nodes: what the seeds of `simulate churn`
and `simulate scale` brought to light."""

from __future__ import annotations

from itertools import pairwise

import pytest

from swarmllm.core.values import GenerateRequest, Sampling
from swarmllm.testing.world import LAPTOP_8B, VOCABULARY, Answer, Host, LinkModel, Spec, World

PROMPT = tuple(i % VOCABULARY for i in range(300))
CATCH_UP_S = len(PROMPT) * LAPTOP_8B.per_token_s


def swarm(extra: int, experts: int = 6) -> tuple[World, Answer, list[Host]]:
    """Laptops, an asker without an expert in the middle of an answer to a long prompt, and those
    who are at work on it."""
    world = World(1, link=LinkModel(0.03, sigma=0.0), halts=False)
    for _ in range(experts):
        world.add(Spec(model=1, service=LAPTOP_8B))
    asker = world.add(Spec(model=None))
    world.run_for(20.0)
    order = GenerateRequest(
        PROMPT, k=2, extra=extra, max_tokens=90, vocab_size=VOCABULARY, sampling=Sampling()
    )
    answer = world.ask(asker, order)
    world.run_for(60.0, lambda: len(answer.tokens) >= 20)
    assert len(answer.tokens) == 20
    return world, answer, [world.host_of(use.peer) for use in answer.chosen[-1].experts]


def longest_gap_s(answer: Answer) -> float:
    return max(after - before for before, after in pairwise(answer.times))


@pytest.mark.parametrize("extra", [0, 1])
def test_whoever_was_late_is_asked_again_sooner_than_a_stranger_can_catch_up(extra: int) -> None:
    """Two of two miss a deadline because they stand still for 1.2 s; a stranger would take six
    seconds. (Seed 0 of `churn` at no churn at all: nine seconds without a token, when two of four
    were held up by somebody else's prompt.)"""
    world, answer, at_work = swarm(extra)
    for host in at_work:
        world.freeze(host)
    world.run_for(1.2)
    for host in at_work:
        world.thaw(host)
    world.run_for(120.0, lambda: bool(answer.ends))
    assert answer.end is not None
    assert answer.end.reason == "length"
    assert longest_gap_s(answer) < 2.5 < CATCH_UP_S


@pytest.mark.parametrize("is_lost", [False, True])
def test_insurance_against_the_late_costs_no_stranger_a_prompt_and_against_the_lost_it_does(
    is_lost: bool,
) -> None:
    """(Load 2 of `scale`: nine tenths of all questions were prompts of strangers, and the swarm
    wrote a tenth of what it could.)"""
    world, answer, at_work = swarm(extra=1)
    asked = served(world)
    if is_lost:
        world.crash(at_work[0])
    else:
        world.freeze(at_work[0])
    world.run_for(1.0)
    world.thaw(at_work[0])
    world.run_for(120.0, lambda: bool(answer.ends))
    assert len(served(world) - asked) == is_lost
    assert longest_gap_s(answer) < 2.5


def served(world: World) -> set[str]:
    return {host.peer for host in world.hosts if host.engine is not None and host.engine.served}
