"""Pins: the settings of the swarm that a node's owner fixes for this node, whatever the swarm sets.

`--pin KEY=VALUE`, a variable and the table `[pins]` of the config file name them by their keys; a
setting of the node that says the same of this node (`k`, `extra`, `quality`) is a pin as well.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.errors import UsageError
from swarmllm.runtime.config.setting import Unfit

EXPECTED: Final = (
    "a setting of the swarm and its value, such as router.hedging_extra=2"
    " (`swarmllm settings` shows all of them)"
)


def read_pins(value: object, is_text: bool) -> tuple[str, ...]:
    """Pins in the form KEY=VALUE, in the order of their keys. From text they are parted by commas;
    a config file has a table of them."""
    found: dict[str, int] = {}
    for setting, number in _pairs(value):
        if found.setdefault(setting.key, number) != number:
            raise Unfit(f"{setting.key}={number}", f"what was said before, {found[setting.key]}")
    return tuple(f"{key}={number}" for key, number in sorted(found.items()))


def pins_of(pins: tuple[str, ...]) -> dict[Setting[Any], int]:
    """What `read_pins` read."""
    pairs = (pin.partition("=") for pin in pins)
    return {SETTINGS[key]: int(number) for key, _, number in pairs}


def setting_of(key: str) -> Setting[Any]:
    """UsageError for a key that no setting of the swarm has."""
    setting = SETTINGS.get(key)
    if setting is None:
        raise UsageError(
            f"the swarm has no setting {key[:64]!r}{_did_you_mean(key)};"
            " `swarmllm settings` shows all of them"
        )
    return setting


def _did_you_mean(key: str) -> str:
    close = difflib.get_close_matches(key[:64], SETTINGS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _pairs(value: object) -> Iterator[tuple[Setting[Any], int]]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Mapping):
        for key, number in _flat(value):
            yield _pair(key, number, f"{key} = {number}")
        return
    if not isinstance(value, (list, tuple)):
        raise Unfit(value, EXPECTED)
    for item in value:
        said = item if isinstance(item, str) else ""
        parted = re.fullmatch(r"([^=]*)=\s*([0-9]{1,18})\s*", said)
        if parted is None:
            raise Unfit(item, EXPECTED)
        yield _pair(parted[1].strip(), int(parted[2]), item)


def _flat(table: Mapping[object, object]) -> Iterator[tuple[object, object]]:
    """TOML reads the key a.b as a table within a table; in quotes it is one key."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", number) for inner, number in value.items())
        else:
            yield key, value


def _pair(key: object, number: object, said: object) -> tuple[Setting[Any], int]:
    setting = SETTINGS.get(str(key))
    if setting is None:
        near = _did_you_mean(str(key))
        raise Unfit(said, f"a setting of the swarm{near}; `swarmllm settings` shows all of them")
    low, high = setting.limits.low, setting.limits.high
    if type(number) is not int or not low <= number <= high:
        takes = f"whole numbers from {low} to {high} ({setting.unit})"
        raise Unfit(said, f"a value of {setting.key}, which takes {takes}")
    return setting, number
