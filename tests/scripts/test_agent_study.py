"""The tables of planted faults compare proposers by the same faults, and say what was not run."""

from __future__ import annotations

from scripts.agent_study import SHOWN, mends, page, sizes, sizes_page
from swarmllm.core.settings.table import BLUR, EXTRA
from swarmllm.sims.planted.faults import BY_NAME, SIZED, SIZES


def trial(won_back: float, validations: int = 3) -> dict[str, float]:
    return {
        "loss": 20.0,
        "suggested": 3,
        "actionable": 1.0,
        "improving": 1 / 3,
        "won_back": won_back,
        "mended": float(won_back >= 0.5),
        "validations_used": validations,
        "calls": 1.0,
        "simulated_s": 3600.0,
    }


def test_only_what_all_have_run_is_summed_up() -> None:
    whole = {name: trial(1.0 if name == "rules" else 0.25) for name in SHOWN}
    results = {"no_hedge_few": whole, "blur_long": whole, "no_hedge_near": {"rules": trial(-1.0)}}
    text = page(results, 3)
    assert "Over the 2 faults that all of them had, with at most 3 validations each:" in text
    assert "| rules | 2 of 2 | 100 % | 33 % | 100 % | 6 | 2 | 2 |" in text
    assert "| random | 0 of 2 | 100 % | 33 % | 25 % | 6 | 2 | 2 |" in text
    assert "| `no_hedge_near` | 20 |  | -100 % |  |  |  |  |" in text


def test_a_swarm_of_a_size_has_as_many_experts_of_the_same_kinds() -> None:
    assert [one.name for one in sizes()] == [f"{name}_{n}" for name in SIZED for n in SIZES]
    for one in sizes():
        name, _, nodes = one.name.rpartition("_")
        few = BY_NAME[name].place
        assert len(one.place.steps_s) == int(nodes) - 1
        assert set(one.place.steps_s) == set(few.steps_s)
        assert one.values == BY_NAME[name].values


def test_sizes_that_were_not_run_are_empty() -> None:
    found = {f"{SIZED[0]}_20": {"rules_search": trial(0.97)}}
    assert f"| `{SIZED[0]}` | 20; 97 % |  |  |" in sizes_page(found)


def test_a_step_towards_what_is_healthy_mends() -> None:
    fault = BY_NAME["no_hedge_few"]
    assert mends(fault, EXTRA, 2)
    assert not mends(fault, BLUR, 10)
    assert not mends(BY_NAME["hedge_much_few"], EXTRA, 5)
