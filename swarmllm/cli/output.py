"""What a command was asked to show goes to standard output, for people as for machines (`--json`); progress, notices and errors go to
standard error. This module is the one place where the commands write to either.

Records and text go to file descriptor 1 directly: a reader that has gone (`| head`) shows at once, and nothing is left in a buffer
whose flush could fail or block while the interpreter shuts down.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

_writing = threading.Lock()
T = TypeVar("T")


def write_stdout(text: str) -> None:
    """Write all of `text`; BrokenPipeError if nobody reads any more."""
    data = text.encode("utf-8", "replace")
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # Replaced by an object without a descriptor (a test, a notebook).
        sys.stdout.write(text)
        return
    while data:
        data = data[os.write(descriptor, data) :]


async def in_thread(write: Callable[[T], object], what: T) -> None:
    """Write from a trio task: a reader that is slow, or has stopped, must not hold up the node (nor its lease on the engine).

    When cancelled, the thread is left to itself; whoever writes next waits for it, so lines stay whole.
    """
    import trio  # Here, so that help and usage errors need not wait for it.

    def alone() -> None:
        with _writing:
            write(what)

    await trio.to_thread.run_sync(alone, abandon_on_cancel=True)  # type: ignore[call-arg]  # Some installed stubs are older than trio.


async def write_stdout_async(text: str) -> None:
    await in_thread(write_stdout, text)


def line(record: Mapping[str, object]) -> str:
    """One record as one line of JSON; `time` (Unix seconds) is added if it is missing."""
    complete = dict(record) if "time" in record else {**record, "time": round(time.time(), 3)}
    return json.dumps(complete, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def print_record(record: Mapping[str, object]) -> None:
    write_stdout(line(record))


async def print_record_async(record: Mapping[str, object]) -> None:
    await write_stdout_async(line(record))


def people(*, width: int | None = None) -> Console:
    """The console for what is told besides, such as progress: standard error, colours only on a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=False, width=width)


def answer(*, width: int | None = None) -> Console:
    """The console for what a command was asked to show: standard output, so that `swarmllm doctor > file` holds it."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, width=width)


def complain(sentence: str) -> None:
    """One sentence of an error, red on a terminal. Plain writing, since it must work when all else does not."""
    red, end = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    try:
        sys.stderr.write(f"{red}swarmllm: {sentence}{end}\n")
        sys.stderr.flush()
    except OSError:
        return  # Nobody is there to read it; the exit code still tells.


def notice(sentence: str) -> None:
    """One sentence that is no error."""
    dim, end = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    try:
        sys.stderr.write(f"{dim}{sentence}{end}\n")
        sys.stderr.flush()
    except OSError:
        return


def short_peer(peer: str) -> str:
    """A peer id as people compare it: all Ed25519 ids begin alike, so the end tells them apart."""
    return peer if len(peer) <= 8 else f"…{peer[-6:]}"


def ago(seconds: float) -> str:
    """A duration for people: 3 s, 4 min, 2 h, 5 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of 1,000 as disks and networks count."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= one:
            return f"{n_bytes / one:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def count(number: float) -> str:
    """A count for people: 6.1 M, 8.0 B."""
    for unit, one in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= one:
            return f"{number / one:.1f} {unit}"
    return f"{number:.0f}"
