"""Calls from threads into the loop: bounded, ended by either side, and never at the loop's cost."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pytest
import trio
import trio.testing

from swarmllm.adapters.grpc_service.bridge import WINDOW, Bridge, ClosedError, LateError, Question
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.service.record import NO_PARAMS, Record


class Scripted:
    """A service: `count` gives numbers without an end, `few` three, `wait` nothing, `fault` fails
    in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.made = 0
        self.ended = trio.Event()

    def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AbstractAsyncContextManager[AsyncIterator[Record]]:
        return aclosing(self._records(op))

    async def _records(self, op: str) -> AsyncGenerator[Record]:
        try:
            match op:
                case "count" | "few":
                    while op == "count" or self.made < 3:
                        self.made += 1
                        yield {"number": self.made}
                        await trio.lowlevel.checkpoint()
                case "wait":
                    await trio.sleep_forever()
                case "fault":
                    raise ZeroDivisionError
                case _:
                    raise UsageError("no such op")
        finally:
            self.ended.set()


@asynccontextmanager
async def bridged() -> AsyncIterator[tuple[Scripted, Bridge]]:
    service = Scripted()
    async with trio.open_nursery() as nursery:
        bridge = Bridge(service, nursery)
        try:
            yield service, bridge
        finally:
            bridge.close()


def run(body: Callable[[Scripted, Bridge], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(30):
            async with bridged() as (service, bridge):
                await body(service, bridge)

    trio.run(limited)


def asked(bridge: Bridge, op: str, deadline: float = math.inf) -> list[Record]:
    return list(bridge.ask(Question(op, {}), min(deadline, time.monotonic() + 30)))


def test_records_come_in_order_and_end() -> None:
    async def body(_: Scripted, bridge: Bridge) -> None:
        found = await trio.to_thread.run_sync(asked, bridge, "few")
        assert found == [{"number": number} for number in (1, 2, 3)]

    run(body)


def test_a_slow_reader_makes_the_service_wait_and_one_that_leaves_ends_it() -> None:
    async def body(service: Scripted, bridge: Bridge) -> None:
        def some(number: int) -> None:
            records = bridge.ask(Question("count", {}), time.monotonic() + 30)
            for _, _ in zip(range(number), records, strict=False):
                pass
            trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.01)
            # What is read, what may wait to be, and the one that the service tries to give.
            assert service.made <= number + WINDOW + 1
            records.close()  # type: ignore[attr-defined]

        await trio.to_thread.run_sync(some, 5)
        await service.ended.wait()

    run(body)


@pytest.mark.parametrize(
    ("op", "error", "says"),
    [("nothing", UsageError, "no such op"), ("fault", LocalError, "a fault of its own")],
)
def test_errors_come_out_as_such_and_faults_end_only_their_own_call(
    op: str, error: type[Exception], says: str
) -> None:
    async def body(_: Scripted, bridge: Bridge) -> None:
        with pytest.raises(error, match=says):
            await trio.to_thread.run_sync(asked, bridge, op)
        assert len(await trio.to_thread.run_sync(asked, bridge, "few")) == 3

    run(body)


def test_a_deadline_ends_the_question() -> None:
    async def body(service: Scripted, bridge: Bridge) -> None:
        with pytest.raises(LateError):
            await trio.to_thread.run_sync(asked, bridge, "wait", 0.0)
        await service.ended.wait()

    run(body)


def test_a_cancelled_question_is_over_for_its_reader() -> None:
    async def body(service: Scripted, bridge: Bridge) -> None:
        question = Question("wait", {})

        def read() -> None:
            with pytest.raises(ClosedError):
                list(bridge.ask(question, time.monotonic() + 30))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read)
            await trio.testing.wait_all_tasks_blocked(0.01)
            bridge.cancel(question)
        assert service.ended.is_set()

    run(body)


def test_closing_ends_open_questions_and_takes_no_more() -> None:
    async def body(service: Scripted, bridge: Bridge) -> None:
        errors: list[Exception] = []

        def read() -> None:
            try:
                asked(bridge, "wait")
            except ClosedError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read)
            await trio.testing.wait_all_tasks_blocked(0.01)
            bridge.close()
        assert len(errors) == 1
        await trio.to_thread.run_sync(read)
        assert len(errors) == 2

    run(body)


def test_a_loop_that_has_ended_takes_no_question() -> None:
    kept: list[Bridge] = []

    async def body(_: Scripted, bridge: Bridge) -> None:
        kept.append(bridge)

    run(body)
    with pytest.raises(ClosedError):
        asked(kept[0], "few")
