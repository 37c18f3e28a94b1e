"""The driver's laws: order, durability before what follows, one timer, bounded queues, loud
faults."""

from __future__ import annotations

import logging
import math
import threading
from itertools import pairwise

import pytest
import trio
import trio.testing

from swarmllm.core.effects import Effect, Emit, RunScore, Save
from swarmllm.core.events import Ended, PeerSeen
from swarmllm.core.inputs import (
    AddressesFound,
    Asked,
    Cancelled,
    DialFailed,
    Input,
    Scored,
    TimerFired,
)
from swarmllm.core.values import GenerateRequest, SessionKey
from swarmllm.messages import NO_HALT_DIGEST, REFUSED_ENGINE, Refused, Score
from swarmllm.runtime.driver import BATCH_MAX, BATCH_S
from swarmllm.runtime.queues import INPUTS_MAX, LIFE_MAX, Inbox
from swarmllm.testing.memory_store import MemoryStore
from swarmllm.wire.context import EMPTY
from tests.clock import under_mock_clock
from tests.runtime.puppet import STRANGER, Puppet, driving


@under_mock_clock
async def test_inputs_are_handled_in_the_order_of_their_arrival() -> None:
    machine = Puppet()
    async with driving(machine) as (driver, _):
        for i in range(300):
            await driver.feed(DialFailed(STRANGER, str(i)))
        await machine.has(DialFailed, 300)
    assert [e.reason for _, e in machine.inputs if isinstance(e, DialFailed)] == [
        str(i) for i in range(300)
    ]


@under_mock_clock
async def test_inputs_that_lie_ready_hold_the_others_up_for_milliseconds_only() -> None:
    """64 streams at once bring a token each, and together held the event loop for 20 ms."""
    cost_s, now, turns = 0.0015, [0.0], [0]

    def costly(event: Input) -> list[Effect]:
        now[0] += cost_s * isinstance(event, DialFailed)
        return []

    async def other() -> None:
        while True:
            turns.append(machine.count(DialFailed))
            await trio.lowlevel.checkpoint()

    machine = Puppet(costly)
    async with (
        driving(machine, clock=lambda: now[0]) as (driver, _),
        trio.open_nursery() as nursery,
    ):
        for _ in range(BATCH_MAX):
            await driver.feed(DialFailed(STRANGER, ""))
        nursery.start_soon(other)
        await machine.has(DialFailed, BATCH_MAX)
        nursery.cancel_scope.cancel()
    # Trio runs what is ready in any order, so two of the driver's turns may be neighbours.
    assert max(b - a for a, b in pairwise(turns)) <= 2 * math.ceil(BATCH_S / cost_s)


def test_a_save_is_durable_before_any_later_effect_begins_and_off_the_event_loop() -> None:
    order: list[str] = []
    loop_thread = threading.get_ident()

    class WatchedStore(MemoryStore):
        def save(self, name: str, value: bytes) -> None:
            assert threading.get_ident() != loop_thread
            super().save(name, value)
            order.append(name)

    def effects(event: Input) -> list[Effect]:
        if isinstance(event, DialFailed):
            return [
                Save("first", b"1"),
                Emit(PeerSeen(STRANGER, True)),
                Save("second", b"2"),
                Emit(PeerSeen(STRANGER, False)),
            ]
        order.extend(["next input"] if isinstance(event, AddressesFound) else [])
        return []

    async def body() -> None:
        machine = Puppet(effects)
        async with driving(machine, WatchedStore()) as (driver, _):
            with driver.listening() as events:
                await driver.feed(DialFailed(STRANGER, ""))
                await driver.feed(AddressesFound(STRANGER, (), "lan"))
                seen = [await anext(events), await anext(events)]
                await machine.has(AddressesFound)
            assert [e.connected for e in seen if isinstance(e, PeerSeen)] == [True, False]
        assert order == ["first", "second", "next input"]

    trio.run(body)


def test_a_full_disk_is_counted_and_the_node_goes_on() -> None:
    async def body() -> None:
        machine = Puppet(
            lambda e: (
                [Save("a", b"1"), Emit(PeerSeen(STRANGER, True))]
                if isinstance(e, DialFailed)
                else []
            )
        )
        store = MemoryStore()
        store.is_full = True
        async with driving(machine, store) as (driver, _):
            with driver.listening() as events:
                await driver.feed(DialFailed(STRANGER, ""))
                await anext(events)
            assert driver.saves_failed == 1

    trio.run(body)


@under_mock_clock
async def test_the_timer_fires_at_the_deadline_and_follows_it_when_it_changes() -> None:
    machine = Puppet()

    def effects(event: Input) -> list[Effect]:
        if isinstance(event, TimerFired):
            machine.deadline = math.inf
        if isinstance(event, DialFailed):
            machine.deadline = trio.current_time() + float(event.reason)
        return []

    machine.effects = effects
    async with driving(machine) as (driver, _):
        began_at = trio.current_time()
        await driver.feed(DialFailed(STRANGER, "50"))
        await trio.testing.wait_all_tasks_blocked()
        await driver.feed(DialFailed(STRANGER, "2"))
        await machine.has(TimerFired)
        await trio.sleep(100)
    fired = [at for at, event in machine.inputs if isinstance(event, TimerFired)]
    assert len(fired) == 1
    assert fired[0] == pytest.approx(began_at + 2)


@under_mock_clock
async def test_a_deadline_that_never_moves_on_does_not_burn_a_core() -> None:
    machine = Puppet()
    machine.deadline = 0.0
    async with driving(machine):
        await trio.sleep(1.0)
    assert 1 <= machine.count(TimerFired) <= 1100


@under_mock_clock
async def test_without_an_engine_a_round_is_refused_under_its_own_order() -> None:
    score = Score(7, 3, 0, 0, EMPTY, (1,), (0,), (), 16, 0, NO_HALT_DIGEST)
    machine = Puppet(
        lambda e: (
            [RunScore(42, SessionKey(STRANGER, 7), score)] if isinstance(e, DialFailed) else []
        )
    )
    async with driving(machine) as (driver, _):
        await driver.feed(DialFailed(STRANGER, ""))
        await machine.has(Scored)
    assert [e for _, e in machine.inputs if isinstance(e, Scored)] == [
        Scored(42, Refused(7, 3, REFUSED_ENGINE))
    ]


def test_a_fault_of_the_node_ends_the_driver_loudly_and_its_log_names_only_the_kind_of_input(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = tuple(b"canary in the coal mine")

    def fail(event: Input) -> list[Effect]:
        if isinstance(event, Asked):
            raise ZeroDivisionError
        return []

    async def body() -> None:
        machine = Puppet(fail)
        feeds = []
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            async with driving(machine) as (driver, _):
                feeds.append(driver.ask(GenerateRequest(prompt=secret)))
                await trio.sleep_forever()
        assert isinstance(await feeds[0].get(), Ended)

    with caplog.at_level(logging.DEBUG):
        under_mock_clock(body)()
    assert "Asked" in caplog.text
    assert str(secret[0]) + ", " + str(secret[1]) not in caplog.text


@under_mock_clock
async def test_a_request_ends_exactly_once_also_when_the_node_stops() -> None:
    machine = Puppet()
    async with driving(machine) as (driver, _):
        feed = driver.ask(GenerateRequest(prompt=(1,)))
        await machine.has(Asked)
        driver.stop()
        ended = await feed.get()
        assert isinstance(ended, Ended)
        assert ended.reason == "error"
    assert [e for _, e in machine.inputs if isinstance(e, Cancelled)] == [
        Cancelled(feed.request, "cancelled")
    ]
    late = driver.ask(GenerateRequest(prompt=(1,)))
    assert isinstance(await late.get(), Ended)


@under_mock_clock
async def test_cancelling_an_answer_that_has_ended_does_nothing() -> None:
    machine = Puppet(
        lambda e: [Emit(Ended(e.request, "length", 0, 0, 0))] if isinstance(e, Asked) else []
    )
    async with driving(machine) as (driver, _):
        feed = driver.ask(GenerateRequest(prompt=(1,)))
        await feed.get()
        driver.cancel(Cancelled(feed.request, "cancelled"))
        driver.abandon(feed.request)
        await trio.testing.wait_all_tasks_blocked()
    assert machine.count(Cancelled) == 0


# --- queues ---------------------------------------------------------------------------------------


@under_mock_clock
async def test_a_full_inbox_makes_the_network_wait_and_loses_nothing() -> None:
    inbox = Inbox()
    put = 0

    async def fill() -> None:
        nonlocal put
        for i in range(INPUTS_MAX + 10):
            await inbox.put(DialFailed(STRANGER, str(i)))
            put += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        await trio.testing.wait_all_tasks_blocked()
        assert put == INPUTS_MAX
        taken = [inbox.take()]
        await trio.testing.wait_all_tasks_blocked()
        assert put == INPUTS_MAX + 1
        while (event := inbox.take()) is not None:
            taken.append(event)
            await trio.testing.wait_all_tasks_blocked()
    assert [e.reason for e in taken if isinstance(e, DialFailed)] == [
        str(i) for i in range(INPUTS_MAX + 10)
    ]


@under_mock_clock
async def test_the_local_user_goes_first() -> None:
    inbox = Inbox()
    await inbox.put(DialFailed(STRANGER, ""))
    inbox.put_local(Cancelled(1, "cancelled"))
    assert [type(inbox.take()), type(inbox.take()), inbox.take()] == [
        Cancelled,
        DialFailed,
        None,
    ]


@under_mock_clock
async def test_a_slow_listener_loses_the_oldest_events_and_is_told_how_many() -> None:
    count = LIFE_MAX + 30
    machine = Puppet(
        lambda e: [Emit(PeerSeen(STRANGER, True, e.reason))] if isinstance(e, DialFailed) else []
    )
    async with driving(machine) as (driver, _):
        with driver.listening() as events:
            for i in range(count):
                await driver.feed(DialFailed(STRANGER, str(i)))
            await machine.has(DialFailed, count)
            await trio.testing.wait_all_tasks_blocked()
            seen = [await anext(events) for _ in range(LIFE_MAX)]
            assert events.lost == 30
        assert [e.reason for e in seen if isinstance(e, PeerSeen)] == [
            str(i) for i in range(30, count)
        ]
