"""The node's side of the local socket: how other programs of the same user talk to a running node,
one JSON object a line.

A connection carries one question: the client sends a line `{"v": 1, "op": ..., PARAMETERS}`, and
the node sends the records with which its `Service` answers, and closes; while it has nothing to
tell it sends `alive` every 2 s. Whatever cannot be answered is one `error` record. A client that
goes away (or sends the line `{"op": "cancel"}`) ends its answer. The socket's mode and its folder
keep other users out, so there is no password; everything is bounded all the same, for a program of
the same user may be broken.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.errors import LocalError, SwarmError, UsageError
from swarmllm.runtime.local_api.lines import (
    ALIVE,
    ALIVE_EVERY_S,
    LINE_BYTES_MAX,
    VERSION,
    Lines,
    format_line,
    parse_line,
)
from swarmllm.runtime.local_api.socket_path import bind
from swarmllm.runtime.service.json_events import error_record
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Call, Service

CLIENTS_MAX: Final = 64  # As many answers as the node writes at once.
QUESTION_S: Final = 10.0  # For the client's line to arrive.
# A client that reads nothing for so long (`generate | less`, forgotten) is given up.
STALL_S: Final = 600.0

log = logging.getLogger("swarmllm.local_api")


@dataclass(frozen=True, slots=True)
class _Outlet:
    """Where one client's records go."""

    stream: trio.SocketStream
    sending: trio.Lock = field(default_factory=trio.Lock)

    async def send(self, record: Record) -> None:
        """Waits for a slow client. BrokenResourceError if it has gone, TooSlowError if it does not
        read at all."""
        with trio.fail_after(STALL_S):
            async with self.sending:
                await self.stream.send_all(format_line(record))

    async def keep_alive(self) -> None:
        """Tell the client again and again that the node is at work, so that it can tell that from a
        frozen one."""
        while True:
            await trio.sleep(ALIVE_EVERY_S)
            if not self.sending.locked():
                await self.send({"event": ALIVE})


async def serve(
    service: Service, folder: Path, *, fallback: Path, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Listen until cancelled; `started` is called with the path of the socket. LocalError if it
    cannot be made.

    `fallback` is a folder with a short path, for data folders whose own is too long for a socket.
    """
    with bind(folder, fallback) as (listening, path):
        clients = trio.CapacityLimiter(CLIENTS_MAX)

        async def attend(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    clients.acquire_nowait()
                except trio.WouldBlock:
                    await _refuse(
                        stream,
                        LocalError(
                            f"{CLIENTS_MAX} programs are talking to this node already;"
                            " try again later"
                        ),
                    )
                    return
                try:
                    await _attend(service, stream)
                # The guard's purpose: a fault in answering one local question must not end the
                # node, nor say in the log what was asked.
                except Exception as fault:  # noqa: BLE001
                    log.error(
                        "a fault of our own while answering a local program: %s", _kinds(fault)
                    )
                    await _refuse(
                        stream,
                        LocalError(
                            "the node stopped this answer by a fault of its own;"
                            " node.log in its data folder says which kind"
                        ),
                    )
                finally:
                    clients.release()

        task_status.started(path)
        await trio.serve_listeners(attend, [trio.SocketListener(listening)])


async def _attend(service: Service, stream: trio.SocketStream) -> None:
    lines = Lines(stream, LINE_BYTES_MAX)
    try:
        op, params = await _question(lines)
        async with trio.open_nursery() as nursery:
            outlet, call = _Outlet(stream), service.call(op, params)
            nursery.start_soon(_watch, lines, call, nursery.cancel_scope)
            nursery.start_soon(outlet.keep_alive)
            async with call:
                async for record in call:
                    await outlet.send(record)
            nursery.cancel_scope.cancel()
    except* SwarmError as group:
        await _refuse(stream, _first(group))
    except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        log.debug("a client went away in the middle of an answer")


def _kinds(fault: BaseException) -> str:
    if isinstance(fault, BaseExceptionGroup):
        return ", ".join(_kinds(inner) for inner in fault.exceptions)
    return type(fault).__name__


def _first(group: BaseExceptionGroup[SwarmError]) -> SwarmError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _question(lines: Lines) -> tuple[str, Record]:
    line: bytes | None = None
    with trio.move_on_after(QUESTION_S):
        line = await lines.next()
    if not line:
        raise UsageError(
            f"no question came within {QUESTION_S:.0f} s; send one JSON object on a line"
        )
    params = parse_line(line)
    version, op = params.pop("v", None), params.pop("op", None)
    if version != VERSION:
        raise UsageError(
            f"this node speaks version {VERSION}, not {str(version)[:20]!r};"
            " use the same swarmllm for both"
        )
    return op if isinstance(op, str) else repr(op), params


async def _watch(lines: Lines, call: Call, scope: trio.CancelScope) -> None:
    """A second line, whatever it says, asks for the end of the answer; the end of the stream means
    that nobody reads it."""
    while await lines.next() is not None:
        call.cancel()
    scope.cancel()


async def _refuse(stream: trio.SocketStream, error: SwarmError) -> None:
    """Tell the client why, if it still listens; a second is enough for one line into a local
    socket."""
    with trio.move_on_after(1.0):
        try:
            await stream.send_all(format_line(error_record(error)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away before it could be told what was wrong")
