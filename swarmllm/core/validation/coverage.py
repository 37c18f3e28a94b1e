"""What the simulator shows of each setting, and what it cannot show.

Its models are made up: they take time and give lists, but nobody can say whether a text is good. So
of a setting that decides over the text as well, the simulator shows one side alone. Such a change
is called better or worse only if the side that is not seen points the same way.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from swarmllm.core.settings import table as t
from swarmllm.core.settings.setting import Setting

Text = Literal["none", "better", "worse", "unknown"]
"""What a higher value does to the text: nothing, make it better or worse, or what the simulator
knows nothing of at all."""

TEXT: Final[dict[Setting[Any], Text]] = {
    t.EXPERTS: "better",
    t.EXTRA: "none",
    t.WIDE_SHARE: "better",
    t.FIRST_THRESHOLD: "worse",
    t.LIST_ENTRIES: "better",
    t.WAIT_COST: "worse",
    t.PATIENCE_FLOOR: "none",
    t.PATIENCE_UNKNOWN: "none",
    t.PATIENCE_MAX: "none",
    t.SUSPECT_REST: "none",
    t.SWITCH_RATIO: "none",
    t.SWITCH_ADVANTAGE: "worse",
    t.REPLICA_COST: "better",
    t.BLUR: "worse",
    t.STRAGGLER_RATIO: "none",
    t.STRAGGLER_FLOOR: "none",
    t.LATE_RATIO: "better",
    t.LATE_FLOOR: "better",
    t.FIRST_WAIT: "better",
    t.HEDGE_COST: "none",
    t.EXPLORATION: "better",
    t.PROBES: "better",
    t.QUORUM_SHARE: "better",
    t.UNIFORM_SHARE: "unknown",
    t.LEARNING_RATE: "unknown",
    t.FORGETTING: "unknown",
    t.RESULTS: "unknown",
    t.NEW_SHARE: "unknown",
    t.HIDDEN_SHARE: "unknown",
    t.SHUFFLE_INTERVAL: "none",
    t.SESSIONS_OFFERED: "none",
}
"""Every setting of the table, as a test sees to: a new one has to say what can be shown of it."""


def is_shown(setting: Setting[Any]) -> bool:
    """Whether the simulator shows anything of it."""
    return TEXT[setting] != "unknown"


def text_side(setting: Setting[Any], before: int, after: int) -> int:
    """What the change does to the text, which the simulator does not show: 1 better, -1 worse,
    0 nothing."""
    direction = {"better": 1, "worse": -1}.get(TEXT[setting], 0)
    return direction if after > before else -direction


def unseen(setting: Setting[Any], before: int, after: int) -> str:
    """What the simulator does not show of this change, in a sentence; empty: it shows all."""
    if not is_shown(setting):
        return (
            f"the simulator does not show effects of {setting.key}: it weighs models by what they"
            " know of a text, and the simulator's know nothing"
        )
    side = text_side(setting, before, after)
    if not side:
        return ""
    words = "better" if side > 0 else "worse"
    return (
        f"the simulator does not show what {setting.key} does to the text: at {after} instead of"
        f" {before} it should be {words}, and how much is not known"
    )
