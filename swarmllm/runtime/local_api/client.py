"""The client's side of the local socket: one question to a running node, and the records that
answer it.

A node may be frozen, and then nothing comes, for ever. A node that is at work tells so every few
seconds (`alive`), so that a long answer and a frozen node can be told apart; `Patience` says how
long a program waits, and what it says meanwhile.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from swarmllm.errors import ContextError, HaltedError, LocalError, SwarmError, UsageError
from swarmllm.runtime.holder import holder_of
from swarmllm.runtime.local_api.lines import (
    ALIVE,
    LINE_BYTES_MAX,
    NOTICE,
    VERSION,
    Lines,
    format_line,
    parse_line,
)
from swarmllm.runtime.local_api.socket_path import find, refuse_foreign
from swarmllm.runtime.service.record import NO_PARAMS, Record

_LOCAL_PEERPID: Final = 2  # macOS; Python does not name it.


class NoNodeError(LocalError):
    """No node runs on this data folder."""


@dataclass(frozen=True, slots=True)
class Patience:
    """`tell` gets a sentence every `word_s` seconds of waiting. After `end_s` without any sign of
    life, or `stuck_s` with nothing but that, the wait ends with a LocalError."""

    tell: Callable[[str], object] = lambda _: None
    word_s: float = 4.0  # Before a person has waited for 5 s without a word.
    end_s: float = 60.0
    # The largest models take minutes to load, and the node answers only then.
    stuck_s: float = 900.0


SILENT: Final = Patience()  # For programs, which have deadlines of their own.


class Wait:
    """One wait for the next thing that is asked for; what a node tells besides, such as why it
    takes long, does not end it."""

    def __init__(self, patience: Patience, node: str, pid: int) -> None:
        self._patience, self._node, self._pid = patience, node, pid
        self._began = self._lived = self._told = trio.current_time()

    def silent(self) -> None:
        """Nothing came. LocalError if that has lasted long enough."""
        now = trio.current_time()
        if now - self._lived >= self._patience.end_s:
            raise LocalError(
                f"{self._node} has not answered for {now - self._lived:.0f} s; {self._remedy()}"
            )
        self._say(now, f"it has said nothing for {now - self._lived:.0f} s")

    def alive(self) -> None:
        """Nothing came but a sign of life. LocalError if that has lasted long enough."""
        now = self._lived = trio.current_time()
        if now - self._began >= self._patience.stuck_s:
            raise LocalError(
                f"{self._node} is alive but has told nothing new for {now - self._began:.0f} s;"
                f" {self._remedy()}"
            )
        self._say(now, "it is at work")

    def told(self) -> None:
        """The node has said something itself about this wait."""
        self._lived = self._told = trio.current_time()

    def _say(self, now: float, what: str) -> None:
        if now - self._told >= self._patience.word_s - 0.5 * min(1.0, self._patience.word_s):
            self._told = now
            self._patience.tell(
                f"Still waiting for {self._node} ({now - self._began:.0f} s); {what}."
            )

    def _remedy(self) -> str:
        pid = self._pid or "PID"
        return (
            f"if it was suspended, `kill -CONT {pid}` lets it go on;"
            f" otherwise end it with `kill -KILL {pid}` and start it again"
        )


def pid_of(stream: trio.SocketStream) -> int:
    """The process at the other end of a Unix socket; 0 if the system does not tell."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            found = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("3i", found)[0])
        if sys.platform == "darwin":
            return int(stream.socket.getsockopt(0, _LOCAL_PEERPID))
    except OSError:
        return 0
    return 0


class Conversation:
    """One question to a running node, and the records that answer it. Iterate; an `error` record is
    raised as the error it tells."""

    def __init__(self, stream: trio.SocketStream, node: str, patience: Patience) -> None:
        self._stream = stream
        self._lines = Lines(stream, LINE_BYTES_MAX)
        self._patience, self._node, self._pid = patience, node, pid_of(stream)
        self._wait: Wait | None = None

    def _waiting(self) -> Wait:
        return Wait(
            self._patience,
            f"{self._node} (process {self._pid})" if self._pid else self._node,
            self._pid,
        )

    async def send(self, record: Record) -> None:
        """All of it; LocalError if the node takes none of it for long. BrokenResourceError if it
        has gone."""
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

    async def refusal(self) -> None:
        """Raise what a node said that has closed the connection before it was asked: it may be
        talking to as many programs as it can. Nothing, if it said nothing."""
        try:
            async for _ in self:
                return
        except trio.BrokenResourceError:
            return

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def cancel(self) -> None:
        """Ask for the end of a running answer; its `end` record still comes."""
        try:
            await self.send({"v": VERSION, "op": "cancel"})
        except trio.BrokenResourceError:
            return  # It has ended already.

    async def __anext__(self) -> Record:
        wait = self._wait = self._wait or self._waiting()
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
        if record.get("event") == NOTICE:
            wait.told()
        else:
            self._wait = None
        if record.get("event") == "error":
            raise _error_of(record)
        return record


def _error_of(record: Record) -> SwarmError:
    if record.get("code") == ContextError.code:
        excess = record.get("excess_tokens")
        return ContextError(
            str(record.get("message", "the text is too long for any expert")),
            excess if isinstance(excess, int) else 1,
        )
    kind = {2: UsageError, 3: HaltedError}.get(record.get("exit_code", 1), LocalError)
    return kind(str(record.get("message", "the node did not say what was wrong")))


def _nobody_listens(folder: Path) -> LocalError:
    """A node holds its folder before it has a socket, and a little longer."""
    pid = holder_of(folder)
    if pid is None:
        return NoNodeError(f"no node is running on {folder}; start one with `swarmllm join`")
    named = f" (process {pid})" if pid else ""
    return LocalError(
        f"the node on {folder}{named} is just starting or stopping and takes no questions;"
        " try again in some seconds, and if it stays so,"
        f" `kill -CONT {pid or 'PID'}` lets it go on if it was suspended"
    )


@asynccontextmanager
async def asking(
    folder: Path, op: str, patience: Patience = SILENT, /, **values: object
) -> AsyncIterator[Conversation]:
    """Ask the node that runs on this data folder. NoNodeError if none does; leaving the block early
    ends a running answer.

    `async with asking(folder, "generate", prompt="Once", k=3) as records: async for record in
    records: ...`
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
            f"cannot talk to the node on {folder} ({error.strerror});"
            " run this as the user who started it, or name another --data-dir"
        ) from error
    async with stream:
        conversation = Conversation(stream, f"the node on {folder}", patience)
        try:
            await conversation.send({"v": VERSION, "op": op, **values})
        except trio.BrokenResourceError as error:
            await conversation.refusal()
            raise NoNodeError(
                f"the node on {folder} has just stopped; start it again with `swarmllm join`"
            ) from error
        yield conversation


async def ask(folder: Path, op: str, patience: Patience = SILENT, /, **values: object) -> Record:
    """The one record that answers `status`, `experts` or `shutdown`."""
    async with asking(folder, op, patience, **values) as records:
        async for record in records:
            return record
    raise NoNodeError(
        f"the node on {folder} stopped before it answered; start it again with `swarmllm join`"
    )


class SocketClient:
    """The node that runs on a data folder, as a `service.Client`."""

    def __init__(self, folder: Path, patience: Patience = SILENT) -> None:
        self._folder = folder
        self._patience = patience

    def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AbstractAsyncContextManager[Conversation]:
        return asking(self._folder, op, self._patience, **params)
