"""Laws of a host's disk: each step is whole or has not happened, and a process that is killed
between two leaves the first done."""

from __future__ import annotations

import pytest

from swarmllm.testing.world.disk import STEP_S, Disk
from swarmllm.testing.world.event_queue import EventQueue


def write(disk: Disk, event_queue: EventQueue, alive_s: float = 99.0) -> list[bool]:
    done: list[bool] = []
    disk.write(event_queue, b"new", b"mark", lambda: event_queue.now <= alive_s, done.append)
    event_queue.run_until(10.0)
    return done


def test_a_write_takes_its_three_steps() -> None:
    disk, event_queue = Disk(b"old", b"old", b"mark"), EventQueue()
    done: list[float] = []
    disk.write(event_queue, b"new", b"mark", lambda: True, lambda ok: done.append(event_queue.now))
    event_queue.run_until(10.0)
    assert done == [pytest.approx(3 * STEP_S)]
    assert (disk.first, disk.second, disk.writes) == (b"new", b"new", 1)


@pytest.mark.parametrize(
    ("steps", "first", "second"), [(0, b"old", b"old"), (1, b"new", b"old"), (2, b"new", b"new")]
)
def test_a_kill_between_two_steps_leaves_the_first_ones_done(
    steps: int, first: bytes, second: bytes
) -> None:
    disk, event_queue = Disk(b"old", b"old", b"mark"), EventQueue()
    assert write(disk, event_queue, alive_s=(steps + 0.5) * STEP_S) == []
    assert (disk.first, disk.second) == (first, second)


def test_a_full_disk_says_so_and_keeps_what_it_holds() -> None:
    disk, event_queue = Disk(b"old", b"old", b"mark", full=True), EventQueue()
    assert write(disk, event_queue) == [False]
    assert not disk.write_now(b"new", b"mark")
    assert (disk.first, disk.second) == (b"old", b"old")


def test_it_knows_what_was_done_to_it_until_it_is_written_again() -> None:
    disk, event_queue = Disk(b"old", b"old", b"mark"), EventQueue()
    disk.harm("first", None)
    assert not disk.is_lost
    disk.harm("second", b"ol")
    assert disk.is_lost
    assert write(disk, event_queue) == [True]
    assert not disk.is_lost
    assert Disk().is_new
