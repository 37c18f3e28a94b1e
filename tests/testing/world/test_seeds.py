"""The worlds that `scripts/check` runs; `python sims/swarm.py --runs 5000 --jobs 2` runs as many
more as there is time for."""

from __future__ import annotations

import pytest

from swarmllm.testing.world.run import CHECK_SEEDS, run


@pytest.mark.parametrize("seed", CHECK_SEEDS)
def test_the_world_of_this_seed_keeps_every_law(seed: int) -> None:
    outcome = run(seed)
    assert outcome.ends.get("length", 0) > 0
    assert outcome.drafting > 0  # So that the laws are about drafts, too.


def test_there_are_twenty() -> None:
    assert len(set(CHECK_SEEDS)) == 20


def test_who_has_lied_and_is_refused_for_it_is_owed_no_answer() -> None:
    """Seed 3070: one forges records until faults are over, and is refused for ten minutes more."""
    assert run(3070).ends.get("length", 0) > 0
