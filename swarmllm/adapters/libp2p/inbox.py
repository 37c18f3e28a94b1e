"""The one ordered queue from the network to its consumer.

What happens to a peer is told in the order in which it happened, whoever noticed it: a reader, a
timer, or a caller that must not block. Those who can wait do so while the queue is long, which is
how a slow consumer makes us read our peers more slowly; those who cannot add a constant number of
inputs per peer.
"""

from __future__ import annotations

from collections import deque

import trio

from swarmllm.core.inputs import NetworkInput


class Inbox:
    """`run` moves what `put` took into `receive`."""

    def __init__(self, inputs_max: int) -> None:
        self._inputs_max = inputs_max
        # Bounded by `room` for messages, and by the number of peers for the rest.
        self._waiting: deque[NetworkInput] = deque()
        self._more = trio.Event()
        self._less = trio.Event()
        self._send: trio.MemorySendChannel[NetworkInput]
        self.receive: trio.MemoryReceiveChannel[NetworkInput]
        self._send, self.receive = trio.open_memory_channel(0)

    def put(self, happened: NetworkInput) -> None:
        """Never blocks."""
        if not self._waiting:
            try:
                # The consumer waits already: spare it one turn of the scheduler.
                self._send.send_nowait(happened)
            except trio.WouldBlock:
                pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # Nobody listens any more: the network is closing.
            else:
                return
        self._waiting.append(happened)
        self._more.set()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._inputs_max

    async def room(self) -> None:
        """Wait until there is room for one more message."""
        while self.full:
            await self._less.wait()

    def close(self) -> None:
        """The consumer sees the end of the channel; what it has not taken is dropped."""
        self._waiting.clear()
        self._send.close()

    async def run(self) -> None:
        """Until either end is closed, or this task is cancelled."""
        while True:
            while self._waiting:
                try:
                    await self._send.send(self._waiting[0])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                self._waiting.popleft()
                if not self.full:
                    self._less.set()
                    self._less = trio.Event()
            self._more = trio.Event()
            await self._more.wait()
