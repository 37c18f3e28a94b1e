"""Agent subsets in a simulated swarm: what becomes of one subset's experts changes nothing of what
another one answers, bit for bit, as long as the same is heard of that one's own experts."""

from __future__ import annotations

from typing import Any

import pytest

from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.subsets import subsets_of
from swarmllm.core.values import GenerateRequest, Only, Sampling
from swarmllm.messages import PeerId, Shuffle, Shuffled
from swarmllm.testing.world import VOCABULARY, Behaviour, Host, LinkModel, Spec, World

EXPERTS = 16
MEET_S = 40.0


class Quiet(Behaviour):
    """Once all have met it passes on no records. Which of two records of one expert is the last
    that was heard, and so its rate, depends on whom everybody else exchanges records with."""

    def outgoing(self, host: Host, peer: PeerId, message: Any) -> Any:
        is_gossip = isinstance(message, Shuffle | Shuffled)
        return None if is_gossip and host.world.now > MEET_S else message


def swarm(seed: int) -> tuple[World, Host, list[Host]]:
    """Delays are even: else each message that is not sent would change the delay of the next."""
    world = World(seed=seed, link=LinkModel(near_s=0.02, sigma=0.0))
    asker = world.add(Spec(model=None), Quiet())
    experts = [world.add(Spec(model=number % 5), Quiet()) for number in range(EXPERTS)]
    for host in experts:
        world.introduce(asker, host)
    world.run_for(MEET_S)
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


def answered(seed: int, *, kills: str) -> tuple[dict[str, Any], dict[str, frozenset[Any]]]:
    """What each domain's subset wrote, three answers one after another; the experts of one of them
    die in the middle of the first."""
    world, asker, hosts = swarm(seed)
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


@pytest.fixture(scope="module", params=[6, 7, 8])
def untouched(
    request: pytest.FixtureRequest,
) -> tuple[int, dict[str, Any], dict[str, frozenset[Any]]]:
    return request.param, *answered(request.param, kills="")


def test_a_subset_asks_its_own_experts_alone(
    untouched: tuple[int, dict[str, Any], dict[str, frozenset[Any]]],
) -> None:
    _, found, groups = untouched
    assert len(groups) >= 3
    for domain, answers in found.items():
        for tokens, _, chosen in answers:
            assert len(tokens) == 24
            assert {use.peer for _, uses in chosen for use in uses} <= groups[domain]


def test_a_subset_whose_experts_die_changes_nothing_of_the_others_answers(
    untouched: tuple[int, dict[str, Any], dict[str, frozenset[Any]]],
) -> None:
    seed, before, groups = untouched
    victim = next(iter(groups))
    after, _ = answered(seed, kills=victim)
    assert after[victim] != before[victim], "it was hit"
    for domain in groups:
        if domain != victim:
            assert after[domain] == before[domain], domain
