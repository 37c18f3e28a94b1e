"""Node processes that another command starts, watches and always cleans up: `swarmllm join --json`
as a child.

A child reports through its records and is known to be well or not by them, so every wait here has a
deadline and ends early when the child dies; either failure names the node and shows its last words.
Children sit in sessions of their own (Ctrl-C is for the parent to decide) and leave when their
standard input closes, so that even a parent that is killed leaves nothing running.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil
import trio

from swarmllm.errors import LocalError
from swarmllm.runtime.service.record import Record

JOIN: Final = ("swarmllm", "join")
LEAVE_S: Final = 3.0  # A node says goodbye within 2 s; after that it is killed.
LINE_MAX: Final = 1 << 20  # Characters of one record; the longest hold an answer's whole text.
RECORDS_MAX: Final = 10_000  # Kept per child for the waits; a demo makes some hundred.
LAST_LINES: Final = 8


class NodeProcess:
    """One child. `peer` is its peer id once it is ready."""

    def __init__(self, name: str, folder: Path, process: trio.Process, log: Path) -> None:
        self.name = name
        self.folder = folder
        self.process = process
        self.peer = ""
        self.records: list[Record] = []
        self._log = log
        self._changed = trio.Event()
        self._ended = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def found(
        self, event: str, matching: Callable[[Record], bool] = lambda _: True
    ) -> Record | None:
        return next((r for r in self.records if r.get("event") == event and matching(r)), None)

    async def wait_for(
        self,
        event: str,
        timeout_s: float,
        matching: Callable[[Record], bool] = lambda _: True,
        wanted: str = "",
    ) -> Record:
        """The first such record, past or future. LocalError, with the child's last lines, if it
        dies or takes too long."""
        what = wanted or f"the record {event!r}"
        with trio.move_on_after(timeout_s):
            while (found := self.found(event, matching)) is None:
                if self._ended:
                    raise LocalError(
                        f"{self.name} ended with code {self.process.returncode} before {what}"
                        f" came{self.last_words()}"
                    )
                await self._changed.wait()
            return found
        raise LocalError(
            f"{self.name}: {what} did not come within {timeout_s:.0f} s{self.last_words()}"
        )

    async def change(self) -> None:
        """Until the child has reported something more. LocalError if it has ended."""
        if self._ended:
            raise LocalError(
                f"{self.name} ended with code {self.process.returncode}{self.last_words()}"
            )
        await self._changed.wait()

    def last_words(self) -> str:
        """The last lines of its log and records, for a message."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
                lines = log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            lines = []
        events = ", ".join(str(r.get("event")) for r in self.records[-LAST_LINES:])
        shown = [
            *(f"\n    {line}" for line in lines),
            f"\n    (its last records: {events or 'none'})",
        ]
        return "; its last lines:" + "".join(shown)

    def workers(self) -> list[psutil.Process]:
        """The processes below it, such as its engine's worker."""
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        """A signal to the child alone; nothing if it has gone."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def _read(self) -> None:
        """Collect the child's records until it closes its standard output."""
        assert self.process.stdout is not None
        pending = b""
        async for chunk in self.process.stdout:
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            if len(pending) > LINE_MAX:
                # No record is that long; what follows shows as a line that is not JSON.
                pending = b""
        await self.process.wait()
        self._ended = True
        self._wake()

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            record = {"event": "unreadable", "line": line[:200].decode(errors="replace")}
        if isinstance(record, dict) and len(self.records) < RECORDS_MAX:
            self.records.append(record)
            if record.get("event") == "ready":
                self.peer = str(record.get("peer", ""))
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class Fleet:
    """The children of one command. `program`: the module to run, and its first words."""

    def __init__(self, nursery: trio.Nursery, folder: Path, program: Sequence[str] = JOIN) -> None:
        self._program = program
        self._nursery = nursery
        self._folder = folder
        self.nodes: list[NodeProcess] = []

    async def start(
        self, name: str, arguments: Sequence[str], prefix: Sequence[str] = ()
    ) -> NodeProcess:
        """Start `swarmllm join --json` with its own data folder; returns at once. The same name
        again is the same folder: a node that comes back. `prefix`: a command that becomes this one,
        such as `nice`."""
        folder = self._folder / name.replace(" ", "-")
        folder.mkdir(mode=0o700, exist_ok=True)
        log = folder / "log"
        command = [
            *prefix,
            sys.executable,
            "-P",
            "-m",
            *self._program,
            "--json",
            "--until-eof",
            "--data-dir",
            str(folder),
            *arguments,
        ]
        with log.open("wb") as err:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
                env=dict(_environment()),
            )
        node = NodeProcess(name, folder, process, log)
        self.nodes.append(node)
        self._nursery.start_soon(node._read)
        return node

    def kill_all(self) -> None:
        """At once, without waiting: the last resort."""
        for node in self.nodes:
            node.send(signal.SIGCONT)
            node.send(signal.SIGKILL)

    async def leave(
        self, nodes: Sequence[NodeProcess], patience_s: float = LEAVE_S
    ) -> dict[str, int | None]:
        """Ask nodes to leave, as Ctrl-C would; exit codes by name, None for those that had to be
        killed."""
        for node in nodes:
            node.send(signal.SIGCONT)
            node.send(signal.SIGTERM)
        with trio.move_on_after(patience_s):
            for node in nodes:
                await node.process.wait()
        codes = {node.name: node.process.returncode for node in nodes}
        for node in nodes:
            node.send(signal.SIGKILL)
            await node.process.wait()
        return codes


def kill_all(fleets: Sequence[Fleet]) -> None:
    for fleet in fleets:
        fleet.kill_all()


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended and waits to be collected by its parent does
    not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _environment() -> Iterator[tuple[str, str]]:
    """Ours without SWARMLLM_* settings: what a child is told, it is told by its flags."""
    for name, value in os.environ.items():
        if not name.startswith("SWARMLLM_") or name == "SWARMLLM_DEBUG":
            yield name, value


@asynccontextmanager
async def open_fleet(folder: Path, program: Sequence[str] = JOIN) -> AsyncIterator[Fleet]:
    """However the block ends (Ctrl-C and SIGTERM included), no child outlives it."""
    async with trio.open_nursery() as nursery:
        fleet = Fleet(nursery, folder, program)
        try:
            yield fleet
        finally:
            with trio.CancelScope(shield=True):
                await fleet.leave(fleet.nodes)
            nursery.cancel_scope.cancel()
