"""Laws of a node's settings: the swarm's value holds from the next read on, and what the owner has
pinned the swarm never changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.settings.holder import Change, Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXPERTS, SETTINGS, UNIFORM_SHARE, WAIT_COST
from swarmllm.errors import LocalError
from swarmllm.messages import Range

settings_of = st.sampled_from(list(SETTINGS.values()))


@st.composite
def assignments(draw: st.DrawFn) -> tuple[Setting[Any], int]:
    setting = draw(settings_of)
    return setting, draw(st.integers(setting.limits.low, setting.limits.high))


@given(
    st.lists(assignments(), max_size=5).map(dict),
    st.lists(assignments(), max_size=20),
)
def test_what_is_pinned_stays_and_everything_else_is_as_it_was_set_last(
    pins: dict[Setting[Any], int], sets: list[tuple[Setting[Any], int]]
) -> None:
    settings = Settings(pins)
    of_swarm = {setting: setting.default for setting in SETTINGS.values()}
    for setting, value in sets:
        assert settings.set(setting, value) == of_swarm[setting]
        of_swarm[setting] = value
    for row in settings.view():
        setting = row.setting
        expected = pins.get(setting, of_swarm[setting])
        assert (row.value, row.of_swarm) == (expected, of_swarm[setting])
        assert settings[setting] == setting.read(expected)
        assert row.is_pinned == (setting in pins)
    # Kept on disk, and brought back: the same, also on a machine without the pins.
    again = Settings(values=settings.changed_from_default())
    assert {s: again.value(s) for s in SETTINGS.values()} == of_swarm


@given(settings_of, st.data())
def test_a_value_beyond_the_limits_changes_nothing(
    setting: Setting[Any], data: st.DataObject
) -> None:
    limits = setting.limits
    value = data.draw(
        st.one_of(st.integers(max_value=limits.low - 1), st.integers(min_value=limits.high + 1))
    )
    settings = Settings()
    with pytest.raises(LocalError, match=setting.key):
        settings.set(setting, value, Change("somebody", 1))
    assert settings.view() == Settings().view()
    with pytest.raises(LocalError, match=setting.key):
        Settings(pins={setting: value})


def test_it_says_who_changed_it_last() -> None:
    settings = Settings()
    settings.set(EXPERTS, 4, Change("proposal 1", 1))
    settings.set(EXPERTS, 5, Change("proposal 2", 2))
    changes = {row.setting: row.change for row in settings.view() if row.change is not None}
    assert changes == {EXPERTS: Change("proposal 2", 2)}


def test_bounds_are_those_of_the_charter_within_the_limits() -> None:
    settings = Settings()
    settings.take_bounds({EXPERTS: Range(2, 1000), WAIT_COST: Range(1, 2)})
    assert settings.bounds(EXPERTS) == Range(2, EXPERTS.limits.high)
    assert settings.bounds(WAIT_COST) == Range(1, 2)
    assert settings.bounds(UNIFORM_SHARE) == UNIFORM_SHARE.bounds
    settings.take_bounds({})
    assert settings.bounds(EXPERTS) == EXPERTS.bounds
