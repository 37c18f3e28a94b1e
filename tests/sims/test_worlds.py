"""The numpy models beside the exact world, where real nodes decide: at a size where both run, they
say the same."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np
import pytest

from swarmllm.core.settings.table import SHUFFLE_INTERVAL
from swarmllm.sims.flood import BASE_MS, PLACES, SIGMA, arrivals, delays
from swarmllm.sims.overlay import random_overlay
from swarmllm.sims.shuffles import Scheme, Shuffles

NODES: Final = 100
EUROPE: Final = PLACES.index("Europe")
WARM_S, UNTIL_S, FRESH_S = 140.0, 200.0, 60.0

worlds: Any = pytest.importorskip("swarmllm.testing.world", exc_type=ImportError)
if not hasattr(importlib.import_module("swarmllm.messages"), "Shuffle"):
    pytest.skip("capacity records do not go from hand to hand", allow_module_level=True)


def test_a_hundred_real_nodes_move_and_know_what_the_model_says() -> None:
    core: Any = importlib.import_module("swarmllm.core.capacity.exchange")
    capacity: Any = importlib.import_module("swarmllm.core.capacity.table")
    moved = dict.fromkeys(range(NODES), 0)

    class Counter(worlds.Checker):  # type: ignore[misc]  # Any.
        def leaves(self, host: Any, peer: Any, message: Any) -> None:
            records = len(getattr(message, "records", ()))
            if records and self.world.now >= WARM_S:
                moved[host.number] += records
                moved[self.world.host_of(peer).number] += records

    world = worlds.World(seed=1, halts=False, checkers=[Counter()])
    hosts = [world.add(worlds.Spec(model=number % 4)) for number in range(NODES)]
    world.run_until(UNTIL_S)
    degrees = [len(host.connections) for host in hosts]
    pools, ages = [], []
    for host in hosts:
        found = [host.clock() - entry.born_at for entry in host.node._table._entries.values()]
        pools.append(sum(age <= FRESH_S for age in found))
        ages += [age for age in found if age <= FRESH_S]

    scheme = Scheme(
        SHUFFLE_INTERVAL.usual,
        core.SHUFFLE_RECORDS,
        capacity.RECORD_TTL_S,
        reseal_s=core.RESEAL_S,
    )
    model = Shuffles(
        NODES, scheme, np.random.default_rng(1), degree=(min(degrees), max(degrees)), rewire_s=0
    )
    model.run_until(WARM_S)
    model.records_moved[:] = 0
    model.run_until(UNTIL_S)
    expected = model.fresh(FRESH_S).sum(axis=1)
    assert np.mean(list(moved.values())) == pytest.approx(model.records_moved.mean(), rel=0.1)
    assert np.mean(pools) == pytest.approx(expected.mean(), rel=0.1)
    assert np.median(ages) == pytest.approx(
        np.median(model.now - model.issued[model.fresh(FRESH_S)]), abs=4
    )


@pytest.mark.parametrize("droppers", [0.0, 0.3])
def test_a_halt_reaches_real_nodes_when_the_model_says(droppers: float) -> None:
    """All places as near to each other as the model's two in Europe, so that only the graph and the
    chance in delays are compared."""
    base_s = BASE_MS[EUROPE][EUROPE] / 1000
    found: list[float] = []
    expected: list[float] = []
    for seed in range(3):
        world = worlds.World(seed=seed, link=worlds.LinkModel(near_s=base_s, sigma=SIGMA))
        deaf = round(NODES * droppers)
        hosts = [
            world.add(worlds.Spec(model=n % 4), *([_dropper()] if n >= NODES - deaf else []))
            for n in range(NODES)
        ]
        world.run_until(60.0)
        assert not any(host.is_halted for host in hosts)
        degrees = [len(host.connections) for host in hosts]
        world.publish(hosts[0], world.founders.halt())
        world.run_for(5.0)
        found.append(float(np.median([host.halted_at - 60.0 for host in hosts[: NODES - deaf]])))

        rng = np.random.default_rng(seed)
        overlay = random_overlay(NODES, min(degrees), max(degrees), rng)
        way = delays(overlay, np.full(NODES, EUROPE), rng)
        honest = np.arange(NODES) < NODES - deaf
        begun = np.where(np.arange(NODES) == 0, 0.0, np.inf)
        heard = arrivals(overlay, way, np.zeros(len(way)), np.zeros(NODES), honest, begun)
        expected.append(float(np.median(heard[honest])))
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.25)


def _dropper() -> Any:
    return importlib.import_module("swarmllm.testing.world.behaviours").Dropper()
