"""The node's own figures come from what its metrics count, and from the disk as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.core.agent.incidents import Counts
from swarmllm.core.effects import Penalise
from swarmllm.core.inputs import Received
from swarmllm.core.metrics.observer import Observer
from swarmllm.messages import REFUSED_ENGINE, Busy, PeerId, Refused
from swarmllm.runtime.agent.own_figures import OwnFigures, counts_of

PEER = PeerId("p")


def test_strikes_and_refusals_are_counted_and_busy_experts_are_not() -> None:
    observer = Observer()
    assert counts_of(observer.samples()) == Counts()
    observer.observe(Penalise(PEER, "no such message"), 0.0)
    for message in (Refused(1, 1, REFUSED_ENGINE), Busy(1, 1, 100), Refused(1, 2, 77)):
        observer.observe(Received(PEER, message, 10), 0.0)
    assert counts_of(observer.samples()) == Counts(strikes=1, refused=2)


def test_the_disk_and_the_ledger_are_looked_at_and_what_is_not_there_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger"
    ledger.write_bytes(bytes(2_000_000))
    figures = OwnFigures(Observer().samples, tmp_path, ledger)
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(100, 10))
    assert figures.look(0.0) == {"storage_share": pytest.approx(0.9), "ledger_mb": 2.0}
    ledger.unlink()
    assert set(figures.look(1.0)) == {"storage_share"}
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(0, 0))
    assert figures.look(2.0) == {}


class _Usage:
    def __init__(self, total: int, free: int) -> None:
        self.total, self.free = total, free
