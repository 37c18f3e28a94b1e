"""What an agent's observation takes from the node itself: incidents, from the counts behind its
metrics, and how full the disk of its data folder is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from swarmllm.core.agent.incidents import Counts, Incidents
from swarmllm.core.metrics import table
from swarmllm.core.metrics.observer import Sample

BUSY: Final = "busy"  # Of refusals the one that is no incident.


class OwnFigures:
    """`samples` tells the node's metrics; `ledger` is a file in `folder`."""

    def __init__(self, samples: Callable[[], Iterable[Sample]], folder: Path, ledger: Path) -> None:
        self._samples, self._folder, self._ledger = samples, folder, ledger
        self._incidents = Incidents()

    def look(self, now: float) -> dict[str, float]:
        found = self._incidents.metrics(counts_of(self._samples()), now)
        return found | storage_of(self._folder, self._ledger)


def counts_of(samples: Iterable[Sample]) -> Counts:
    strikes = refused = replied = 0.0
    for one in samples:
        if one.metric is table.STRIKES:
            strikes += one.value
        elif one.metric is table.REFUSED_US and one.labels != (BUSY,):
            refused += one.value
        elif one.metric is table.REPLIES:
            replied += one.value
    return Counts(round(strikes), round(refused), round(replied))


def storage_of(folder: Path, ledger: Path) -> dict[str, float]:
    """Nothing of what the system does not tell."""
    found: dict[str, float] = {}
    try:
        disk = shutil.disk_usage(folder)
        if disk.total:
            found["storage_share"] = 1 - disk.free / disk.total
        found["ledger_mb"] = ledger.stat().st_size / 1e6
    except OSError:
        return found
    return found
