"""`/api/events`: the node's state as server-sent events, for whoever watches it.

Two kinds: `state`, a summary with a digest of each record that pages show, sent when it differs
from the last one, at most once a second; and `life`, experts and peers that come and go and halts,
as `swarmllm join --json` tells them. A client that reads slowly gets the newest state and loses the
oldest of life; one that reads nothing is given up by the server. All clients together cause one
look at the node a second, and none when nobody watches.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from swarmllm.api.asked import Sse
from swarmllm.api.console.gathering import WATCHED, asked
from swarmllm.api.problem import Problem
from swarmllm.api.reply import Outlet
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Client
from swarmllm.runtime.visible import json_of

CLIENTS_MAX: Final = 16
EVERY_S: Final = 1.0
KEEP_ALIVE_S: Final = 10.0
LIFE_MAX: Final = 64  # Of a client that has not read them; the oldest are lost.
PASSING: Final = frozenset(("time", "uptime_s", "waited_s", "rests_s", "left_s", "seen_s"))
"""Fields that change by themselves: no news."""
HEAD: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Events:
    """The route."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._clients = 0
        self._looking = trio.Lock()
        self._seen: tuple[float, Record] = (-math.inf, {})

    async def show(self, request: Request) -> Response:
        if self._clients >= CLIENTS_MAX:
            raise Problem(
                429, f"{CLIENTS_MAX} streams of events are open already", code="too_many_open"
            )
        return _Watching(self, request.state.outlet)

    async def run(self, outlet: Outlet, receive: Receive) -> None:
        """Until the client has gone."""
        self._clients += 1
        try:
            await outlet.begin(200, HEAD)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                news = News()
                nursery.start_soon(self._live, news)
                nursery.start_soon(self._watch, news)
                await news.write_to(outlet)
        finally:
            self._clients -= 1

    async def _live(self, news: News) -> None:
        async with self._client.call("events") as records:
            async for record in records:
                news.tell(record)

    async def _watch(self, news: News) -> None:
        while True:
            news.state = await self._state()
            news.bell.set()
            await trio.sleep(EVERY_S)

    async def _state(self) -> Record:
        """One look a second is enough for all."""
        async with self._looking:
            if trio.current_time() >= self._seen[0] + EVERY_S / 2:
                found = await asked(self._client, WATCHED)
                self._seen = trio.current_time(), summary(found)
        return self._seen[1]


class News:
    """What a client has not read yet: the newest state, and the last of life."""

    def __init__(self) -> None:
        self.state: Record = {}
        self.bell = trio.Event()
        self._life: list[Record] = []

    def tell(self, record: Record) -> None:
        self._life = [*self._life, record][-LIFE_MAX:]
        self.bell.set()

    async def write_to(self, outlet: Outlet) -> None:
        sent: Record = {}
        while True:
            with trio.move_on_after(KEEP_ALIVE_S) as waiting:
                await self.bell.wait()
            if waiting.cancelled_caught:
                await outlet.write(b": keep-alive\n\n")
                continue
            self.bell = trio.Event()
            life, self._life = self._life, []
            found = [Sse(record, "life") for record in life]
            if self.state != sent:
                sent = self.state
                found.append(Sse(sent, "state"))
            if found:
                await outlet.write(b"".join(one.encoded() for one in found))


class _Watching(Response):
    def __init__(self, events: Events, outlet: Outlet) -> None:
        self._events, self._outlet = events, outlet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._events.run(self._outlet, receive)


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def summary(found: dict[str, Record]) -> Record:
    """What a page must know at once, and what tells it that there is more to see."""
    status = found["status"]
    experts = status.get("experts", [])
    return {
        "state": status.get("state", "starting"),
        "halted": status.get("halted", []),
        "peers": len(status.get("peers", [])),
        "experts": len(experts),
        "usable": sum(one["connected"] or one["local"] for one in experts),
        "answers_open": status.get("answers_open", 0),
        "digests": {name: _digest(record) for name, record in found.items()},
    }


def _digest(record: Record) -> str:
    return hashlib.sha256(json_of(_lasting(record)).encode()).hexdigest()[:12]


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(one) for name, one in value.items() if name not in PASSING}
    return [_lasting(one) for one in value] if isinstance(value, list) else value
