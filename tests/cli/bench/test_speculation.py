"""What `swarmllm bench --only speculation` counts, and where it measures."""

from __future__ import annotations

from typing import Any

import pytest

from swarmllm.cli.bench.speculation import DELAYS_MS, KINDS, Place, Tally, places


@pytest.mark.parametrize("quick", [True, False])
def test_each_place_is_measured_once(quick: bool) -> None:
    found = places(quick)
    assert len(set(found)) == len(found)
    assert {place.kind for place in found} == set(KINDS)


def test_every_distance_is_measured_with_each_kind_of_prompts_and_fewer_experts_at_some() -> None:
    found = places(False)
    assert {(p.delay_ms, p.kind) for p in found if p.k == 4} == {
        (delay_ms, kind) for delay_ms in DELAYS_MS for kind in KINDS
    }
    assert {place.k for place in found} == {1, 2, 4}
    assert Place(2, 100.0, "mixed") in found


def test_a_tally_leaves_out_the_first_token_which_waits_for_the_prompt() -> None:
    tally = Tally()
    use: dict[str, Any] = {"bytes": 500, "used": True}
    own: dict[str, Any] = {"bytes": 0, "used": True}
    records = [{"experts": [own, use]} for _ in range(5)]
    end = {"rounds": 3, "drafted": 4, "accepted": 2}
    tally.count([1.0, 1.5, 1.5, 2.0, 3.0], records, end)
    assert (tally.tokens, tally.seconds, tally.rounds) == (4, 2.0, 2)
    assert tally.rate == 2.0
    assert (tally.sizes, tally.replies) == (2000, 4)
