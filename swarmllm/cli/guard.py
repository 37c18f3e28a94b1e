"""Every command ends here: one sentence and an exit code, never a traceback, and within seconds
when asked to stop.

Codes: 0 done, 1 failed, 2 used wrongly, 3 halted, 130 interrupted before it was done.
`SWARMLLM_DEBUG=1` shows tracebacks.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from swarmllm.cli.output import complain, trace
from swarmllm.cli.progress_line import progress_line
from swarmllm.cli.streams import forget_output
from swarmllm.errors import SwarmError

if TYPE_CHECKING:
    import trio

OK, FAILED, INTERRUPTED = 0, 1, 130
# A clean farewell takes under 2 s; past twice that something is stuck and the process just ends.
LEAVE_MAX_S = 4.0


def guarded(body: Callable[[], int]) -> int:
    """The exit code of `body`, whatever it raises."""
    try:
        with _ended_as_interrupted():
            return body()
    except BaseException as raised:  # noqa: BLE001  This is the guard: the last frame of every command.
        return exit_code_of(raised)
    finally:
        progress_line.clear()


def exit_code_of(raised: BaseException) -> int:
    """One sentence on standard error, unless nothing went wrong, and the exit code."""
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
                forget_output()
                return OK  # The reader has what it wanted.
            case KeyboardInterrupt():
                continue
            case MemoryError():
                complain("not enough memory; use a smaller model, --context or --sessions")
                return FAILED
            case OSError() if sentence := machine_fault(leaf):
                complain(sentence)
                return FAILED
            case UnicodeEncodeError(object=text, start=start) if (
                0xDC80 <= ord(text[start]) <= 0xDCFF
            ):
                complain(
                    f"{text[:100]!r} holds bytes that are not UTF-8, and here only text will do;"
                    " give another name or text"
                )
                return FAILED
            case _:
                complain(
                    f"stopped by a fault of its own: {type(leaf).__name__}:"
                    f" {leaf} (SWARMLLM_DEBUG=1 shows where; please report it)"
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


_REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EMFILE: "allow this user more open files with `ulimit -n 4096`",
    errno.ENFILE: "close other programs: the whole system has too many files open",
    errno.ENOMEM: "close other programs, or use a smaller model, --context or --sessions",
    errno.EAGAIN: "close other programs, or allow this user more processes with `ulimit -u`",
    errno.EIO: "check the disk",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "correct its permissions, or choose another one",
    errno.EPERM: "correct its permissions, or choose another one",
    errno.ENOENT: "check that it is there",
    errno.ENOTDIR: "check its path: a part of it is no folder",
    errno.EISDIR: "give a file, not a folder",
    errno.ELOOP: "check its path: its links lead in a circle",
    errno.ENAMETOOLONG: "give a shorter path",
}
_OF_ITSELF: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS}
)
"""These tell enough without the name of a file."""


def machine_fault(error: OSError) -> str:
    """What the machine refused, with what to do; empty if that would not tell a person anything."""
    if str(error.strerror).startswith("No usable temporary directory"):
        return "no folder for temporary files can be written; name one in the variable TMPDIR"
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None or (error.filename is None and error.errno not in _OF_ITSELF):
        return ""
    what = "something that is needed" if error.filename is None else os.fsdecode(error.filename)
    return f"the system refuses {what} ({error.strerror}); {remedy}"


def ending_signals() -> tuple[signal.Signals, ...]:
    """By which a command is ended from outside: SIGTERM, and SIGHUP (its terminal is gone) unless
    whoever started it has it ignored, as `nohup` does."""
    hung_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGHUP) if hung_up else (signal.SIGTERM,)


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """They stop a command exactly as Ctrl-C does, also while modules are still being imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.default_int_handler) for number in ending_signals()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    body: Callable[[], Awaitable[int]],
    *,
    interrupted: int = INTERRUPTED,
    at_force: Callable[[], None] = lambda: None,
) -> int:
    """Run a trio program until it ends or somebody interrupts it; then the exit code is
    `interrupted`.

    The first SIGINT, SIGTERM or SIGHUP cancels `body`, whose clean-up must take under 2 s; the
    second one, or LEAVE_MAX_S, ends the process at once after `at_force()`.
    """
    import trio  # Here, so that help and usage errors need not wait for it.

    return trio.run(_main, body, interrupted, at_force)


async def _main(
    body: Callable[[], Awaitable[int]], interrupted: int, at_force: Callable[[], None]
) -> int:
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
        with trio.open_signal_receiver(signal.SIGINT, *ending_signals()) as signals:
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(watch, signals, scope)
                with scope:
                    code = await body()
                nursery.cancel_scope.cancel()
    finally:
        patience.cancel()
    return code
