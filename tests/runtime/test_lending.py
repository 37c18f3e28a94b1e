"""The shell of lending under a virtual clock: looks come in time, and only news reaches the
node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import trio

from swarmllm.core.inputs import Input, LendingChanged
from swarmllm.core.serving.lending import IDLE_FOR_S, Lending, LendingRules, MachineUse, hours_of
from swarmllm.runtime.lending import TROUBLE_WAIT_S, lend
from tests.clock import under_mock_clock

QUIET = MachineUse(load=0.0, gpu=None, on_battery=None, minute=0)
BUSY = replace(QUIET, load=0.9)

Told = list[tuple[float, str]]


async def lent(
    rules: LendingRules, look: Callable[[], MachineUse], seconds: float, is_over: bool = False
) -> Told:
    """What reached the node in so many seconds, and when; `is_over`: nothing is looked at any
    more."""
    told: Told = []
    begun = trio.current_time()

    async def feed(event: Input) -> None:
        assert isinstance(event, LendingChanged)
        told.append((trio.current_time() - begun, event.reason))
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await nursery.start(lend, Lending(rules), look, feed)
        assert (not nursery.child_tasks) is is_over
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return told


def in_turn(*samples: MachineUse | OSError) -> Callable[[], MachineUse]:
    """One after the other; the last for ever."""
    rest: Iterator[MachineUse | OSError] = iter(samples)

    def look() -> MachineUse:
        found = next(rest, samples[-1])
        if isinstance(found, OSError):
            raise found
        return found

    return look


@under_mock_clock
async def test_a_busy_machine_pauses_within_a_second_and_once() -> None:
    told = await lent(LendingRules(yields=True), in_turn(QUIET, BUSY), 10.0)
    assert [0.0 < at < 1.0 for at, _ in told] == [True]
    assert "the owner is using the machine" in told[0][1]


@under_mock_clock
async def test_it_serves_again_after_the_patience() -> None:
    looks = in_turn(QUIET, BUSY, BUSY, QUIET)
    (paused, _), (again, why) = await lent(LendingRules(yields=True), looks, 60.0)
    assert why == ""
    assert IDLE_FOR_S <= again - paused < IDLE_FOR_S + 2


@under_mock_clock
async def test_the_first_look_counts_before_anybody_is_served() -> None:
    ((at, why),) = await lent(
        LendingRules(hours=hours_of("22-07")), in_turn(replace(QUIET, minute=12 * 60)), 0.0
    )
    assert at == 0.0
    assert "22:00" in why


@under_mock_clock
async def test_where_no_rule_could_ever_apply_nothing_is_looked_at() -> None:
    assert await lent(LendingRules(), in_turn(QUIET), 100.0, is_over=True) == []


@under_mock_clock
async def test_a_machine_that_cannot_be_looked_at_is_not_lent_until_it_can() -> None:
    looks = in_turn(QUIET, OSError("no such file"), QUIET)
    (_, why), (again, nothing) = await lent(LendingRules(yields=True), looks, 60.0)
    assert why == "this machine cannot be looked at: no such file"
    assert nothing == ""
    assert again >= TROUBLE_WAIT_S
