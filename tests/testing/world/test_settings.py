"""Worlds whose swarm has set its settings otherwise: no value that is possible breaks a law, and
what is set while they run decides the next answer."""

from __future__ import annotations

import random
from typing import Any

import pytest

from swarmllm.core.settings.answering import usual_breadth
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXPERTS, EXTRA, SETTINGS
from swarmllm.core.values import GenerateRequest
from swarmllm.testing.world.engine import VOCABULARY
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.roles import Answer, Spec
from swarmllm.testing.world.run import run
from swarmllm.testing.world.world import World


def drawn(seed: int) -> dict[Setting[Any], int]:
    """Each at its least, at its most, or somewhere between."""
    rng = random.Random(f"{seed} settings")
    return {
        setting: rng.choice((limits.low, limits.high, rng.randint(limits.low, limits.high)))
        for setting in SETTINGS.values()
        for limits in [setting.limits]
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 4, 8, 11, 13])
def test_every_law_holds_with_any_settings_that_are_possible(seed: int) -> None:
    assert run(seed, settings=drawn(seed)).digest != run(seed).digest


def asked(world: World, host: Host) -> Answer:
    order = GenerateRequest(
        (1, 2, 3), max_tokens=3, vocab_size=VOCABULARY, **usual_breadth(host.settings)
    )
    answer = world.ask(host, order)
    world.run_for(60.0, lambda: bool(answer.ends))
    return answer


def test_what_the_swarm_sets_decides_the_next_answer_but_where_it_is_pinned() -> None:
    world = World(seed=1, halts=False, settings={EXPERTS: 2})
    free, pinned = world.add(Spec(model=1)), world.add(Spec(model=2, pins={EXPERTS: 3}))
    for model in range(3, 9):
        world.add(Spec(model=model))
    world.run_for(20.0)
    assert {chosen.k for chosen in asked(world, free).chosen} == {2}
    assert {chosen.k for chosen in asked(world, pinned).chosen} == {3}
    for host in (free, pinned):
        host.settings.set(EXPERTS, 5)
        host.settings.set(EXTRA, 0)
    assert {chosen.k for chosen in asked(world, free).chosen} == {5}
    assert {chosen.k for chosen in asked(world, pinned).chosen} == {3}
