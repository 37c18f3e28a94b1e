"""Governed worlds: every host runs the real governance part, and every law holds."""

from __future__ import annotations

import pytest

from swarmllm.testing.world.governed import GOVERNED_SEEDS, run_governed


@pytest.mark.parametrize("seed", GOVERNED_SEEDS)
def test_the_governed_world_of_this_seed_keeps_every_law(seed: int) -> None:
    found = run_governed(seed)
    assert found.filed
    assert found.in_force
    assert found.quiet_bytes_per_s < 50


def test_a_seed_gives_the_same_governed_world_again() -> None:
    assert run_governed(GOVERNED_SEEDS[1]) == run_governed(GOVERNED_SEEDS[1])
