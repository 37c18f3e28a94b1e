"""The node's log as lines for a service manager: one JSON object each, on standard error.

Log lines come from any thread and in the middle of the node's work, so they are handed to the event
loop and written by whoever writes the rest: a reader that does not read holds nothing up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from swarmllm.cli.output import in_thread, log_line, print_record_async
from swarmllm.runtime.logs import OURS, THEIRS, JsonLines
from swarmllm.runtime.service.record import Record

LIFE: Final = "swarmllm.life"


class LogStream(logging.Handler):
    """`put` is called within the event loop of `token`."""

    def __init__(self, put: Callable[[Record], None], token: trio.lowlevel.TrioToken) -> None:
        super().__init__()
        self._put, self._token = put, token
        self._lines = JsonLines()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._token.run_sync_soon(self._put, self._lines.fields(record))
        except trio.RunFinishedError:
            return  # Nobody writes any more; the file has it.


@contextmanager
def streaming(put: Callable[[Record], None]) -> Iterator[None]:
    """What loggers are given that write the node's file goes to `put`, too; at which levels they
    write is decided there."""
    handler = LogStream(put, trio.lowlevel.current_trio_token())
    loggers = [logging.getLogger(name) for name in (OURS, *THEIRS)]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def life_line(record: Record) -> Record:
    """A record of the node's life as a line of its log."""
    rest = {name: value for name, value in record.items() if name not in {"time", "event"}}
    level = (
        "warning"
        if record["event"] in {"warning", "halted", "log_doubted", "serving_paused"}
        else "info"
    )
    told = {"level": level, "event": LIFE, "message": record["event"], "record": rest}
    return {"time": record["time"], **told}


async def show(line: Record) -> None:
    """A line of the log on standard error, any other record on standard output."""
    if "level" in line:
        await in_thread(log_line, line)
    else:
        await print_record_async(line)
