"""Steering: governance's hand on the node's settings (`core.settings`)."""

from __future__ import annotations

from collections.abc import Mapping

from swarmllm.core.settings.holder import Change, Settings
from swarmllm.core.settings.table import BY_CODE
from swarmllm.messages import Range


class SettingsSteering:
    """`core.governance.changes.Steering` of the settings that the node's parts read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def default(self, setting: int) -> int:
        return BY_CODE[setting].default

    def set(self, setting: int, value: int, by: str, at_ms: int) -> None:
        self._settings.set(BY_CODE[setting], value, Change(by, at_ms))

    def take_bounds(self, bounds: Mapping[int, Range]) -> None:
        self._settings.take_bounds({BY_CODE[code]: found for code, found in bounds.items()})
