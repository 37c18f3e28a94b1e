"""Laws of virtual time: what is planned happens in order, at its time, and never in the past."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.testing.world import agenda
from swarmllm.testing.world.agenda import Agenda


@given(st.lists(st.floats(0.0, 100.0), max_size=50))
def test_events_happen_in_the_order_of_their_times_and_of_planning(times: list[float]) -> None:
    agenda = Agenda()
    seen: list[object] = []
    for number, when in enumerate(times):
        agenda.at(when, lambda number=number: seen.append((agenda.now, number)))
    agenda.run_until(100.0)
    assert seen == sorted((when, number) for number, when in enumerate(times))
    assert agenda.now == 100.0
    assert agenda.done == len(times)


def test_what_is_planned_for_the_past_happens_now_behind_what_waits() -> None:
    agenda = Agenda()
    seen: list[object] = []
    agenda.at(5.0, lambda: agenda.at(1.0, lambda: seen.append(("late", agenda.now))))
    agenda.at(5.0, lambda: seen.append(("first", agenda.now)))
    agenda.run_until(9.0)
    assert seen == [("first", 5.0), ("late", 5.0)]


def test_what_lies_beyond_waits() -> None:
    agenda = Agenda()
    seen: list[object] = []
    agenda.after(2.0, seen.append, 1)
    agenda.run_until(1.9)
    assert (seen, len(agenda), agenda.now) == ([], 1, 1.9)
    agenda.run_until(2.0)
    assert seen == [1]


def test_it_ends_as_soon_as_it_is_done() -> None:
    agenda = Agenda()
    seen: list[object] = []
    for when in (1.0, 2.0, 3.0):
        agenda.at(when, seen.append, when)
    agenda.run_until(10.0, lambda: len(seen) == 2)
    assert (seen, agenda.now) == ([1.0, 2.0], 2.0)


def test_a_loop_that_makes_no_progress_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "STANDSTILL_MAX", 100)
    standing = Agenda()

    def again() -> None:
        standing.after(0.0, again)

    standing.at(1.0, again)
    with pytest.raises(AssertionError, match="makes no progress"):
        standing.run_until(2.0)
