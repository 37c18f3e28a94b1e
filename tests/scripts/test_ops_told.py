"""What the `ops` expert is told about today's settings was measured in worlds of its own, and has
the words in which it is asked."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import ops_told, ops_tuning
from scripts.ops_told import (
    REGISTERS,
    VERDICTS,
    Document,
    change_text,
    documents,
    figure,
    is_validation,
    question,
    tell,
    turned,
)
from scripts.ops_tuning import STEERING, TELLING, Try, World, place_of, suited, worlds
from swarmllm.core.agent.observation import BY_NAME
from swarmllm.core.settings.table import SETTINGS
from swarmllm.sims.planted.faults import FAULTS
from swarmllm.sims.planted.loop import BOUNDS

METRICS = {"token_ms": 135.0, "late_share": 0.0312, "failovers": 0.0, "wasted_share": 0.4}
AFTER = METRICS | {"token_ms": 90.0, "late_share": 0.01}
MADE_UP = World(
    3,
    METRICS,
    {"router.hedging_extra": 0},
    (
        Try("router.hedging_extra", 0, 2, -31.0, AFTER),
        Try("router.blur", 100, 10, 1.0, METRICS),
        Try("round.hedge_cost", 100, 1000, 12.0, METRICS | {"wasted_share": 0.8}),
    ),
)


@pytest.fixture(name="world", scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    (found,) = worlds(tmp_path_factory.mktemp("worlds"), 1)
    return found


def test_a_verdict_follows_from_what_was_measured() -> None:
    assert [one.found for one in MADE_UP.tries] == ["better", "no difference", "worse"]
    assert {one.found for one in MADE_UP.tries} == set(VERDICTS)
    assert Try("router.blur", 1, 2, -TELLING, {}).found == "better"


def test_a_world_is_a_function_of_its_number_and_is_simulated_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(worlds(tmp_path, 1)) == [world]
    monkeypatch.setattr(ops_tuning, "simulate", None)
    assert list(worlds(tmp_path, 1)) == [world]


def test_only_what_an_agent_may_set_is_tried(world: World) -> None:
    """Beyond the bounds it may find a setting, and not put it."""
    by_key = {one.key: one for one in BOUNDS}
    assert len(world.tries) >= 4
    for one in world.tries:
        bounds = by_key[one.setting].bounds
        assert bounds.low <= one.after <= bounds.high
        assert one.after != one.before
        assert one.before == world.values.get(one.setting, SETTINGS[one.setting].default)
        assert set(one.metrics) <= set(BY_NAME)


def test_no_place_is_that_of_a_planted_fault() -> None:
    drawn = []
    for number in range(200):
        rng = random.Random(number)
        place = place_of(rng)
        drawn += [place, *(suited(rng, place, planted) for planted in STEERING)]
    assert not {fault.place for fault in FAULTS} & set(drawn)
    assert len(set(drawn)) > 0.9 * len(drawn)


def test_the_question_is_what_stands_before_each_first_try() -> None:
    told = [one for one in tell(MADE_UP) if one.register == "tries"]
    asked = question(METRICS)
    assert asked.startswith("## Metrics\ntoken_ms: 140\nlate_share: 0.031\n")
    for one in told:
        head, _, tries = one.text.partition("Tried:\n")
        assert [line.split(":")[0] for line in head.splitlines()] == [
            line.split(":")[0] for line in asked.removesuffix("Tried:\n").splitlines()
        ]
        lines = tries.splitlines()
        assert sorted(lines) == sorted(
            f"{change_text(t.setting, t.before, t.after)} {t.found}" for t in MADE_UP.tries
        )
    assert len({one.text for one in told}) > 0.7 * len(told)


def test_every_register_says_what_helped() -> None:
    for register, write in REGISTERS.items():
        texts = [write(random.Random(seed), MADE_UP) for seed in range(20)]
        assert any("router.hedging_extra" in text for text in texts), register
    proposals = [REGISTERS["proposal"](random.Random(seed), MADE_UP) for seed in range(5)]
    assert all('"setting": "router.hedging_extra", "value": 2' in text for text in proposals)


def test_a_change_is_told_both_ways() -> None:
    more = replace(MADE_UP, tries=(*MADE_UP.tries, Try("router.hedging_extra", 0, 4, 5.0, METRICS)))
    ways = {(one.tries[0].setting, one.tries[0].before): one for one, _ in turned(more)}
    back = ways["router.hedging_extra", 2]
    assert back.metrics == AFTER
    assert [(one.after, one.cost, one.found) for one in back.tries] == [
        (0, 31.0, "worse"),
        (4, 36.0, "worse"),
    ]
    assert [one.metrics for one in back.tries] == [METRICS, METRICS]
    assert ways["round.hedge_cost", 1000].tries[0].found == "better"


def test_no_way_back_leads_out_of_bounds() -> None:
    beyond = replace(MADE_UP, tries=(Try("round.hedge_cost", 60_000, 1000, -9.0, AFTER),))
    assert list(turned(beyond)) == []


def test_the_two_sides_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"metrics": METRICS, "values": {}, "tries": []}
    monkeypatch.setattr(ops_tuning, "simulate", lambda _number: made)
    monkeypatch.setattr(ops_told, "tell", lambda world, *_: [Document(world.number, "tries", "")])
    numbers = [one.world for one in documents(tmp_path, 24)]
    assert [number for number in numbers if is_validation(number)] == [11, 23]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00012, "0"),
        (0.0312, "0.031"),
        (1.25, "1.2"),
        (9.96, "10"),
        (135.0, "140"),
        (2196.0, "2200"),
        (96.0, "96"),
        (99.7, "100"),
    ],
)
def test_figures_have_two_digits(value: float, text: str) -> None:
    assert figure(value) == text
