"""How many experts an answer asks where nobody says anything: what the settings have for it."""

from __future__ import annotations

from typing import Any

from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import EXPERTS, EXTRA, WIDE_SHARE


def usual_breadth(settings: Settings) -> dict[str, Any]:
    """`k`, `extra` and `quality` of a `GenerateRequest` that is made now."""
    return {
        "k": settings[EXPERTS],
        "extra": settings[EXTRA],
        "quality": settings[WIDE_SHARE],
    }
