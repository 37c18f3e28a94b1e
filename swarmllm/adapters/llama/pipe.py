"""What crosses the pipe between node process and worker: msgpack arrays, each behind its length
in four bytes.

Both ends are this program in this version, so there is no negotiation; but the worker reads hostile
model files, so what comes from it is unpacked under bounds, and anything unexpected means that the
worker is lost.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

FRAME_MAX: Final = 8 << 20  # 64 lists of 8 KiB and 32 KiB of targets, several times over.

# Control process to worker:
START, SCORE, CLOSE, CANCEL = "start", "score", "close", "cancel"
# Worker to node process, besides the batcher's answers:
READY, FAILED, LOAD = "ready", "failed", "load"

# The text worker has START, READY and FAILED too, and one answer to each of these:
ENCODE, CHAT, SEAL = "encode", "chat", "seal"
REFUSED = "refused"  # What a peer sent is not what its digests name.
DECLINED = "declined"  # What was asked makes no sense; the worker goes on.


def frame(message: tuple[Any, ...] | list[Any]) -> bytes:
    # A path may hold bytes that are no text.
    data: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
    return len(data).to_bytes(4, "big") + data


class Frames:
    """Cuts a byte stream into messages. ValueError for a frame that is too long or no array."""

    def __init__(self, frame_max: int = FRAME_MAX) -> None:
        self._frame_max = frame_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        self._buffer += data
        found: list[list[Any]] = []
        at = 0
        while len(self._buffer) - at >= 4:
            size = int.from_bytes(self._buffer[at : at + 4], "big")
            if size > self._frame_max:
                raise ValueError(f"a frame of {size} bytes on the engine's pipe")
            if len(self._buffer) - at - 4 < size:
                break
            message = msgpack.unpackb(
                memoryview(self._buffer)[at + 4 : at + 4 + size], unicode_errors="surrogateescape"
            )
            if not isinstance(message, list) or not message:
                raise ValueError("a frame on the engine's pipe that is no array")
            found.append(message)
            at += 4 + size
        del self._buffer[:at]
        return found
