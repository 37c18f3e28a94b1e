"""How other programs of the same user talk to a running node: one JSON object a line, over a Unix socket in the data folder.

A connection carries one question: the client sends a line `{"v": 1, "op": ...}`, and the node answers with records (`records`) and
closes; while it has nothing to tell it sends `alive` every 2 s. `generate` streams `token`, `notice` and at last `end`; `status`, `experts`
and `shutdown` answer with one record; `events` tells of experts and peers until somebody closes.
Whatever cannot be answered is one `error` record. A client that goes away (or sends the line
`{"op": "cancel"}`) ends its answer. The socket's mode and its folder keep other users out, so there is no password; everything is
bounded all the same, for a program of the same user may be broken.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import trio

from swarmllm.errors import HaltedError, LocalError, SwarmError, UsageError
from swarmllm.runtime.generation import Answer, Wish
from swarmllm.runtime.halt_desk import OPS as HALT_OPS
from swarmllm.runtime.holder import holder_of
from swarmllm.runtime.lines import Lines, format_line, parse_line
from swarmllm.runtime.local_node import LocalNode
from swarmllm.runtime.patience import ALIVE, ALIVE_EVERY_S, SILENT, Patience, Wait, pid_of
from swarmllm.runtime.records import (
    Record,
    Stopping,
    end_record,
    error_record,
    experts_record,
    life_record,
    part_record,
    starting_record,
    status_record,
)
from swarmllm.runtime.socket_path import bind, find, refuse_foreign

VERSION: Final = 1
LINE_BYTES_MAX: Final = (
    16 << 20
)  # A prompt that fills the largest context, with every character escaped; or a status of 4,096 experts.
CLIENTS_MAX: Final = 64  # As many answers as the node writes at once.
QUESTION_S: Final = 10.0  # For the client's line to arrive.
STALL_S: Final = 600.0  # A client that reads nothing for so long (`generate | less`, forgotten) is given up.

log = logging.getLogger("swarmllm.control")


class NoNodeError(LocalError):
    """No node runs on this data folder."""


# --- the node's side ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One client's question being answered. `cancelled`: it wants no more of the answer, but still its end."""

    stream: trio.SocketStream
    cancelled: trio.Event = field(default_factory=trio.Event)
    sending: trio.Lock = field(default_factory=trio.Lock)

    async def send(self, record: Record) -> None:
        """Waits for a slow client. BrokenResourceError if it has gone, TooSlowError if it does not read at all."""
        with trio.fail_after(STALL_S):
            async with self.sending:
                await self.stream.send_all(format_line(record))

    async def keep_alive(self) -> None:
        """Tell the client again and again that the node is at work, so that it can tell that from a frozen one."""
        while True:
            await trio.sleep(ALIVE_EVERY_S)
            if not self.sending.locked():
                await self.send({"event": ALIVE})


class Desk:
    """The questions that one node answers; it may still be starting, and then only `status` and `shutdown` are answered at once."""

    def __init__(self) -> None:
        self.node: LocalNode | None = None
        self._open = trio.Event()
        self._shutdown = trio.Event()

    def open(self, node: LocalNode) -> None:
        self.node = node
        self._open.set()

    async def wait_shutdown(self) -> None:
        """Until a client asks for the node to stop."""
        await self._shutdown.wait()

    async def answer(self, question: Record, call: Call) -> None:
        """Raises UsageError or LocalError, which is then the answer."""
        match question.get("op"):
            case "status":
                await call.send(starting_record() if self.node is None else status_record(self.node.status()))
            case "experts":
                await call.send(experts_record(() if self.node is None else self.node.experts()))
            case "shutdown":
                await call.send(life_record(Stopping("asked to")))
                self._shutdown.set()
            case "events":
                await self._events(call)
            case "generate":
                await self._generate(question, call)
            case str(op) if op in HALT_OPS:
                node = await self._started()
                if node.halts is None:
                    raise LocalError("this node runs without a kill switch; ask one that `swarmllm join` started")
                await node.halts.answer(question, call.send)
            case other:
                known = ", ".join(["generate", "status", "experts", "events", "shutdown", *sorted(HALT_OPS)])
                raise UsageError(f"the node knows no op {str(other)[:40]!r}; it knows {known}")

    async def _events(self, call: Call) -> None:
        node = await self._started()
        with node.events() as events:
            async for event in events:
                await call.send(life_record(event))

    async def _generate(self, question: Record, call: Call) -> None:
        wish = parse_wish(question)
        wish.check()  # A mistake is told at once, also while the node is still starting.
        node = await self._started()
        async with node.answer(wish) as answer, trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, call.cancelled, answer)
            while (part := await answer.next_part()) is not None:
                await call.send(part_record(part))
            nursery.cancel_scope.cancel()
        assert answer.result is not None
        await call.send(end_record(answer.result))

    async def _started(self) -> LocalNode:
        await self._open.wait()
        assert self.node is not None
        return self.node


async def _cancel_when(cancelled: trio.Event, answer: Answer) -> None:
    await cancelled.wait()
    answer.cancel()


_FIELDS: Final = {field.name: field for field in fields(Wish)}
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, type(None)),
}


def parse_wish(question: Record) -> Wish:
    """The wish in a `generate` question. UsageError for a missing, unknown or mistyped field."""
    values = {key: value for key, value in question.items() if key not in {"v", "op"}}
    for name, value in values.items():
        if name not in _FIELDS:
            raise UsageError(f"generate takes no field {name[:40]!r}; it takes {', '.join(_FIELDS)}")
        if name == "stop":
            if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
                raise UsageError("the field 'stop' of generate is a list of strings; correct or leave it out")
            values["stop"] = tuple(value)
        elif name == "turns":
            if not isinstance(value, list) or not all(type(turn) is int for turn in value):
                raise UsageError("the field 'turns' of generate is a list of whole numbers; correct or leave it out")
            values["turns"] = tuple(value)
        elif not isinstance(value, _TYPES[str(_FIELDS[name].type)]) or isinstance(value, bool):
            raise UsageError(
                f"the field {name!r} of generate is {_FIELDS[name].type}, not {type(value).__name__}; correct or leave it out"
            )
    if "prompt" not in values:
        raise UsageError("generate needs the field 'prompt'; give the text that is to be continued")
    return Wish(**values)


async def serve(desk: Desk, folder: Path, *, fallback: Path, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Listen until cancelled; `started` is called with the path of the socket. LocalError if it cannot be made.

    `fallback` is a folder with a short path, for data folders whose own is too long for a socket.
    """
    with bind(folder, fallback) as (listening, path):
        clients = trio.CapacityLimiter(CLIENTS_MAX)

        async def attend(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    clients.acquire_nowait()
                except trio.WouldBlock:
                    await _refuse(stream, LocalError(f"{CLIENTS_MAX} programs are talking to this node already; try again later"))
                    return
                try:
                    await _attend(desk, stream)
                # The guard's purpose: a fault in answering one local question must not end the node, nor say in the log what was asked.
                except Exception as fault:  # noqa: BLE001
                    log.error("a fault of our own while answering a local program: %s", _kinds(fault))
                    await _refuse(
                        stream,
                        LocalError(
                            "the node stopped this answer by a fault of its own; node.log in its data folder says which kind"
                        ),
                    )
                finally:
                    clients.release()

        task_status.started(path)
        await trio.serve_listeners(attend, [trio.SocketListener(listening)])


async def _attend(desk: Desk, stream: trio.SocketStream) -> None:
    lines = Lines(stream, LINE_BYTES_MAX)
    try:
        question = await _question(lines)
        async with trio.open_nursery() as nursery:
            call = Call(stream)
            nursery.start_soon(_watch, lines, call, nursery.cancel_scope)
            nursery.start_soon(call.keep_alive)
            await desk.answer(question, call)
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


async def _question(lines: Lines) -> Record:
    line: bytes | None = None
    with trio.move_on_after(QUESTION_S):
        line = await lines.next()
    if not line:
        raise UsageError(f"no question came within {QUESTION_S:.0f} s; send one JSON object on a line")
    question = parse_line(line)
    if question.get("v") != VERSION:
        raise UsageError(
            f"this node speaks version {VERSION}, not {str(question.get('v'))[:20]!r}; use the same swarmllm for both"
        )
    return question


async def _watch(lines: Lines, call: Call, scope: trio.CancelScope) -> None:
    """A second line, whatever it says, asks for the end of the answer; the end of the stream means that nobody reads it."""
    while await lines.next() is not None:
        call.cancelled.set()
    scope.cancel()


async def _refuse(stream: trio.SocketStream, error: SwarmError) -> None:
    """Tell the client why, if it still listens; a second is enough for one line into a local socket."""
    with trio.move_on_after(1.0):
        try:
            await stream.send_all(format_line(error_record(error)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away before it could be told what was wrong")


# --- the client's side -------------------------------------------------------------------------------------------------------


class Conversation:
    """One question to a running node, and the records that answer it. Iterate; an `error` record is raised as the error it tells."""

    def __init__(self, stream: trio.SocketStream, node: str, patience: Patience) -> None:
        self._stream = stream
        self._lines = Lines(stream, LINE_BYTES_MAX)
        self._patience, self._node, self._pid = patience, node, pid_of(stream)

    def _waiting(self) -> Wait:
        return Wait(self._patience, f"{self._node} (process {self._pid})" if self._pid else self._node, self._pid)

    async def send(self, record: Record) -> None:
        """All of it; LocalError if the node takes none of it for long. BrokenResourceError if it has gone."""
        rest, wait = memoryview(format_line(record)), self._waiting()
        while rest:
            sent = 0
            with trio.move_on_after(self._patience.word_s):
                try:
                    sent = await self._stream.socket.send(rest)
                except OSError as error:
                    raise trio.BrokenResourceError from error
            rest = rest[sent:]
            if not sent:
                wait.silent()

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def cancel(self) -> None:
        """Ask for the end of a running answer; its `end` record still comes."""
        try:
            await self.send({"v": VERSION, "op": "cancel"})
        except trio.BrokenResourceError:
            return  # It has ended already.

    async def __anext__(self) -> Record:
        wait = self._waiting()
        while True:
            line: bytes | None = None
            with trio.move_on_after(self._patience.word_s) as scope:
                line = await self._lines.next()
            if scope.cancelled_caught:
                wait.silent()
                continue
            if line is None:
                raise StopAsyncIteration
            record = parse_line(line)
            if record.get("event") != ALIVE:
                break
            wait.alive()
        if record.get("event") == "error":
            raise _error_of(record)
        return record


def _error_of(record: Record) -> SwarmError:
    kind = {2: UsageError, 3: HaltedError}.get(record.get("exit_code", 1), LocalError)
    return kind(str(record.get("message", "the node did not say what was wrong")))


def _nobody_listens(folder: Path) -> LocalError:
    """A node holds its folder before it has a socket, and a little longer."""
    pid = holder_of(folder)
    if pid is None:
        return NoNodeError(f"no node is running on {folder}; start one with `swarmllm join`")
    named = f" (process {pid})" if pid else ""
    return LocalError(
        f"the node on {folder}{named} is just starting or stopping and takes no questions; try again in some seconds, and if it stays"
        f" so, `kill -CONT {pid or 'PID'}` lets it go on if it was suspended"
    )


@asynccontextmanager
async def asking(folder: Path, op: str, patience: Patience = SILENT, /, **values: object) -> AsyncIterator[Conversation]:
    """Ask the node that runs on this data folder. NoNodeError if none does; leaving the block early ends a running answer.

    `async with asking(folder, "generate", prompt="Once", k=3) as records: async for record in records: ...`
    """
    path = find(folder)
    if path is None:
        raise _nobody_listens(folder)
    try:
        refuse_foreign(path)
        stream = await trio.open_unix_socket(str(path))
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ECONNREFUSED}:
            raise _nobody_listens(folder) from error
        raise LocalError(
            f"cannot talk to the node on {folder} ({error.strerror}); run this as the user who started it, or name another --data-dir"
        ) from error
    async with stream:
        conversation = Conversation(stream, f"the node on {folder}", patience)
        try:
            await conversation.send({"v": VERSION, "op": op, **values})
        except trio.BrokenResourceError as error:
            raise NoNodeError(f"the node on {folder} has just stopped; start it again with `swarmllm join`") from error
        yield conversation


async def ask(folder: Path, op: str, patience: Patience = SILENT, /, **values: object) -> Record:
    """The one record that answers `status`, `experts` or `shutdown`."""
    async with asking(folder, op, patience, **values) as records:
        async for record in records:
            return record
    raise NoNodeError(f"the node on {folder} stopped before it answered; start it again with `swarmllm join`")
