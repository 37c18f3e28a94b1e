"""The JSON object in which the service is asked and answers.

A module of its own, so that a command that only asks a running node imports nothing of a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Record = dict[str, Any]
NO_PARAMS: Final[Mapping[str, object]] = {}
