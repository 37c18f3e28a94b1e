"""How long a program waits for a running node, and what it says meanwhile: a node may be frozen, and then nothing comes, for ever.

A node that is at work on an answer tells so every few seconds (`alive`), so that a long answer and a frozen node can be told apart.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from swarmllm.errors import LocalError

ALIVE: Final = "alive"
ALIVE_EVERY_S: Final = 2.0
_LOCAL_PEERPID: Final = 2  # macOS; Python does not name it.


@dataclass(frozen=True, slots=True)
class Patience:
    """`tell` gets a sentence every `word_s` seconds of waiting. After `end_s` without any sign of life, or `stuck_s` with nothing but
    that, the wait ends with a LocalError."""

    tell: Callable[[str], object] = lambda _: None
    word_s: float = 4.0  # Before a person has waited for 5 s without a word.
    end_s: float = 60.0
    stuck_s: float = 900.0  # The largest models take minutes to load, and the node answers only then.


SILENT: Final = Patience()  # For programs, which have deadlines of their own.


class Wait:
    """One wait for one thing that a node is to say."""

    def __init__(self, patience: Patience, node: str, pid: int) -> None:
        self._patience, self._node, self._pid = patience, node, pid
        self._began = self._lived = self._told = trio.current_time()

    def silent(self) -> None:
        """Nothing came. LocalError if that has lasted long enough."""
        now = trio.current_time()
        if now - self._lived >= self._patience.end_s:
            raise LocalError(f"{self._node} has not answered for {now - self._lived:.0f} s; {self._remedy()}")
        self._say(now, "which does not answer")

    def alive(self) -> None:
        """Nothing came but a sign of life. LocalError if that has lasted long enough."""
        now = self._lived = trio.current_time()
        if now - self._began >= self._patience.stuck_s:
            raise LocalError(f"{self._node} is alive but has told nothing new for {now - self._began:.0f} s; {self._remedy()}")
        self._say(now, "which is alive and at work")

    def _say(self, now: float, what: str) -> None:
        if now - self._told >= self._patience.word_s - 0.5 * min(1.0, self._patience.word_s):
            self._told = now
            self._patience.tell(f"Still waiting for {self._node}, {what} ({now - self._began:.0f} s).")

    def _remedy(self) -> str:
        pid = self._pid or "PID"
        return (
            f"if it was suspended, `kill -CONT {pid}` lets it go on; otherwise end it with `kill -KILL {pid}` and start it again"
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
