"""A virtual clock for tests: under trio's `MockClock` a sleep of an hour costs nothing, and two
moments can be compared exactly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Final, ParamSpec, TypeVar, overload

import trio
import trio.testing

LIMIT_S: Final = 3600.0
"""Virtual seconds for one test. Without any deadline, a test that waits for what never comes would
wait for real."""
THREADS_S: Final = 0.05
"""Real seconds that the clock stands still for threads at work: ample for a write to a double of a
disk, and not for ever, since a test may hold a thread up."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


@overload
def under_mock_clock(test: Callable[_P, Awaitable[_T]], /) -> Callable[_P, _T]: ...


@overload
def under_mock_clock(
    *, idle_s: float
) -> Callable[[Callable[_P, Awaitable[_T]]], Callable[_P, _T]]: ...


def under_mock_clock(
    test: Callable[_P, Awaitable[_T]] | None = None, /, *, idle_s: float = 0.0
) -> Callable[_P, _T] | Callable[[Callable[_P, Awaitable[_T]]], Callable[_P, _T]]:
    """Run a coroutine function to its end under a clock that jumps to the next deadline whenever
    every task waits and no thread works. Decorates a test, below `parametrize` and `given`;
    elsewhere, `under_mock_clock(body)()`.

    `idle_s`: for how many real seconds every task must have waited before the clock jumps. Zero,
    unless sockets are at work, of which trio cannot know what is still to come.
    """
    if test is None:
        return partial(_under_mock_clock, idle_s=idle_s)
    return _under_mock_clock(test, idle_s)


def _under_mock_clock(test: Callable[_P, Awaitable[_T]], idle_s: float) -> Callable[_P, _T]:
    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        clock = trio.testing.MockClock(autojump_threshold=idle_s)

        async def limited() -> _T:
            trio.lowlevel.add_instrument(_Standstill(clock, idle_s))
            with trio.fail_after(LIMIT_S):
                return await test(*args, **kwargs)

        return trio.run(limited, clock=clock)

    return run


class _Standstill(trio.abc.Instrument):
    """`MockClock` knows nothing of threads: with a threshold of zero it lets hours pass during one
    write, and with another every jump costs that much. So the threshold follows the threads."""

    def __init__(self, clock: trio.testing.MockClock, idle_s: float) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._threads = trio.to_thread.current_default_thread_limiter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        wanted = max(self._idle_s, THREADS_S) if self._threads.borrowed_tokens else self._idle_s
        if self._clock.autojump_threshold != wanted:
            self._clock.autojump_threshold = wanted
