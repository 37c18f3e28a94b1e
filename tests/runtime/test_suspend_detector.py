"""A process that was stopped sees it on the clock, and everything but the kill switch waits until
that has asked (HALT-34)."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.inputs import DialFailed, Woke
from swarmllm.core.peers.liveness import SLEPT_S
from swarmllm.runtime.suspend_detector import LOOK_EVERY_S, SuspendDetector, sleepless_clock
from tests.clock import under_mock_clock
from tests.runtime.puppet import STRANGER, Puppet, driving
from tests.runtime.test_halt import WE, streaming


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0.0, 2.0), max_size=20))
def test_an_absence_is_seen_once_and_only_if_it_was_long(gaps: list[float]) -> None:
    hands = Hands()
    suspend_detector = SuspendDetector(hands)
    for gap in gaps:
        before = hands.now
        hands.now += gap
        assert suspend_detector.missed() == (hands.now - before > SLEPT_S)
        assert not suspend_detector.missed()


def test_the_looks_are_closer_than_the_absence_that_counts() -> None:
    assert LOOK_EVERY_S < SLEPT_S
    assert sleepless_clock() <= sleepless_clock()


@under_mock_clock
async def test_after_an_absence_the_kill_switch_is_told_before_anything_that_lay_ready() -> None:
    hands = Hands()
    machine = Puppet()
    async with driving(machine, suspend_detector=SuspendDetector(hands)) as (driver, _):
        await driver.feed(DialFailed(STRANGER, "before"))
        await machine.has(DialFailed)
        assert machine.count(Woke) == 0
        hands.now += 60.0
        await driver.feed(DialFailed(STRANGER, "after"))
        await machine.has(DialFailed, 2)
        assert machine.count(Woke) == 1
    kinds = [type(event) for _, event in machine.inputs if isinstance(event, DialFailed | Woke)]
    assert kinds == [DialFailed, Woke, DialFailed]


@under_mock_clock
async def test_an_absence_is_seen_without_any_input() -> None:
    hands = Hands()
    machine = Puppet()
    async with driving(machine, suspend_detector=SuspendDetector(hands)):
        hands.now += 60.0
        await machine.has(Woke)


@under_mock_clock
async def test_who_wakes_gives_no_token_until_it_has_heard_that_there_is_no_order() -> None:
    """Cut off like a frozen process, with its own expert: it would go on alone. Then it is there
    again, and an order came meanwhile."""

    async with streaming([7, 8, 8, 8], readers=1) as (swarm, (reader,)):
        sleeper = swarm.members[0]
        sleeper.network.swarm.freeze(sleeper.peer)
        await trio.sleep(1.0)
        swarm.members[1].driver.import_halt_record(WE.halt())
        await trio.sleep(1.0)
        before = len(reader.times)
        await trio.sleep(1.0)
        assert len(reader.times) > before, "it goes on alone, or this test shows nothing"
        sleeper.driver.act(Woke())
        await trio.sleep(0.0)
        before = len(reader.times)
        sleeper.network.swarm.thaw(sleeper.peer)
        await trio.sleep(4.0)
        assert sleeper.halted
        assert len(reader.times) <= before + 1  # One may have been under way to its reader.
        assert reader.failure is not None
