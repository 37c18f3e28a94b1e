"""The table is the allow-list of what the swarm may change. Cites protocols/halt.md (HALT)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from swarmllm.core.settings.setting import UNITS, Setting
from swarmllm.core.settings.table import BY_CODE, SETTINGS
from swarmllm.messages.governance import SETTINGS_MAX

every = pytest.mark.parametrize("setting", SETTINGS.values(), ids=str)

CODES: Final = {
    "answer.experts": 1,
    "router.hedging_extra": 2,
    "answer.list_entries": 4,
    "cascade.wide_share": 9,
    "cascade.first_threshold": 10,
    "router.wait_cost": 11,
    "router.patience_floor": 12,
    "router.patience_unknown": 13,
    "router.patience_max": 14,
    "router.suspect_rest": 15,
    "router.switch_ratio": 16,
    "router.switch_advantage": 17,
    "router.replica_cost": 18,
    "router.blur": 19,
    "round.straggler_ratio": 20,
    "round.straggler_floor": 21,
    "round.late_ratio": 22,
    "round.late_floor": 23,
    "round.first_wait": 24,
    "round.hedge_cost": 25,
    "ensemble.exploration": 26,
    "ensemble.probes": 27,
    "ensemble.quorum_share": 28,
    "gate.uniform_share": 29,
    "gate.learning_rate": 30,
    "gate.forgetting": 31,
    "exchange.shuffle_interval": 32,
    "trust.results": 34,
    "trust.new_share": 35,
    "trust.hidden_share": 36,
    "serving.sessions_offered": 33,
}
"""On the wire and on disk, for ever."""
GONE: Final = {3, 5, 6, 7, 8}


def test_nothing_of_security_can_be_named() -> None:  # HALT-28
    """A new entry is looked at by whoever changes this test."""
    assert {setting.key: setting.code for setting in SETTINGS.values()} == CODES
    assert {setting.code: setting for setting in SETTINGS.values()} == BY_CODE
    assert not GONE & set(BY_CODE)


@every
def test_the_default_lies_within_the_bounds_and_they_within_the_limits(
    setting: Setting[Any],
) -> None:
    assert setting.limits.low <= setting.bounds.low <= setting.default
    assert setting.default <= setting.bounds.high <= setting.limits.high
    assert setting.limits.low >= 0, "values are unsigned on the wire"


@every
def test_people_can_read_it(setting: Setting[Any]) -> None:
    assert setting.effect.endswith(".")
    assert setting.unit
    assert setting.key == setting.key.lower()
    assert setting.key.count(".") == 1


@every
def test_the_code_reads_a_count_or_a_fraction_by_the_unit(setting: Setting[Any]) -> None:
    parts, _ = UNITS.get(setting.unit, (1, ""))
    assert setting.usual == setting.default / parts
    assert isinstance(setting.usual, int if parts == 1 else float)


def test_a_charter_can_have_bounds_for_all_of_them() -> None:
    assert len(SETTINGS) <= SETTINGS_MAX
