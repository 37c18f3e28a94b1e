"""Load of this machine by others than this node: what is not the node's own processes, as psutil
and, where it is installed, NVIDIA's library tell it.

The processor time of a machine is counted by kind, and what runs at low priority (`nice`) counts as
nobody's: it gives way by itself, and two nodes on one machine would else each take the other for
the owner. Own processes are this one and all below it. They are looked up again whenever something
seems busy, so that a process that has just been started is not taken for a stranger's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from swarmllm.core.serving.lending import IDLE, MachineUse

GPU_EXTRA: Final = "gpu"
GPUS_MAX: Final = 16


def minute_of_day(unix_s: float) -> int:
    """Minutes since midnight by this machine's own clock on the wall, summer time included."""
    now = time.localtime(unix_s)
    return now.tm_hour * 60 + now.tm_min


def on_battery() -> bool | None:
    """None: there is no battery, or nobody can say what the machine runs on."""
    look = getattr(psutil, "sensors_battery", None)
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        found = look() if look is not None else None
        if found is not None and found.power_plugged is not None:
            return not found.power_plugged
    return None


@dataclass(slots=True)
class _Own:
    """Processor seconds of the node's own processes at the last look, by process."""

    processes: dict[int, psutil.Process] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def refresh(self) -> None:
        own = psutil.Process()
        self.processes = {one.pid: one for one in (own, *own.children(recursive=True))}

    def read(self) -> dict[int, float]:
        found = {}
        for pid, process in self.processes.items():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                # Its user time is among the machine's `nice`, which is not counted.
                found[pid] = times.system + (times.user if _priority(process) <= 0 else 0.0)
        return found

    def since(self, now: dict[int, float]) -> float:
        """What they used since the last look; a new one has used all of it since then."""
        return sum(max(0.0, used - self.seconds.get(pid, 0.0)) for pid, used in now.items())


class MachineLoad:
    """`look` may take milliseconds, and is called in a thread, one call at a time."""

    def __init__(self, *, yields: bool, unix_time: Callable[[], float] = time.time) -> None:
        """`yields`: whether the load is wanted at all."""
        self._yields, self._unix_time = yields, unix_time
        self._own = _Own()
        self._busy, self._at = 0.0, 0.0
        self._gpu = GpuLoad() if yields else None

    def look(self) -> MachineUse:
        load = self._load() if self._yields else None
        gpu = self._gpu.look(set(self._own.processes)) if self._gpu is not None else None
        return MachineUse(load, gpu, on_battery(), minute_of_day(self._unix_time()))

    def _load(self) -> float | None:
        """None at the first look."""
        if not self._own.processes:
            self._own.refresh()
        now, busy, own = time.monotonic(), _busy_s(), self._own.read()
        seconds, used = now - self._at, busy - self._busy
        load = _share(used - self._own.since(own), seconds) if self._at else None
        if load is not None and load >= IDLE:
            self._own.refresh()
            own = self._own.read()
            load = _share(used - self._own.since(own), seconds)
        self._at, self._busy, self._own.seconds = now, busy, own
        return load


def _priority(process: psutil.Process) -> int:
    return int(process.nice())


def _busy_s() -> float:
    """Seconds that the machine's cores have worked for programs of usual priority since it
    started."""
    times = psutil.cpu_times()
    kinds = ("user", "system", "irq", "softirq")
    return sum(getattr(times, kind, 0.0) for kind in kinds)


def _share(busy_s: float, seconds: float) -> float:
    cores = psutil.cpu_count() or 1
    return min(1.0, max(0.0, busy_s / (cores * seconds))) if seconds > 0 else 0.0


class GpuLoad:
    """`missing`: why nobody can say how busy the GPU is; empty where it can be told."""

    def __init__(self) -> None:
        self._gpus: list[Any] = []
        self._nvml: Any = None
        self._seen_us = 0
        self.missing = self._open()

    def _open(self) -> str:
        try:
            import pynvml
        except ImportError:
            return f"pynvml is not installed (pip install 'swarmllm[{GPU_EXTRA}]')"
        try:
            pynvml.nvmlInit()
            count = min(GPUS_MAX, pynvml.nvmlDeviceGetCount())
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]
        except pynvml.NVMLError as error:
            return f"NVIDIA's driver says: {error}"
        self._nvml = pynvml
        return "" if self._gpus else "there is no NVIDIA GPU"

    @property
    def memory_bytes(self) -> int | None:
        """Of the first GPU."""
        if not self._gpus:
            return None
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._gpus[0]).total)
        except self._nvml.NVMLError:
            return None

    def look(self, own: set[int]) -> float | None:
        """The busiest GPU's share of others than the processes `own`; None where nobody can say."""
        found = [self._others(gpu, own) for gpu in self._gpus]
        told = [one for one in found if one is not None]
        return max(told, default=None)

    def _others(self, gpu: Any, own: set[int]) -> float | None:
        nvml = self._nvml
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(gpu, self._seen_us)
        except nvml.NVMLError_NotFound:
            return 0.0  # Nobody has used it since.
        except nvml.NVMLError:
            return self._total_if_shared(gpu, own)
        newest: dict[int, tuple[int, int]] = {}
        for one in samples:
            newest[one.pid] = max(newest.get(one.pid, (0, 0)), (one.timeStamp, one.smUtil))
        self._seen_us = max((at for at, _ in newest.values()), default=self._seen_us)
        used = sum(share for pid, (_, share) in newest.items() if pid not in own)
        return min(1.0, used / 100)

    def _total_if_shared(self, gpu: Any, own: set[int]) -> float | None:
        """Where the driver does not tell who does what: all of it, if others compute there."""
        nvml = self._nvml
        try:
            running = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
            if all(one.pid in own for one in running):
                return 0.0
            return float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)
        except nvml.NVMLError:
            return None
