"""The local socket's lines: one JSON object each, both ways, bounded."""

from __future__ import annotations

import json
from typing import Final

import trio

from swarmllm.errors import UsageError
from swarmllm.runtime.service.record import Record

VERSION: Final = 1
LINE_BYTES_MAX: Final = (
    16 << 20
    # A prompt that fills the largest context, with every character escaped; or a status of 4,096
    # experts.
)
ALIVE: Final = "alive"
NOTICE: Final = "notice"  # About a wait: what is waited for is still to come.
ALIVE_EVERY_S: Final = 2.0


def format_line(record: Record) -> bytes:
    return (
        json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
            "utf-8", "backslashreplace"
        )
        + b"\n"
    )


def parse_line(line: bytes) -> Record:
    """UsageError for anything but one JSON object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("the line is no JSON; send one JSON object on a line") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"the line is JSON of type {type(found).__name__}; send one JSON object on a line"
        )
    return found


class Lines:
    """Lines from a stream, each at most `bytes_max` long."""

    def __init__(self, stream: trio.SocketStream, bytes_max: int) -> None:
        self._stream = stream
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._searched = 0

    async def next(self) -> bytes | None:
        """Without its line feed; None at the end. UsageError for a line that is too long."""
        while True:
            at = self._buffer.find(b"\n", self._searched)
            if at >= 0:
                line = bytes(self._buffer[:at])
                del self._buffer[: at + 1]
                self._searched = 0
                return line
            self._searched = len(self._buffer)
            if self._searched > self._bytes_max:
                raise UsageError(
                    f"a line has more than {self._bytes_max} bytes; send a shorter one"
                )
            try:
                data = await self._stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._buffer += data
