"""The lending rules of a node: when its machine works for others, and why it does not.

Whoever lends a machine wants it back at once, and without asking. So a load that is not this node's
pauses the serving as soon as two looks agree on it, and the serving goes on only after the load has
been gone for a while: a pause that comes and goes would cost every requester a failover each time.
The hours are a clock's and need no such patience. Nothing here measures: a shell looks at the
machine a few times a second and hands in what it saw.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

LOOK_EVERY_S: Final = 0.25  # Two looks and the step under way together stay below a second.
CALM_LOOK_EVERY_S: Final = 5.0
# Of all cores, or of the GPU. A program with one thread that competes with as many threads of ours
# as there are cores gets a third of two cores, and nearly all of what it wants where there are
# many.
BUSY: Final = 0.25
IDLE: Final = 0.15  # Below this the machine counts as idle,
IDLE_FOR_S: Final = 30.0  # and after so long of it the serving goes on.
LATELY_S: Final = 4.0  # Half a second of all cores is not yet a machine in use.
DAY_MIN: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day in minutes since midnight, by the clock on the wall. One that ends before
    it begins goes over midnight; its end is no longer part of it."""

    begin: int
    end: int

    def covers(self, minute: int) -> bool:
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def __str__(self) -> str:
        return f"{_clock(self.begin)}-{_clock(self.end)}"


def hours_of(text: str) -> Hours | None:
    """`22-07` or `22:30-07:15`; None for what is no such text, or covers nothing."""
    found = re.fullmatch(r"([0-9]{1,2})(?::([0-9]{2}))?-([0-9]{1,2})(?::([0-9]{2}))?", text)
    if found is None:
        return None
    hour, minute, last_hour, last_minute = (int(part or 0) for part in found.groups())
    begin, end = hour * 60 + minute, last_hour * 60 + last_minute
    if minute > 59 or last_minute > 59 or begin >= DAY_MIN or end > DAY_MIN or begin == end:
        return None
    return Hours(begin, end)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


@dataclass(frozen=True, slots=True)
class LendingRules:
    """What the owner has set. `hours` None: at any time."""

    yields: bool = False
    hours: Hours | None = None
    serves_on_battery: bool = False

    @property
    def look_every_s(self) -> float:
        """A load must be seen at once; hours and plugs may wait."""
        return LOOK_EVERY_S if self.yields else CALM_LOOK_EVERY_S

    def concern(self, sample: MachineUse) -> bool:
        """Whether they could ever say anything on the machine where this was seen."""
        has_battery = sample.on_battery is not None and not self.serves_on_battery
        return self.yields or self.hours is not None or has_battery


@dataclass(frozen=True, slots=True)
class MachineUse:
    """One look at the machine. `load`: the share of its cores that others than this node's own
    processes have kept busy since the look before; `gpu` the same of the GPU, None where nobody can
    say. `on_battery`: None where there is no battery. `minute`: since midnight, by the local
    clock."""

    load: float | None
    gpu: float | None
    on_battery: bool | None
    minute: int


@dataclass(slots=True)
class _Ground:
    """One ground for a pause. `since`: when it was last seen to hold, while it does."""

    holds: bool = False
    before: float = 0.0  # At the look before,
    lately: float = (
        0.0  # and over some seconds, so that a single peak does not begin the wait anew.
    )
    quiet_since: float | None = None

    def loaded(self, load: float, now: float) -> None:
        mean, self.before = (self.before + load) / 2, load
        self.lately += (load - self.lately) * LOOK_EVERY_S / LATELY_S
        self.seen(mean >= BUSY, self.lately < IDLE, now)

    def seen(self, is_there: bool, is_gone: bool, now: float) -> None:
        if not is_gone:
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = now
        if is_there:
            if not self.holds:
                self.quiet_since = None
            self.holds = True
        elif self.quiet_since is not None and now - self.quiet_since >= IDLE_FOR_S:
            self.holds = False


@dataclass(slots=True)
class Lending:
    """`reason`: why this node serves nobody now, in a sentence's half; empty while it serves."""

    rules: LendingRules
    reason: str = ""
    _cores: _Ground = field(default_factory=_Ground)
    _gpu: _Ground = field(default_factory=_Ground)
    _battery: _Ground = field(default_factory=_Ground)
    _ground: str | None = ""  # None: the next look is news, whatever it says.

    def forget(self) -> None:
        """Somebody else has spoken meanwhile."""
        self._ground = None

    def looked(self, sample: MachineUse, now: float) -> bool:
        """Whether `reason` is another one than before this look."""
        if self.rules.yields and sample.load is not None:
            self._cores.loaded(sample.load, now)
        if self.rules.yields and sample.gpu is not None:
            self._gpu.loaded(sample.gpu, now)
        if not self.rules.serves_on_battery and sample.on_battery is not None:
            self._battery.seen(sample.on_battery, not sample.on_battery, now)
        ground, reason = self._found(sample)
        if ground == self._ground:
            return False
        self._ground, self.reason = ground, reason
        return True

    def _found(self, sample: MachineUse) -> tuple[str, str]:
        hours = self.rules.hours
        again = f"serving again when it has been idle for {IDLE_FOR_S:.0f} s"
        if hours is not None and not hours.covers(sample.minute):
            return "hours", f"it is not within {hours}; serving again at {_clock(hours.begin)}"
        if self._battery.holds:
            mains = f"serving again after {IDLE_FOR_S:.0f} s on mains"
            return "battery", f"the machine runs on its battery; {mains}"
        if self._cores.holds:
            load = 100 * (sample.load or 0.0)
            return "load", f"the owner is using the machine (load {load:.0f} %); {again}"
        if self._gpu.holds:
            load = 100 * (sample.gpu or 0.0)
            return "gpu", f"another program is using the GPU (load {load:.0f} %); {again}"
        return "", ""


@dataclass(frozen=True, slots=True)
class Share:
    """What part of the cores others may have: so many `threads`, and of the time of the steps that
    are theirs the share `duty`."""

    threads: int
    duty: float


def percent_of(text: str) -> int:
    """Of a text such as `50%`."""
    return int(text.removesuffix("%"))


def share_of(percent: int, cores: int, threads: int) -> Share:
    """`threads` as the owner has set them, 0: one for each core. The duty makes up for what whole
    threads cannot say: 30 % of two cores are one thread for 60 % of the time."""
    lent = cores * percent / 100
    wanted = threads or cores
    if percent >= 100 or wanted <= lent:
        return Share(threads, 1.0)
    whole = max(1, int(lent))
    return Share(whole, min(1.0, lent / whole))


def lent_layers(percent: int, layers: int, size_bytes: int, memory_bytes: int | None) -> int:
    """How many of a model's layers go to the GPU: as many as fit into this share of its memory by
    their weights; where its memory is not known, this share of the layers."""
    if percent >= 100:
        return layers
    if memory_bytes is None or size_bytes <= 0 or layers <= 0:
        return layers * percent // 100
    return min(layers, memory_bytes * percent // 100 * layers // size_bytes)
