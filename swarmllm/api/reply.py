"""The reply to one request: whole, or as server-sent events, for as long as the client is there.

The status waits for the first token, so that what goes wrong before it has a status of its own. If
that takes long, the stream begins without it, and comments keep the connection alive. A client that
goes away ends its answers at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import trio

from swarmllm.api.answering import Item, answering
from swarmllm.api.asked import Dialect, Sse
from swarmllm.api.choice import Choice
from swarmllm.api.problem import Problem
from swarmllm.runtime.service.service import Client
from swarmllm.runtime.visible import json_of

KEEP_ALIVE_S: Final = 10.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Outlet:
    """Where the bytes of one response go."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self.headers = headers
        self.is_begun = False

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        assert not self.is_begun
        self.is_begun = True
        pairs = [(k.encode(), v.encode()) for k, v in (self.headers | headers).items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def send(self, message: Message) -> None:
        """A response that was made elsewhere, with this one's headers in it."""
        if message["type"] == "http.response.start":
            self.is_begun = True
            given = {k.lower() for k, _ in message["headers"]}
            mine = [(k.encode(), v.encode()) for k, v in self.headers.items()]
            more = [pair for pair in mine if pair[0] not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._finish(b"")

    async def whole(self, status: int, value: object, headers: dict[str, str]) -> None:
        data = json_of(value).encode()
        told = {"content-type": "application/json", "content-length": str(len(data))}
        await self.begin(status, told | headers)
        await self._finish(data)

    async def _finish(self, data: bytes) -> None:
        """Shielded: with these bytes the server says that the client may be gone, which ends the
        reply, and goes on to end the connection, or to make it ready for the next request."""
        with trio.CancelScope(shield=True):
            await self._send({"type": "http.response.body", "body": data, "more_body": False})


class Reply:
    """One request being answered. `run` writes the response; a Problem before its first byte is
    raised."""

    def __init__(self, client: Client, dialect: Dialect, outlet: Outlet, request_id: str) -> None:
        self._client = client
        self._dialect = dialect
        self._outlet = outlet
        self._began_at = self._wrote_at = trio.current_time()
        self._early: list[Item] = []
        self._beginning = trio.Lock()
        asked = dialect.asked
        self._choices = [
            Choice(i, f"{request_id}{i}", asked.offers_tools, asked.has_form)
            for i in range(len(asked.questions))
        ]

    async def run(self, receive: Receive) -> None:
        problem: Problem | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            if self._dialect.asked.is_stream:
                nursery.start_soon(self._keep_alive)
            async with answering(self._client, self._dialect.asked.questions) as items:
                try:
                    if self._dialect.asked.is_stream:
                        await self._stream(items)
                    else:
                        await self._whole(items)
                except Problem as found:  # Not through nurseries, which would wrap it.
                    problem = found
            nursery.cancel_scope.cancel()
        if problem is None:
            return
        if not self._outlet.is_begun:
            raise problem
        await self._write(self._dialect.fail(problem))
        await self._outlet.end()

    # --- whole --------------------------------------------------------------------------------

    async def _whole(self, items: AsyncIterator[Item]) -> None:
        async for place, found in items:
            if isinstance(found, Problem):
                raise found
            self._choices[place].push(found)
        await self._outlet.whole(200, self._dialect.whole(self._choices), self._headers("total"))

    # --- streamed -----------------------------------------------------------------------------

    async def _stream(self, items: AsyncIterator[Item]) -> None:
        """Events of the first tokens wait until each choice is known to have begun."""
        waiting = set(range(len(self._choices)))
        while waiting and not self._outlet.is_begun:
            item = await anext(items)
            place, found = item
            if isinstance(found, Problem):
                raise found
            if found["event"] == "weighed":
                self._choices[place].push(found)
            if found["event"] in {"token", "text", "end"}:
                if found["event"] == "end" and found["reason"] in {"error", "halted"}:
                    self._choices[place].push(found)
                waiting.discard(place)
            self._early.append(item)
        await self._begin()
        while any(choice.finish is None for choice in self._choices):
            await self._push(*await anext(items))
        await self._write(self._dialect.end(self._choices))
        await self._outlet.end()

    async def _begin(self) -> None:
        """Once, by whoever comes first; what has come so far is written."""
        async with self._beginning:
            if not self._outlet.is_begun:
                await self._outlet.begin(200, self._headers("prefill") | _SSE)
                await self._write(self._dialect.begin(self._choices))
            early, self._early = self._early, []
            for place, found in early:
                await self._push(place, found)

    async def _keep_alive(self) -> None:
        """A task of its own, so that no token has to set a timer."""
        while True:
            due_at = self._wrote_at + KEEP_ALIVE_S
            await trio.sleep_until(due_at)
            if self._wrote_at + KEEP_ALIVE_S > due_at:
                continue
            with trio.CancelScope(shield=True):  # Half a head is no reply.
                if self._outlet.is_begun:
                    self._wrote_at = trio.current_time()
                    await self._outlet.write(b": keep-alive\n\n")
                else:
                    await self._begin()

    async def _push(self, place: int, found: object) -> None:
        if isinstance(found, Problem):
            raise found
        assert isinstance(found, dict)
        choice = self._choices[place]
        await self._write(self._dialect.push(choice, found, choice.push(found)))

    async def _write(self, events: list[Sse]) -> None:
        if events:
            self._wrote_at = trio.current_time()
            await self._outlet.write(b"".join(event.encoded() for event in events))

    def _headers(self, what: str) -> dict[str, str]:
        took_ms = (trio.current_time() - self._began_at) * 1000
        experts = max((len(choice.experts) for choice in self._choices), default=0)
        return {"server-timing": f"{what};dur={took_ms:.1f}", "x-swarm-experts": str(experts)}


_SSE: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    """The request has been read; what still comes is that the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
