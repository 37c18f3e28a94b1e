"""How much of this node's time the DHT's questions may take: the library answers whatever comes, as
fast as it comes.

An answer about forty peers takes some milliseconds, and the question a few bytes, so one stranger
could keep a core busy. Nobody is refused for asking much; the next question waits.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import trio

from swarmllm.adapters.libp2p.lane import Bucket

ANSWERS_PER_S: Final = 16.0  # To one connection,
NODE_ANSWERS_PER_S: Final = 64.0  # to all that asked lately together, in equal shares,
# and at once: a look-up asks for the values of all providers that it found.
ANSWERS_BURST: Final = 48.0


class Pace:
    """The budgets of the connections that there are."""

    def __init__(self) -> None:
        self._buckets: WeakKeyDictionary[Any, Bucket] = WeakKeyDictionary()

    def wait_s(self, conn: Any, now: float) -> float:
        """One more question of this connection: how many seconds the next one waits."""
        if conn not in self._buckets:
            self._buckets[conn] = Bucket(ANSWERS_PER_S, ANSWERS_BURST / ANSWERS_PER_S, now)
        rate = min(ANSWERS_PER_S, NODE_ANSWERS_PER_S / len(self._buckets))
        bucket = self._buckets[conn]
        bucket.refit(rate, ANSWERS_BURST / rate)
        return bucket.take(1, now)


class Paced:
    """A stream on which every answer counts: the library writes its length, then its body, and
    reads the next question after that."""

    def __init__(self, stream: Any, pace: Pace) -> None:
        self._stream, self._pace = stream, pace
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)
        self._writes += 1
        if self._writes % 2 == 0:
            await trio.sleep(self._pace.wait_s(self._stream.muxed_conn, trio.current_time()))
