"""The domains of self-improvement, and whose each setting is.

Each domain has experts and cycles of its own (`core.agent.subsets`), so that a task in one touches
no other. A setting belongs to one domain, so two cycles never change the same.
"""

from __future__ import annotations

from typing import Any, Final

from swarmllm.core.settings import table as t
from swarmllm.core.settings.setting import Setting

SCHEDULING: Final = "scheduling"
SECURITY: Final = "security"
STORAGE: Final = "storage"
NETWORK: Final = "network"
DOMAINS: Final = (SCHEDULING, SECURITY, STORAGE, NETWORK)

_OTHERS: Final[dict[Setting[Any], str]] = {
    # How soon somebody who does not keep their word is dropped and tried again.
    t.SUSPECT_REST: SECURITY,
    t.PATIENCE_UNKNOWN: SECURITY,
    t.PATIENCE_MAX: SECURITY,
    t.PATIENCE_FLOOR: SECURITY,
    t.EXPLORATION: SECURITY,
    # What takes room in the caches of experts.
    t.SESSIONS_OFFERED: STORAGE,
    t.PROBES: STORAGE,
    t.SWITCH_RATIO: STORAGE,
    t.SWITCH_ADVANTAGE: STORAGE,
    # What goes over the wire.
    t.SHUFFLE_INTERVAL: NETWORK,
    t.LIST_ENTRIES: NETWORK,
}


def domain_of_setting(setting: Setting[Any]) -> str:
    """All that is not one of the others decides whom a round asks and how long it waits."""
    return _OTHERS.get(setting, SCHEDULING)
