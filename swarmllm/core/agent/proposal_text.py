"""The text of an agent's proposal, in six parts: what was found, on what evidence, what is to
change, what is expected of it, how sure its author is, and how it is taken back. It is for the
people who vote, and decides nothing."""

from __future__ import annotations

from typing import Final

from swarmllm.core.agent.observation import BY_NAME
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.messages.governance import WHY_MAX

PLAN: Final = "Taken back: by its author if tokens cost more than before, beyond noise."


def text_of(suggestion: Suggestion, before: int) -> str:
    """At most `WHY_MAX` bytes; the finding, which a model may have written, gives way first."""
    setting = suggestion.setting
    better = BY_NAME[suggestion.expected].better
    rest = [
        f"Evidence: {', '.join(suggestion.evidence)}.",
        f"Change: {setting.key} from {before} to {suggestion.value} {setting.unit}.",
        f"Expected: {better if better != 'none' else 'other'} {suggestion.expected}.",
        f"Confidence: {suggestion.confidence:.2f}.",
        PLAN,
    ]
    tail = " " + " ".join(rest)
    room = WHY_MAX - len(tail.encode()) - len(b"Finding: .")
    finding = suggestion.finding.encode()[: max(0, room)].decode("utf-8", "ignore").strip()
    return f"Finding: {finding.rstrip('.')}.{tail}"
