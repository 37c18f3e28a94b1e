"""What was loaded is not looked through again, and what is made later is collected, only later."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from swarmllm.cli import collector


class Knot:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_only_what_came_later_is_looked_at() -> None:
    collector.leave_alone()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < gc.get_freeze_count()
    later = Knot()
    gone = weakref.ref(later)
    del later
    gc.collect()
    assert gone() is None


def test_cycles_that_grew_old_are_found_though_much_more_is_frozen() -> None:
    """Python puts a full collection off until a quarter as many objects are new as there were in
    the last one, and had counted what was frozen then."""
    much: list[object] = [[] for _ in range(1_500_000)]
    collector.leave_alone()
    old = [Knot() for _ in range(1_000)]
    gc.collect(1)
    gone = [weakref.ref(knot) for knot in old]
    del old
    most = collector.YOUNG * (collector.OLDER + 1) * (collector.FULL + 1)
    later: list[object] = [[] for _ in range(most)]
    assert all(one() is None for one in gone)
    assert len(much) > len(later)


def test_a_turn_of_many_streams_begins_no_collection() -> None:
    """They make some hundreds of objects at once, none of them a cycle, and free them again."""
    begun: list[str] = []
    collector.leave_alone()
    gc.callbacks.append(lambda phase, _: begun.append(phase))
    try:
        for _ in range(1_000):
            turn: list[object] = [[] for _ in range(1_000)]
            del turn
    finally:
        gc.callbacks.pop()
    assert not begun
