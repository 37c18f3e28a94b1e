"""Every study: a question, parameters that hold together, a pure point; and what the numpy studies
must say whatever the seed."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from swarmllm.sims.flood import BASE_MS
from swarmllm.sims.study import Curves, Study, find, questions

SMALL: dict[str, dict[str, Any]] = {
    "agent": {"fault": "no_hedge_few", "validations": 0, "fresh": 2},
    "audits": {"audits": 5},
    "gossip": {"nodes": 60},
    "halt": {"nodes": 60},
    "half_dies": {"experts": 6, "askers": 1, "answers": 2, "tokens": 12},
    "churn": {
        "service": "desktop-8b",
        "experts": 12,
        "models": 4,
        "askers": 2,
        "answers": 1,
        "tokens": 24,
        "churn": 40.0,
    },
    "throughput": {"experts": 8, "models": 4, "tokens": 12, "answers": 1},
    "sybil": {"experts": 10, "models": 3, "before": 1, "after": 1, "askers": 1, "tokens": 4},
    "trust_cost": {"experts": 8, "models": 3, "before": 1, "after": 1, "askers": 1, "tokens": 4},
    "replication": {"nodes": 12, "links": 4, "groups": 4, "idle_s": 120.0},
    "scale": {"nodes": 8, "load": 0.5, "models": 2, "settle_s": 5.0, "warm_s": 2.0, "seconds": 2.0},
}
"""What makes a point of each study quick. A new study needs a line here."""


def results(name: str, seed: int = 1, **parameters: Any) -> Mapping[str, Any]:
    study = find(name)
    setting = {**study.defaults, **parameters}
    assert setting.keys() == study.defaults.keys()
    study.check(setting)
    return study.point(setting, seed)


@pytest.fixture(params=sorted(questions()))
def study(request: pytest.FixtureRequest) -> Study:
    return find(str(request.param))


def test_a_study_is_a_question(study: Study) -> None:
    assert questions()[study.name].endswith("?")
    assert study.module == f"swarmllm.sims.{study.name}"


def test_its_parameters_hold_together(study: Study) -> None:
    names = [p.name for p in study.parameters]
    assert len(names) == len(set(names))
    for parameter in study.parameters:
        assert parameter.help
        assert parameter.parse(parameter.show(parameter.default)) == parameter.default
    for name, values in study.sweep.items():
        swept = study.parameter(name)
        assert swept is not None
        assert all(swept.parse(swept.show(value)) == value for value in values)
    study.check(study.defaults)


def test_its_point_is_what_it_declares_and_can_travel(study: Study) -> None:
    setting = {**study.defaults, **SMALL[study.name]}
    found = pickle.loads(pickle.dumps(study.point))(setting, 1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found == study.point(setting, 1)
    assert {r.name for r in study.results if r.table} <= found.keys() | {"ghosts"}
    for plot in study.plots:
        assert ({plot.x, plot.y} if isinstance(plot, Curves) else {*plot.ys}) <= found.keys()


def test_results_do_not_depend_on_the_hash_seed() -> None:
    """Python gives each process another order of sets unless told otherwise."""
    program = (
        "import json; from tests.sims.test_studies import SMALL, results;"
        "print(json.dumps({name: results(name, **SMALL[name]) for name in SMALL}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=120,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(found) == 1


# --- halt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_nobody_stops_before_the_order_can_be_there(seed: int) -> None:
    found = results("halt", seed, nodes=500, loss=0.0, stop_ms=0.0)
    assert found["half_s"] <= found["most_s"] <= found["last_s"]
    assert found["bound_s"] < found["last_s"]
    assert found["bound_s"] > min(map(min, BASE_MS)) / 10_000
    assert found["unreached"] == 0
    curve = found["stopped_share"]
    assert curve == sorted(curve)
    assert curve[-1] == 1


def test_droppers_slow_it_down_and_frozen_nodes_are_not_waited_for() -> None:
    plain = [results("halt", seed, nodes=400)["last_s"] for seed in range(5)]
    dropped = [results("halt", seed, nodes=400, droppers=0.7)["last_s"] for seed in range(5)]
    assert sum(dropped) > sum(plain)
    frozen = results("halt", nodes=400, frozen=0.5)
    assert frozen["unreached"] == 0
    assert frozen["last_s"] < 1


def test_a_longer_stop_comes_on_top() -> None:
    short, long = (results("halt", nodes=200, stop_ms=ms)["last_s"] for ms in (0.0, 250.0))
    assert long - short == pytest.approx(0.25)


def test_parts_that_never_meet_are_never_reached_and_parts_that_do_are_after_it() -> None:
    never = results("halt", nodes=300, parts=3, heal_s=0.0)
    assert never["last_s"] is None
    assert never["unreached"] == never["missed_while_apart"] > 150
    healed = results("halt", nodes=300, parts=3, heal_s=7.0)
    assert healed["missed_while_apart"] == never["unreached"]
    assert healed["unreached"] == 0
    assert 7.0 < healed["last_s"] < 12.5


def test_digests_find_whom_gossip_alone_misses() -> None:
    alone = results("halt", nodes=600, path="gossip", mesh=4, droppers=0.5, digests=False)
    helped = results("halt", nodes=600, path="gossip", mesh=4, droppers=0.5)
    assert alone["unreached"] == alone["missed_by_flood"] == helped["missed_by_flood"] > 0
    assert helped["unreached"] == 0
    assert helped["last_s"] > 1


def test_two_paths_are_no_slower_than_one() -> None:
    """On the same connections: without chance in delays of the mesh, which is drawn after them."""
    one = [
        results("halt", seed, nodes=300, path="control", loss=0.0)["last_s"] for seed in range(6)
    ]
    both = [results("halt", seed, nodes=300, path="both", loss=0.0)["last_s"] for seed in range(6)]
    assert all(b <= o + 1e-9 for o, b in zip(one, both, strict=True))


# --- gossip ---------------------------------------------------------------------------------------


def test_shuffles_cost_the_same_at_any_size_and_broadcasts_do_not() -> None:
    few, many = (results("gossip", nodes=nodes) for nodes in (300, 1_500))
    assert few["bytes_per_s"] == pytest.approx(many["bytes_per_s"], rel=0.03)
    few, many = (results("gossip", nodes=nodes, scheme="broadcast") for nodes in (300, 1_500))
    assert many["bytes_per_s"] / few["bytes_per_s"] == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_goal_is_reached_from_a_thousand_nodes_on(seed: int) -> None:
    found = results("gossip", seed, nodes=1_000)
    assert found["bytes_per_s"] <= 1_024
    assert found["pool_p5"] >= 64
    assert found["tables_p1"] >= 40


def test_bytes_are_what_was_moved() -> None:
    """Two exchanges per period and node, each with two messages; frames come on top."""
    found = results(
        "gossip", nodes=500, record_bytes=100, message_bytes=0, framing_bytes=50, balanced=False
    )
    assert found["bytes_per_s"] == pytest.approx(4 / 5.5 * 4 * 100, rel=0.05)
    assert found["framed_bytes_per_s"] - found["bytes_per_s"] == pytest.approx(
        4 / 5.5 * 50, rel=0.05
    )


def test_topics_have_as_many_candidates_as_members() -> None:
    found = results("gossip", nodes=5_000, scheme="topics", shard=100)
    assert found["pool_p50"] == pytest.approx(100, abs=8)
    assert found["pool_p5"] < found["pool_p50"]
    assert found["age_s_p50"] == pytest.approx(15, abs=1)


def test_a_complete_swarm_of_two_knows_itself() -> None:
    found = results("gossip", nodes=2, session_h=0.0)
    assert found["pool_p5"] == 1
    assert found["connected_known"] == 1
    assert math.isfinite(found["bytes_per_s"])
