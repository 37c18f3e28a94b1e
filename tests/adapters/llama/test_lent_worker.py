"""What of a worker's time and layers is lent: it rests after a step as the share says, and the
owner's own work ends the rest."""

from __future__ import annotations

import time
from typing import Any

import pytest

from swarmllm.adapters.llama import worker
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import ModelFile
from swarmllm.adapters.llama.worker import REST_MAX_S, Worker
from swarmllm.errors import UsageError


class Resting:
    """A worker with nothing but a clock that its waits move on."""

    def __init__(self, duty: float, patch: pytest.MonkeyPatch) -> None:
        self.now, self.owner_waits, self.owner_comes_at = 100.0, False, 1e9
        self._duty = duty
        self._batcher = self.places = self
        patch.setattr(time, "monotonic", lambda: self.now)

    def _take(self, wait_s: float) -> list[Any]:
        self.now = min(self.now + wait_s + 1e-6, max(self.now, self.owner_comes_at))
        self.owner_waits = self.now >= self.owner_comes_at
        return ["answer"]

    def rest(self, worked_s: float) -> tuple[float, int]:
        begun = self.now
        answers = Worker._rest(self, worked_s)  # type: ignore[arg-type]
        return round(self.now - begun, 3), len(answers)


@pytest.mark.parametrize(
    ("duty", "worked_s", "expected"),
    [(1.0, 0.1, 0.0), (0.5, 0.1, 0.1), (0.2, 0.1, 0.4), (0.01, 0.5, REST_MAX_S)],
)
def test_it_rests_as_long_as_its_share_of_the_time_wants(
    duty: float, worked_s: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting = Resting(duty, monkeypatch)
    assert resting.rest(worked_s) == (expected, int(expected > 0))


def test_what_comes_for_the_owner_ends_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    resting = Resting(0.2, monkeypatch)
    resting.owner_comes_at = 100.05
    assert resting.rest(0.1) == (0.05, 1)


def test_layers_follow_the_share_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        memory_bytes = 8 * 10**9

    monkeypatch.setattr(worker, "GpuLoad", Gpu)
    file = ModelFile("m", 1, b"", b"", False, 1, 32, 1, 5 * 10**9, True, 1, (), True)
    for percent, wanted, expected in [(100, -1, -1), (50, -1, 25), (50, 8, 8), (50, 40, 25)]:
        options = EngineOptions(gpu_percent=percent, gpu_layers=wanted)
        assert worker._lent(options, file).gpu_layers == expected


@pytest.mark.parametrize(("name", "value"), [("duty", 0.0), ("duty", 1.1), ("gpu_percent", 0)])
def test_a_share_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} {value} is out of range"):
        EngineOptions(**{name: value})  # type: ignore[arg-type]
