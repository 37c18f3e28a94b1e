"""A node's settings as they are now: what the swarm has set, and what the node's owner has pinned.

Parts read them at each decision, so a change holds from the next one on. What the owner pins stays
as it is for this node, whatever the swarm sets; what the swarm sets is kept all the same, so that
every node knows the same values of the swarm, and a node whose pin goes has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmllm.core.settings.setting import N, Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.messages import Range

Values = Mapping[Setting[Any], int]
NONE: Final[Values] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """Who set a value last, in words for people, and when (Unix time in milliseconds)."""

    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class SettingView:
    """A setting as `swarmllm settings` shows it. `value` is what this node goes by, `of_swarm` what
    the swarm has set (or the default), `bounds` those of the charter; `change` None: nobody has
    changed it."""

    setting: Setting[Any]
    value: int
    of_swarm: int
    bounds: Range
    is_pinned: bool
    change: Change | None


class Settings:
    """`settings[WAIT_COST]` is what the code reads. All other numbers here are whole numbers of the
    setting's unit."""

    def __init__(self, pins: Values = NONE, values: Values = NONE) -> None:
        """`values` are what the swarm has set. LocalError for one beyond its setting's limits."""
        self._of_swarm: dict[Setting[Any], int] = {s: s.default for s in SETTINGS.values()}
        self._read: dict[Setting[Any], Any] = {s: s.usual for s in SETTINGS.values()}
        self._changes: dict[Setting[Any], Change] = {}
        self._bounds: dict[Setting[Any], Range] = {}
        self.version = 0
        """Changes whenever a value does, for whoever keeps what was computed from one."""
        for setting, pinned in pins.items():
            setting.check(pinned)
            self._read[setting] = setting.read(pinned)
        self.pins: Final[Values] = dict(pins)
        for setting, value in values.items():
            self.set(setting, value)

    def __getitem__(self, setting: Setting[N]) -> N:
        """What the code reads: seconds, shares, nats, or a count."""
        found: N = self._read[setting]
        return found

    def value(self, setting: Setting[Any]) -> int:
        """What this node goes by: its pin, or what the swarm has set, or the default."""
        return self.pins.get(setting, self._of_swarm[setting])

    def get(self, setting: Setting[Any]) -> int:
        """What the swarm has set, or the default, whatever this node has pinned."""
        return self._of_swarm[setting]

    def set(self, setting: Setting[Any], value: int, change: Change | None = None) -> int:
        """The swarm sets it; what it had set before is returned. LocalError for a value beyond the
        setting's limits; nothing has changed then."""
        setting.check(value)
        old, self._of_swarm[setting] = self._of_swarm[setting], value
        if setting not in self.pins:
            self._read[setting] = setting.read(value)
            self.version += 1
        if change is not None:
            self._changes[setting] = change
        return old

    def bounds(self, setting: Setting[Any]) -> Range:
        """Within these a change is a small one."""
        return self._bounds.get(setting, setting.bounds)

    def take_bounds(self, bounds: Mapping[Setting[Any], Range]) -> None:
        """Those of the charter, in place of any before; they hold within the setting's limits."""
        self._bounds = {
            setting: Range(max(one.low, setting.limits.low), min(one.high, setting.limits.high))
            for setting, one in bounds.items()
        }

    def view(self) -> tuple[SettingView, ...]:
        """All of them, as the table has them."""
        return tuple(
            SettingView(
                setting=setting,
                value=self.value(setting),
                of_swarm=self._of_swarm[setting],
                bounds=self.bounds(setting),
                is_pinned=setting in self.pins,
                change=self._changes.get(setting),
            )
            for setting in SETTINGS.values()
        )

    def changed_from_default(self) -> dict[Setting[Any], int]:
        """What the swarm has set to something else than the default, to be kept on disk."""
        return {s: value for s, value in self._of_swarm.items() if value != s.default}
