"""When a direct connection has taken a relay's place, and does not last: which of the two is used,
step by step on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from swarmllm.adapters.libp2p.moving import QUIET_S, SETTLED_S, SIGN_S, Moves
from swarmllm.adapters.libp2p.open_work import OpenWork
from swarmllm.messages import PeerId
from tests.clock import under_mock_clock

US, PEER = PeerId("a"), PeerId("b")  # The smaller id closes the old one.


class Way:
    """A link as far as moving looks at it. `answers` are those to the next questions whether it is
    alive; when they are used up, the last one stands."""

    def __init__(self, *answers: bool) -> None:
        self.peer = PEER
        self.work = OpenWork(trio.current_time())
        self.channels: dict[str, object] = {}
        self.reason = ""
        self.is_farewell = self.is_last_resort = False
        self.on_over: Callable[[], object] = lambda: None
        self._answers = list(answers)

    @property
    def is_over(self) -> bool:
        return bool(self.reason)

    def end(self, reason: str, abort: bool = False, goodbye: int = 0) -> None:
        if not self.reason:
            self.reason = reason
            self.on_over()

    async def is_alive(self, within_s: float) -> bool:
        is_alive = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not is_alive:
            await trio.sleep(within_s)
        return is_alive and not self.is_over


class Both:
    """The two links of a peer that is moving, and what became of them."""

    def __init__(self, old: Way, new: Way, nursery: trio.Nursery) -> None:
        self.old, self.new = old, new
        self.back: list[object] = []
        self.gone: list[object] = []
        moves = Moves(US, nursery, self.back.append, self.gone.append)
        moves.begin(old, new)  # type: ignore[arg-type]
        new.on_over = lambda: moves.decides(new)  # type: ignore[arg-type]  # As `Links` does.

    def lose_new(self, *, farewell: bool = False) -> None:
        self.new.is_farewell = farewell
        self.new.end("gone")


@asynccontextmanager
async def moving(old: Way, new: Way) -> AsyncIterator[Both]:
    async with trio.open_nursery() as nursery:
        yield Both(old, new, nursery)


@under_mock_clock
async def test_the_old_one_ends_once_it_is_quiet_and_the_new_one_answers() -> None:
    old, new = Way(True), Way(True)
    async with moving(old, new) as both:
        await trio.sleep(SETTLED_S + 1.0)
        assert old.reason == "moved to a direct connection"
    assert not new.is_over
    assert both.back == both.gone == []


@under_mock_clock
async def test_a_new_one_that_carries_nothing_ends_and_the_old_one_is_used_again() -> None:
    old, new = Way(True), Way(False)
    async with moving(old, new) as both:
        await trio.sleep(3 * SIGN_S)
        assert new.is_over
    assert both.back == [old]
    assert old.is_last_resort
    assert not old.is_over


@under_mock_clock
async def test_a_process_that_stood_still_for_a_second_ends_nothing() -> None:
    old, new = Way(True), Way(False, True)
    async with moving(old, new) as both:
        await trio.sleep(QUIET_S + SIGN_S)
    assert not new.is_over
    assert both.back == both.gone == []


@under_mock_clock
async def test_where_neither_answers_nothing_is_concluded() -> None:
    old, new = Way(False), Way(False)
    async with moving(old, new) as both:
        await trio.sleep(10 * QUIET_S)
        assert not old.is_over
        assert not new.is_over
        new._answers = [True]
    assert old.reason == "moved to a direct connection"
    assert both.back == both.gone == []


@under_mock_clock
async def test_a_new_one_that_ends_without_a_word_gives_way_to_the_old_one_if_that_answers() -> (
    None
):
    old, new = Way(True), Way(True)
    async with moving(old, new) as both:
        both.lose_new()
    assert both.back == [old]
    old, new = Way(False), Way(True)
    async with moving(old, new) as both:
        both.lose_new()
    assert both.gone == [new]
    assert both.back == []
    assert old.is_over


@under_mock_clock
async def test_who_says_goodbye_on_the_new_one_is_gone_from_the_old_one_as_well() -> None:
    old, new = Way(True), Way(True)
    async with moving(old, new) as both:
        both.lose_new(farewell=True)
    assert both.back == both.gone == []
    assert old.is_over
