"""What was loaded is not looked through again, and what is made later is collected as before."""

from __future__ import annotations

import gc
import weakref

from swarmllm.cli import collector


class Knot:
    def __init__(self) -> None:
        self.itself = self


def test_only_what_came_later_is_looked_at() -> None:
    try:
        collector.leave_alone()
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < gc.get_freeze_count()
        later = Knot()
        gone = weakref.ref(later)
        del later
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
