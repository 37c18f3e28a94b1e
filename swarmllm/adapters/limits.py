"""Processor and memory limits of this process: what the machine has, or less where a container was
given less.

A container sees the host's cores and the host's /proc/meminfo; what it may use stands in the files
of its control groups (Linux, both versions). Threads beyond the quota are stopped in the middle of
a step while the others spin, and memory beyond the limit is paid for with the process. What a file
does not say is no limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

Read = Callable[[str], str | None]
"""The text of a file; None if there is none."""

ROOT: Final = "/sys/fs/cgroup"
UNLIMITED: Final = 1 << 60  # Version 1 writes "no limit" as a number of this size.
FILE_BYTES_MAX: Final = 1 << 16


def read_file(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode("ascii", "replace")
    except OSError:
        return None


def cores() -> int:
    """Cores that this process may keep busy, at least 1."""
    count: int | None = None
    if hasattr(os, "process_cpu_count"):  # Python 3.13; obeys PYTHON_CPU_COUNT as well.
        count = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    count = count or os.cpu_count() or 1
    quota = cpu_quota(read_file)
    return count if quota is None else max(1, min(count, int(quota)))


def free_memory(read: Read = read_file) -> int | None:
    """Bytes that can be taken without swapping or being killed for it; None where the system does
    not say."""
    free = _meminfo(read, "MemAvailable")
    if free is None:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
    room = memory_room(read)
    return free if room is None else min(free, room[1])


def total_memory(read: Read = read_file) -> int | None:
    """Bytes of this machine, or of this container."""
    total = _meminfo(read, "MemTotal")
    room = memory_room(read)
    if total is None or room is None:
        return total if room is None else room[0]
    return min(total, room[0])


def cpu_quota(read: Read) -> float | None:
    """Cores' worth of time that the control groups allow; None: no limit."""
    found = []
    for folder in _folders(read, "cpu"):
        text = read(f"{folder}/cpu.max")
        quota, period = text.split()[:2] if text and len(text.split()) >= 2 else ("max", "0")
        if text is None:
            quota = (read(f"{folder}/cpu.cfs_quota_us") or "-1").strip()
            period = (read(f"{folder}/cpu.cfs_period_us") or "0").strip()
        if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_room(read: Read) -> tuple[int, int] | None:
    """The limit of the control groups, and how much of it can still be taken, in bytes; None: no
    limit. Files that the kernel only keeps because nobody needed the room count as free, as in
    MemAvailable."""
    limits, rooms = [], []
    for folder in _folders(read, "memory"):
        for names in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(read(f"{folder}/{names[0]}"))
            if limit is None or limit >= UNLIMITED:
                continue
            used = _number(read(f"{folder}/{names[1]}")) or 0
            stat = dict(
                line.split()[:2]
                for line in (read(f"{folder}/memory.stat") or "").splitlines()
                if len(line.split()) >= 2
            )
            spare = min(used, _number(stat.get(names[2])) or 0)
            limits.append(limit)
            rooms.append(max(0, limit - used + spare))
    return (min(limits), min(rooms)) if limits else None


def _folders(read: Read, controller: str) -> Iterator[str]:
    """The folders whose limits hold for this process: its own group's and all above it. In a
    container the path may be the host's, and then its own group is what it sees as the root."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root = ROOT
        elif controller in controllers.split(","):
            root = f"{ROOT}/{controller}"
        else:
            continue
        group = PurePosixPath("/" + path.strip().strip("/"))
        if ".." in group.parts:
            group = PurePosixPath("/")
        for at in (group, *group.parents):
            yield root + str(at).rstrip("/")


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdigit() and len(text) < 30 else None


def _meminfo(read: Read, name: str) -> int | None:
    """In bytes."""
    for line in (read("/proc/meminfo") or "").splitlines():
        if line.startswith(f"{name}:"):
            value = _number(line.split()[1] if len(line.split()) > 1 else None)
            return None if value is None else value * 1024
    return None
