"""Cases of experts that were never looked at in an answer come first; others in their order."""

from __future__ import annotations

from typing import Any

from swarmllm.core.trust.waiting import (
    REST_S,
    RESTING_MAX,
    WAIT_S,
    WAITING_MAX,
    Queue,
    Resting,
    Waiting,
)
from swarmllm.messages import PeerId


def waiting(since: float, *, is_urgent: bool = False) -> Waiting:
    nothing: Any = None
    return Waiting(nothing, (), nothing, since, is_urgent=is_urgent)


def test_the_urgent_come_first_and_each_in_their_order() -> None:
    queue = Queue()
    for since in range(6):
        queue.add(waiting(since, is_urgent=since % 2 == 1))
    assert queue.next_at() == 1
    assert [queue.pop().since for _ in range(4)] == [1, 3, 5, 0]
    assert queue.next_at() == 2 + WAIT_S


def test_with_too_many_the_oldest_of_the_least_urgent_gives_way() -> None:
    queue = Queue()
    for since in range(WAITING_MAX):
        queue.add(waiting(since, is_urgent=since < 2))
    queue.add(waiting(99, is_urgent=True))
    assert len(queue) == WAITING_MAX
    assert [queue.pop().since for _ in range(4)] == [0, 1, 99, 3]


def test_those_that_rest_are_bounded_and_the_first_to_be_asked_again_gives_way() -> None:
    resting = Resting()
    for number in range(RESTING_MAX + 1):
        resting.rest(PeerId(str(number)), float(number))
    assert not resting.is_resting(PeerId("0"), RESTING_MAX)
    assert resting.is_resting(PeerId("1"), RESTING_MAX)
    assert not resting.is_resting(PeerId("1"), REST_S + 1)
