"""The load of this machine as others cause it: own processes do not count, strangers' do, and what
nobody can say is said."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from collections import namedtuple
from typing import Any

import psutil
import pytest

from swarmllm.adapters import machine_load
from swarmllm.adapters.machine_load import GpuLoad, MachineLoad, minute_of_day, on_battery
from swarmllm.core.serving.lending import IDLE

Battery = namedtuple("Battery", "percent secsleft power_plugged")
Times = namedtuple("Times", "user nice system idle")


class Machine:
    """A machine of four cores whose times a test sets; this process is the node."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.all, self.own, self.nice, self.priority = 100.0, 50.0, 1.0, 0.0, 0
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(psutil, "cpu_count", lambda: 4)
        patch.setattr(psutil, "cpu_times", lambda: Times(self.all, self.nice, 0.0, 0.0))
        patch.setattr(psutil, "Process", lambda: self)
        self.pid = 7

    def children(self, recursive: bool) -> list[Any]:
        return []

    def cpu_times(self) -> Times:
        return Times(self.own, 0.0, 0.0, 0.0)

    def nice_of(self) -> int:
        return self.priority


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(monkeypatch)
    monkeypatch.setattr(machine_load, "_priority", lambda process: process.nice_of())
    return found


def test_what_the_node_itself_computes_is_no_load_and_what_others_do_is(machine: Machine) -> None:
    load = MachineLoad(yields=True)
    assert load.look().load is None
    machine.now, machine.all, machine.own = 101.0, 54.0, 5.0  # All four cores, all ours.
    assert load.look().load == 0.0
    machine.now, machine.all, machine.own = 102.0, 57.0, 6.0  # Three, of which one is ours.
    assert load.look().load == 0.5


def test_what_runs_at_low_priority_counts_as_nobodys(machine: Machine) -> None:
    load = MachineLoad(yields=True)
    load.look()
    machine.priority = 10
    machine.now, machine.nice, machine.own, machine.all = 101.0, 4.0, 3.0, 52.0
    assert load.look().load == 0.5  # Two cores of usual priority, none of them ours.


def test_nothing_is_measured_that_no_rule_wants() -> None:
    found = MachineLoad(yields=False).look()
    assert (found.load, found.gpu) == (None, None)


def test_this_machine_can_be_looked_at_and_a_program_of_ours_is_not_taken_for_a_strangers() -> None:
    """The real thing: whatever else runs here, a child of ours adds nothing."""
    load = MachineLoad(yields=True)
    load.look()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            time.sleep(0.3)
            found = load.look()
            assert found.load is not None
            assert 0 <= found.load <= 1
            assert child.pid in load._own.seconds or found.load < IDLE
            assert 0 <= found.minute < 24 * 60
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, None),
        (Battery(50, 1, None), None),
        (Battery(50, 1, True), False),
        (Battery(50, 1, False), True),
    ],
)
def test_the_battery_is_that_of_the_system(
    found: Battery | None, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: found, raising=False)
    assert on_battery() is expected


def test_a_system_that_knows_no_batteries_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert on_battery() is None


def test_the_minute_is_that_of_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert minute_of_day(1_785_536_400) == 0 * 60 + 20  # 2026-07-31 22:20 UTC, summer time.
        assert minute_of_day(1_796_077_800) == 23 * 60 + 30  # 2026-11-30 22:30 UTC, winter.
    finally:
        monkeypatch.undo()
        time.tzset()


# --- the GPU --------------------------------------------------------------------------------------


class FakeNvml(types.ModuleType):
    """NVIDIA's library with one GPU; `used` is what each process computes there, in percent."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotFound(NVMLError):
        pass

    def __init__(self, used: dict[int, int] | None) -> None:
        super().__init__("pynvml")
        self.used, self.running, self.total = used, [], 0  # type: ignore[var-annotated]

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, n: int) -> int:
        return n

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        return types.SimpleNamespace(total=8 * 10**9)

    def nvmlDeviceGetProcessUtilization(self, gpu: int, since: int) -> list[Any]:
        if self.used is None:
            raise self.NVMLError("Not Supported")
        if not self.used:
            raise self.NVMLError_NotFound("Not Found")
        return [
            types.SimpleNamespace(pid=pid, timeStamp=since + 1, smUtil=share)
            for pid, share in self.used.items()
        ]

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[Any]:
        return [types.SimpleNamespace(pid=pid) for pid in self.running]

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        return types.SimpleNamespace(gpu=self.total)


def gpu(monkeypatch: pytest.MonkeyPatch, used: dict[int, int] | None) -> tuple[FakeNvml, GpuLoad]:
    fake = FakeNvml(used)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake, GpuLoad()


@pytest.mark.parametrize(
    ("used", "expected"), [({}, 0.0), ({7: 90}, 0.0), ({7: 50, 8: 30, 9: 10}, 0.4), ({8: 300}, 1.0)]
)
def test_of_the_gpu_only_others_count(
    used: dict[int, int], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, load = gpu(monkeypatch, used)
    assert (load.missing, load.memory_bytes) == ("", 8 * 10**9)
    assert load.look({7}) == pytest.approx(expected)


def test_a_driver_that_does_not_tell_who_computes_is_asked_whether_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake, load = gpu(monkeypatch, None)
    fake.running, fake.total = [7], 95
    assert load.look({7}) == 0.0
    fake.running = [7, 8]
    assert load.look({7}) == 0.95


def test_without_the_library_or_the_driver_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "swarmllm[gpu]" in GpuLoad().missing
    assert GpuLoad().look(set()) is None
    assert GpuLoad().memory_bytes is None
    fake = FakeNvml({})

    def fail() -> None:
        raise fake.NVMLError("Driver Not Loaded")

    fake.nvmlInit = fail  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert GpuLoad().missing == "NVIDIA's driver says: Driver Not Loaded"
