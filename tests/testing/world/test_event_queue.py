"""Laws of virtual time: what is planned happens in order, at its time, and never in the past."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.testing.world import event_queue
from swarmllm.testing.world.event_queue import EventQueue


@given(st.lists(st.floats(0.0, 100.0), max_size=50))
def test_events_happen_in_the_order_of_their_times_and_of_planning(times: list[float]) -> None:
    event_queue = EventQueue()
    seen: list[object] = []
    for number, when in enumerate(times):
        event_queue.at(when, lambda number=number: seen.append((event_queue.now, number)))
    event_queue.run_until(100.0)
    assert seen == sorted((when, number) for number, when in enumerate(times))
    assert event_queue.now == 100.0
    assert event_queue.done == len(times)


def test_what_is_planned_for_the_past_happens_now_behind_what_waits() -> None:
    event_queue = EventQueue()
    seen: list[object] = []
    event_queue.at(5.0, lambda: event_queue.at(1.0, lambda: seen.append(("late", event_queue.now))))
    event_queue.at(5.0, lambda: seen.append(("first", event_queue.now)))
    event_queue.run_until(9.0)
    assert seen == [("first", 5.0), ("late", 5.0)]


def test_what_lies_beyond_waits() -> None:
    event_queue = EventQueue()
    seen: list[object] = []
    event_queue.after(2.0, seen.append, 1)
    event_queue.run_until(1.9)
    assert (seen, len(event_queue), event_queue.now) == ([], 1, 1.9)
    event_queue.run_until(2.0)
    assert seen == [1]


def test_it_ends_as_soon_as_it_is_done() -> None:
    event_queue = EventQueue()
    seen: list[object] = []
    for when in (1.0, 2.0, 3.0):
        event_queue.at(when, seen.append, when)
    event_queue.run_until(10.0, lambda: len(seen) == 2)
    assert (seen, event_queue.now) == ([1.0, 2.0], 2.0)


def test_a_loop_that_makes_no_progress_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queue, "STANDSTILL_MAX", 100)
    standing = EventQueue()

    def again() -> None:
        standing.after(0.0, again)

    standing.at(1.0, again)
    with pytest.raises(AssertionError, match="makes no progress"):
        standing.run_until(2.0)
