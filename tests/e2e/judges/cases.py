"""What a client's cases share: what is asked, and how it is told which of them passed."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any, Final

HELLO: Final[list[Any]] = [{"role": "user", "content": "Say hello."}]
WEATHER: Final = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}},
        "required": ["city"],
    },
}
TOOLS: Final[list[Any]] = [{"type": "function", "function": WEATHER}]


def main(*cases: Callable[[], None]) -> None:
    """Writes one JSON object: what failed of each case, empty if nothing did."""
    found: dict[str, str] = {}
    for case in cases:
        try:
            case()
            found[case.__name__] = ""
        # Whatever a client raises is what it thinks of the node.
        except Exception:  # noqa: BLE001
            found[case.__name__] = traceback.format_exc(limit=-2)
    print(json.dumps(found))
