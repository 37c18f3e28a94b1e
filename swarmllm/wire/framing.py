"""Messages on a stream: four bytes of length, big-endian, then that many bytes.

Sans-I/O: bytes go in as they arrive, whole frames come out. The length is judged before anything
behind it is kept, so a peer can make us hold at most one frame (and what the caller hands over at
once).
"""

from __future__ import annotations

from typing import Final

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import FRAME_MAX
from swarmllm.wire import codec

LENGTH_BYTES: Final = 4


def frame(message: object) -> bytes:
    """The message encoded, behind its length. LocalError if it breaks its own bounds or exceeds
    `FRAME_MAX`."""
    data = codec.encode(message)
    if len(data) > FRAME_MAX:
        raise LocalError(
            f"{type(message).__name__} of {len(data)} bytes exceeds the frame bound of {FRAME_MAX};"
            " send less at once"
        )
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


class FrameReader:
    """Cuts a stream of bytes into frames of 1..`frame_max` bytes. After a RemoteError the stream is
    beyond repair: drop it."""

    def __init__(self, frame_max: int = FRAME_MAX) -> None:
        assert frame_max > 0
        self._frame_max = frame_max
        self._buffer = bytearray()
        self._broken: str | None = None

    @property
    def buffered(self) -> int:
        """Bytes held that are not yet a whole frame; at most `LENGTH_BYTES + frame_max - 1`."""
        return len(self._buffer)

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended: a stream that closes now was cut short, one that
        stays so is too slow."""
        return len(self._buffer) > 0

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, in order, each without its length; however the stream
        was cut into pieces, the same.

        RemoteError for a length of 0 or above `frame_max`, at once and at every later call; frames
        in front of it in the same `data` are lost with the stream.
        """
        if self._broken is not None:
            raise RemoteError(self._broken)
        self._buffer += data
        frames: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= LENGTH_BYTES:
            begin = at + LENGTH_BYTES
            size = int.from_bytes(self._buffer[at:begin], "big")
            if not 1 <= size <= self._frame_max:
                self._broken = f"frame of {size} bytes: must be 1 to {self._frame_max}"
                self._buffer = bytearray()
                raise RemoteError(self._broken)
            if len(self._buffer) - begin < size:
                break
            at = begin + size
            frames.append(bytes(self._buffer[begin:at]))
        del self._buffer[:at]
        return frames
