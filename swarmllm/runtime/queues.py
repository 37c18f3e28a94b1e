"""The bounded queues round the driver: inputs on their way in, and events on their way to whoever
listens.

Each has one reader, one bound with its reason, and a rule for when it is full: the network waits, a
listener to the node's life loses the oldest events, and an answer never loses a token (it has at
most `max_tokens`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Generic, TypeVar

import trio

from swarmllm.core.events import Ended, ExpertsWeighed, Noticed, TokenChosen
from swarmllm.core.inputs import Asked, Cancelled, Input

# Handling one takes some 50 us, so a full queue is 50 ms of work: behind it the peers have to wait.
INPUTS_MAX: Final = 1024
LIFE_MAX: Final = 256  # Events per listener: a swarm of 50 that comes and goes twice.
# Per unread answer; the oldest goes first, since the newest tells the present state.
NOTICES_MAX: Final = 64

AnswerEvent = TokenChosen | Noticed | ExpertsWeighed | Ended
_Event = TypeVar("_Event")


class Inbox:
    """Inputs in the order of their arrival; what the local user asks for goes first."""

    def __init__(self, inputs_max: int = INPUTS_MAX) -> None:
        self._inputs_max = inputs_max
        self._inputs: deque[Input] = deque()
        # Bounded by the answers asked for: one of each kind per answer.
        self._local: deque[Asked | Cancelled] = deque()
        self._bell: trio.Event | None = None
        self._room = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._inputs) + len(self._local)

    async def put(self, event: Input) -> None:
        """Waits while the queue is full, and is then itself no longer a checkpoint."""
        while len(self._inputs) >= self._inputs_max:
            await self._room.park()
        self._inputs.append(event)
        self.ring()

    def put_local(self, event: Asked | Cancelled) -> None:
        self._local.append(event)
        self.ring()

    def leave_local(self, event: Cancelled) -> None:
        """As `put_local`, from any thread (a finaliser's): read with the next input, which an open
        answer always gets."""
        self._local.append(event)

    def ring(self) -> None:
        """Wake the reader."""
        if self._bell is not None:
            self._bell.set()

    def take(self) -> Input | None:
        if self._local:
            return self._local.popleft()
        if not self._inputs:
            return None
        event = self._inputs.popleft()
        if self._room:
            self._room.unpark()
        return event

    async def wait(self, seconds: float, *, whatever_waits: bool = False) -> None:
        """Return when there may be an input, or after `seconds` (which may be infinite).
        `whatever_waits`: only when the bell rings, for what lies here already may not be taken yet.
        """
        if (self._inputs or self._local) and not whatever_waits:
            await trio.lowlevel.checkpoint()
            return
        self._bell = trio.Event()
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            await self._bell.wait()
        self._bell = None


class AnswerFeed:
    """The events of one request, for its one reader. It ends with exactly one `Ended`."""

    def __init__(self, request: int) -> None:
        self.request = request
        self._events: deque[AnswerEvent] = deque()
        self._notices = 0
        self._ended = False
        self._bell: trio.Event | None = None

    @property
    def is_last(self) -> bool:
        """Whether nothing but the end is left to read."""
        return len(self._events) == 1 and isinstance(self._events[0], Ended)

    def put(self, event: AnswerEvent) -> None:
        assert not self._ended, f"request {self.request} got {type(event).__name__} after its end"
        if isinstance(event, Noticed):
            if self._notices >= NOTICES_MAX:
                self._events.remove(next(e for e in self._events if isinstance(e, Noticed)))
                self._notices -= 1
            self._notices += 1
        self._ended = isinstance(event, Ended)
        self._events.append(event)
        if self._bell is not None:
            self._bell.set()

    async def get(self) -> AnswerEvent:
        """The next event. Not to be called after `Ended`."""
        if self._events:
            await trio.lowlevel.checkpoint()
        while not self._events:
            self._bell = trio.Event()
            await self._bell.wait()
        self._bell = None
        event = self._events.popleft()
        self._notices -= isinstance(event, Noticed)
        return event


class LifeFeed(Generic[_Event]):
    """Events for one listener, who may be slow: the oldest are dropped and counted. Iterate over
    it; it ends with the node."""

    def __init__(self, events_max: int = LIFE_MAX) -> None:
        self._events: deque[_Event] = deque(maxlen=events_max)
        self._bell: trio.Event | None = None
        self._closed = False
        self.lost = 0

    def put(self, event: _Event) -> None:
        self.lost += len(self._events) == self._events.maxlen
        self._events.append(event)
        if self._bell is not None:
            self._bell.set()

    def close(self) -> None:
        """No more events; those that wait can still be read."""
        self._closed = True
        if self._bell is not None:
            self._bell.set()

    def __aiter__(self) -> AsyncIterator[_Event]:
        return self

    async def __anext__(self) -> _Event:
        if self._events:
            await trio.lowlevel.checkpoint()
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._bell = trio.Event()
            await self._bell.wait()
        self._bell = None
        return self._events.popleft()
