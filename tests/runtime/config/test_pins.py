"""Pins: whichever way they are written they are read the same, and each mistake is one sentence
with the value and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXPERTS, EXTRA, SETTINGS, WIDE_SHARE
from swarmllm.errors import UsageError
from swarmllm.runtime.config import Config, Folders
from swarmllm.runtime.config.pins import pins_of, read_pins, setting_of
from swarmllm.runtime.config.reading import load_config
from swarmllm.runtime.config.setting import Unfit
from swarmllm.runtime.config.table import pinned


@st.composite
def assignments(draw: st.DrawFn) -> tuple[Setting[Any], int]:
    setting = draw(st.sampled_from(list(SETTINGS.values())))
    return setting, draw(st.integers(setting.limits.low, setting.limits.high))


@given(st.lists(assignments(), max_size=6).map(dict))
def test_a_table_a_list_and_a_line_say_the_same(pins: dict[Setting[Any], int]) -> None:
    said = [f"{setting.key}={value}" for setting, value in pins.items()]
    nested: dict[str, dict[str, int]] = {}
    for setting, value in pins.items():
        part, _, name = setting.key.partition(".")
        nested.setdefault(part, {})[name] = value
    found = {
        read_pins(said, True),
        read_pins(", ".join(said), True),
        read_pins({setting.key: value for setting, value in pins.items()}, False),
        read_pins(nested, False),
    }
    assert len(found) == 1
    assert pins_of(found.pop()) == pins


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("router.hedging_extra", "is not a setting of the swarm and its value"),
        ("router.hedging_extra=", "is not a setting of the swarm and its value"),
        ("router.hedging_extra=1.5", "is not a setting of the swarm and its value"),
        ("router.hedging_extra=-1", "is not a setting of the swarm and its value"),
        ("router.hedging_extra=9" + 30 * "9", "is not a setting of the swarm and its value"),
        ("router.hedging_extra=65", "which takes whole numbers from 0 to 64"),
        ("router.hedging=2", "did you mean router.hedging_extra"),
        ("=2", "is not a setting of the swarm"),
        ("answer.experts=3,answer.experts=4", "is not what was said before, 3"),
        ({"answer.experts": True}, "which takes whole numbers from 1 to 64"),
        ({"answer.experts": "3"}, "which takes whole numbers from 1 to 64"),
        ({"answer": {"experts": 3.0}}, "which takes whole numbers from 1 to 64"),
        ({"answer": {"experts": {"now": 3}}}, "which takes whole numbers from 1 to 64"),
        ({"answer": 3}, "is not a setting of the swarm"),
        ([3], "is not a setting of the swarm and its value"),
        (3, "is not a setting of the swarm and its value"),
        (None, "is not a setting of the swarm and its value"),
    ],
)
def test_a_mistake_is_told_with_its_value_and_what_is_allowed(value: object, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        read_pins(value, isinstance(value, str))


def test_the_config_file_has_a_table_of_them(tmp_path: Path) -> None:
    text = 'version = 1\n[pins]\nrouter.hedging_extra = 2\n"answer.experts" = 5\n'
    (tmp_path / "config.toml").write_text(text)
    config = load_config({}, {}, Folders(tmp_path, tmp_path, tmp_path))
    assert pinned(config) == {EXTRA: 2, EXPERTS: 5}
    text = f"version = 1\npins = {json.dumps(['router.hedging=2'])}\n"
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match=r"pins in .*config\.toml: 'router\.hedging=2'"):
        load_config({}, {}, Folders(tmp_path, tmp_path, tmp_path))


def test_what_the_node_is_set_to_is_pinned_and_what_is_left_out_is_the_swarms() -> None:
    folder = Path("x")
    assert pinned(Config(folder, folder)) == {}
    config = Config(folder, folder, k=5, quality=0.25, pins=("router.hedging_extra=3",))
    assert pinned(config) == {EXPERTS: 5, WIDE_SHARE: 250, EXTRA: 3}
    assert Settings(pinned(config))[WIDE_SHARE] == 0.25


def test_one_setting_fixed_in_two_ways_is_a_mistake_only_if_they_differ() -> None:
    folder = Path("x")
    assert pinned(Config(folder, folder, k=5, pins=("answer.experts=5",))) == {EXPERTS: 5}
    with pytest.raises(UsageError, match=r"k is 4, and answer\.experts is pinned to 5"):
        pinned(Config(folder, folder, k=4, pins=("answer.experts=5",)))


def test_a_key_that_no_setting_has_is_named_with_the_nearest_one() -> None:
    assert setting_of("answer.experts") is EXPERTS
    with pytest.raises(UsageError, match=r"'answer\.expert' \(did you mean answer\.experts\?\)"):
        setting_of("answer.expert")
    with pytest.raises(UsageError) as refusal:
        setting_of("x" * 10_000)
    assert len(str(refusal.value)) < 200
