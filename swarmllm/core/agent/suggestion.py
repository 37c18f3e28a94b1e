"""The suggestion: what a proposer wants changed and why, and whether anybody can act on it.

Only `setting` and `value` have an effect. The finding is text for people: a model wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmllm.core.agent.observation import BY_NAME, Observation
from swarmllm.core.settings.setting import Setting
from swarmllm.messages import Range

FINDING_MAX: Final = 200  # Characters.
EVIDENCE_MAX: Final = 4  # Metrics.

Values = Mapping[Setting[Any], int]
"""What the swarm has set, in each setting's unit; what is left out is at its default."""
BoundsOf = Mapping[Setting[Any], Range]
"""Within which each setting may be set by few votes; what is not there is not the agent's."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`evidence` names the metrics that it is drawn from, `expected` the one that should get
    better; `confidence` is 0 to 1 and decides nothing."""

    setting: Setting[Any]
    value: int
    finding: str
    evidence: tuple[str, ...]
    expected: str
    confidence: float = 0.5

    def fault(self, observation: Observation, values: Values, bounds: BoundsOf) -> str:
        """Why nobody can act on it, in a sentence; empty if one can."""
        allowed = bounds.get(self.setting)
        now = values.get(self.setting, self.setting.default)
        if allowed is None:
            return f"{self.setting.key} is not the agent's to change"
        if not allowed.low <= self.value <= allowed.high:
            return (
                f"{self.setting.key} at {self.value} is out of bounds:"
                f" {allowed.low} to {allowed.high}"
            )
        if self.value == now:
            return f"{self.setting.key} is {now} already"
        if not self.evidence or len(self.evidence) > EVIDENCE_MAX:
            return f"it cites {len(self.evidence)} metrics; 1 to {EVIDENCE_MAX} are needed"
        for name in (*self.evidence, self.expected):
            if name not in BY_NAME or name not in observation:
                return f"it cites {name[:40]!r}, of which nothing is known here"
        if not 0 <= self.confidence <= 1 or len(self.finding) > FINDING_MAX:
            return "its confidence or the length of its finding is out of bounds"
        return ""
