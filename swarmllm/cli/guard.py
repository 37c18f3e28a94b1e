"""Every command ends here: one sentence and an exit code, never a traceback, and within seconds when asked to stop.

Codes: 0 done, 1 failed, 2 used wrongly, 3 halted, 130 interrupted before it was done. `SWARMLLM_DEBUG=1` shows tracebacks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarmllm.cli.output import complain, trace
from swarmllm.errors import SwarmError

if TYPE_CHECKING:
    import trio

OK, FAILED, INTERRUPTED = 0, 1, 130
LEAVE_MAX_S = 4.0  # A clean farewell takes under 2 s; past twice that something is stuck and the process just ends.


def guarded(body: Callable[[], int]) -> int:
    """The exit code of `body`, whatever it raises."""
    try:
        with _sigterm_as_sigint():
            return body()
    except BaseException as raised:  # noqa: BLE001  This is the guard: the last frame of every command.
        return _exit_code_of(raised)


def _exit_code_of(raised: BaseException) -> int:
    leaves = list(_leaves(raised))
    ours = [e for e in leaves if isinstance(e, SwarmError)]
    if os.environ.get("SWARMLLM_DEBUG") == "1":
        trace(raised)
    if ours:
        complain(str(ours[0]))
        return ours[0].exit_code
    for leaf in leaves:
        match leaf:
            case SystemExit(code=code):
                return code if isinstance(code, int) else FAILED
            case BrokenPipeError():
                _forget_stdout()
                return OK  # The reader has what it wanted.
            case KeyboardInterrupt():
                continue
            case MemoryError():
                complain("not enough memory; use a smaller model, --context or --sessions")
                return FAILED
            case _:
                complain(
                    f"stopped by a fault of its own: {type(leaf).__name__}: {leaf} (SWARMLLM_DEBUG=1 shows where; please report it)"
                )
                return FAILED
    return INTERRUPTED


def _leaves(raised: BaseException) -> Iterator[BaseException]:
    """The exceptions inside nested groups (trio's nurseries raise groups), in order."""
    if isinstance(raised, BaseExceptionGroup):
        for inner in raised.exceptions:
            yield from _leaves(inner)
    else:
        yield raised


def _forget_stdout() -> None:
    """Nobody reads standard output: let the interpreter's own flush at exit go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


@contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """SIGTERM stops a command exactly as Ctrl-C does, also while modules are still being imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(
    body: Callable[[], Awaitable[int]], *, interrupted: int = INTERRUPTED, at_force: Callable[[], None] = lambda: None
) -> int:
    """Run a trio program until it ends or somebody interrupts it; then the exit code is `interrupted`.

    The first SIGINT or SIGTERM cancels `body`, whose clean-up must take under 2 s; the second one, or LEAVE_MAX_S, ends the process
    at once after `at_force()`.
    """
    import trio  # Here, so that help and usage errors need not wait for it.

    return trio.run(_main, body, interrupted, at_force)


async def _main(body: Callable[[], Awaitable[int]], interrupted: int, at_force: Callable[[], None]) -> int:
    import trio

    code = interrupted

    def force() -> None:
        at_force()
        os._exit(interrupted)

    patience = threading.Timer(LEAVE_MAX_S, force)
    patience.daemon = True

    async def watch(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for _ in signals:
            if scope.cancel_called:
                force()
            scope.cancel()
            patience.start()

    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(watch, signals, scope)
                with scope:
                    code = await body()
                nursery.cancel_scope.cancel()
    finally:
        patience.cancel()
    return code
