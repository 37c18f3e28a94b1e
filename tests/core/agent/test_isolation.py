"""Agent subsets in a simulated swarm: what becomes of one subset's experts changes nothing of what
another one answers, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest

from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.subsets import subsets_of
from swarmllm.core.values import GenerateRequest, Only, Sampling
from swarmllm.testing.world import VOCABULARY, Host, LinkModel, Spec, World

EXPERTS = 16


def swarm() -> tuple[World, Host, list[Host]]:
    """Delays are even: else each message that is not sent would change the delay of the next."""
    world = World(seed=6, link=LinkModel(near_s=0.02, sigma=0.0))
    asker = world.add(Spec(model=None))
    experts = [world.add(Spec(model=number % 5)) for number in range(EXPERTS)]
    for host in experts:
        world.introduce(asker, host)
    world.run_for(40.0)
    return world, asker, experts


def order(among: frozenset[Any] | None, seed: int) -> GenerateRequest:
    return GenerateRequest(
        (1, 2, 3, 4),
        k=2,
        extra=1,
        max_tokens=24,
        vocab_size=VOCABULARY,
        sampling=Sampling(seed=seed),
        only=Only(among=among),
        is_background=among is not None,
    )


def answered(*, kills: str) -> tuple[dict[str, Any], dict[str, frozenset[Any]]]:
    """What each domain's subset wrote, three answers one after another; the experts of one of them
    die in the middle of the first."""
    world, asker, hosts = swarm()
    known: dict[Any, dict[str, float]] = {host.peer: {} for host in hosts}
    groups = {one.domains[0]: frozenset(one.experts) for one in subsets_of(1, DOMAINS, known, 3)}
    found: dict[str, Any] = {domain: [] for domain in groups}
    for turn in range(3):
        answers = {
            domain: world.ask(asker, order(members, 10 * turn + number))
            for number, (domain, members) in enumerate(groups.items())
        }
        world.run_for(0.3)
        for host in hosts:
            if turn == 0 and host.peer in groups.get(kills, ()):
                world.crash(host)
        world.run_for(20.0)
        for domain, one in answers.items():
            chosen = [(c.logprob, c.experts) for c in one.chosen]
            found[domain].append((one.tokens, one.times, chosen))
    return found, groups


@pytest.fixture(scope="module")
def untouched() -> tuple[dict[str, Any], dict[str, frozenset[Any]]]:
    return answered(kills="")


def test_a_subset_asks_its_own_experts_alone(
    untouched: tuple[dict[str, Any], dict[str, frozenset[Any]]],
) -> None:
    found, groups = untouched
    assert len(groups) >= 3
    for domain, answers in found.items():
        for tokens, _, chosen in answers:
            assert len(tokens) == 24
            assert {use.peer for _, uses in chosen for use in uses} <= groups[domain]


def test_a_subset_whose_experts_die_changes_nothing_of_the_others_answers(
    untouched: tuple[dict[str, Any], dict[str, frozenset[Any]]],
) -> None:
    before, groups = untouched
    victim = next(iter(groups))
    after, _ = answered(kills=victim)
    assert after[victim] != before[victim], "it was hit"
    for domain in groups:
        if domain != victim:
            assert after[domain] == before[domain], domain
