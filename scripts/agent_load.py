"""What an agent costs users, and what subsets bring, in simulated swarms: the figures of
docs/agent.md.

    python -m scripts.agent_load
    python -m scripts.agent_load --real [PAIRS]    # five processes here (`agent_load_real`)
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import trio

from scripts.agent_load_real import measure
from swarmllm.cli.output import write_stdout
from swarmllm.core.agent.domains import DOMAINS
from swarmllm.core.agent.subsets import subsets_of
from swarmllm.core.values import GenerateRequest, Only, Sampling
from swarmllm.messages import PeerId
from swarmllm.testing.world import VOCABULARY, Answer, Host, LinkModel, Spec, World

STEP_S: Final = 0.25
MINUTES: Final = 3


def request(seed: int, tokens: int, among: frozenset[PeerId] | None = None) -> GenerateRequest:
    return GenerateRequest(
        (1, 2, 3, 4),
        k=3,
        max_tokens=tokens,
        vocab_size=VOCABULARY,
        sampling=Sampling(seed=seed),
        only=Only(among=among),
    )


def swarm(seed: int, askers: int, experts: int, link: LinkModel) -> tuple[World, list[Host]]:
    """The hosts that ask come first."""
    world = World(seed=seed, link=link)
    asking = [world.add(Spec(model=None)) for _ in range(askers)]
    offering = [world.add(Spec(model=number % 3)) for number in range(experts)]
    for host in offering:
        for asker in asking:
            world.introduce(asker, host)
    world.run_for(40.0)
    return world, [*asking, *offering]


# --- users ----------------------------------------------------------------------------------------


@dataclass
class Users:
    """Each asks again a second after its answer has ended."""

    world: World
    hosts: list[Host]
    answers: list[Answer] = field(default_factory=list)

    def look(self) -> None:
        for host in self.hosts:
            last = next((one for one in reversed(self.answers) if one.host is host), None)
            is_over = last is not None and last.end is not None
            if last is None or (is_over and self.world.now > last.ended_at + 1.0):
                self.answers.append(self.world.ask(host, request(len(self.answers), 32)))

    def gaps_ms(self) -> list[float]:
        return sorted(1000 * (b - a) for one in self.answers for a, b in pairwise(one.times))


def users_beside(seed: int, share: float) -> tuple[float, float]:
    """Median and 99th of 100 of the times of users' tokens, in milliseconds, beside an agent that
    has experts answer for `share` of the time."""
    world, hosts = swarm(seed, 3, 6, LinkModel())
    users, agent = Users(world, hosts[:2]), hosts[2]
    asked: Answer | None = None
    left_s = 0.0
    ends_at = world.now + 60.0 * MINUTES
    while world.now < ends_at:
        world.run_for(STEP_S)
        is_asking = asked is not None and asked.end is None
        left_s += STEP_S * (share - is_asking)
        users.look()
        if share and not is_asking and left_s > 0:
            asked = world.ask(agent, request(1_000_000 + len(users.answers), 160))
    gaps = users.gaps_ms()
    return gaps[len(gaps) // 2], gaps[int(0.99 * len(gaps))]


# --- subsets --------------------------------------------------------------------------------------


def answers_per_minute(domains: int) -> float:
    """Of sixteen experts divided among so many domains, each with one answer at a time."""
    world, hosts = swarm(5, 1, 16, LinkModel(near_s=0.02, sigma=0.0))
    known: dict[PeerId, dict[str, float]] = {host.peer: {} for host in hosts[1:]}
    groups = [frozenset(one.experts) for one in subsets_of(1, DOMAINS[:domains], known, 2)]
    live: dict[frozenset[PeerId], Answer] = {}
    done = asked = 0
    ends_at = world.now + 60.0
    while world.now < ends_at:
        for group in groups:
            held = live.get(group)
            if held is None or held.end is not None:
                done += held is not None
                asked += 1
                live[group] = world.ask(hosts[0], request(asked, 24, group))
        world.run_for(STEP_S)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=int, nargs="?", const=6, metavar="PAIRS")
    pairs = parser.parse_args().real
    if pairs is not None:
        trio.run(measure, pairs)
        return
    for seed in (1, 2):
        for share in (0.0, 0.05, 1.0):
            median, high = users_beside(seed, share)
            write_stdout(f"seed {seed}, agent {share:4.0%}: {median:.1f} and {high:.1f} ms\n")
    for domains in (1, 2, 4):
        found = answers_per_minute(domains)
        write_stdout(f"{domains} subsets: {found:g} answers in a minute\n")


if __name__ == "__main__":
    main()
