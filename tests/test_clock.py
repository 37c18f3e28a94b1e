"""Laws of the virtual clock: sleep costs nothing, threads are waited for, and nothing waits for
ever."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from tests.clock import LIMIT_S, THREADS_S, under_mock_clock


@under_mock_clock
async def test_an_hour_passes_at_once_and_to_the_instant() -> None:
    await trio.sleep(LIMIT_S - 1)
    assert trio.current_time() == LIMIT_S - 1


@pytest.mark.parametrize("name", ["what pytest hands over arrives"])
@under_mock_clock
async def test_arguments_arrive(name: str) -> None:
    assert name.endswith("arrives")


@under_mock_clock
async def test_the_clock_stands_still_while_a_thread_works() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1000)
        await trio.to_thread.run_sync(time.sleep, THREADS_S / 5)
        assert trio.current_time() == 0


@under_mock_clock
async def test_whoever_waits_until_nothing_happens_comes_before_the_jump() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 0


def test_what_never_comes_ends_in_an_error_and_results_are_given_back() -> None:
    with pytest.raises(trio.TooSlowError):
        under_mock_clock(trio.sleep_forever)()

    async def result() -> int:
        return 7

    assert under_mock_clock(result)() == 7
