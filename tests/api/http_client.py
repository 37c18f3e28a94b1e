"""An HTTP client without a network: it calls the application as a server would, under any clock,
and can go away in the middle of a reply."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from starlette.types import ASGIApp

from swarmllm.adapters.grammar.grammars import Grammars
from swarmllm.api.guard import Guard
from swarmllm.api.routes import api
from swarmllm.core.grammar import Grammar, GrammarSource
from swarmllm.core.halt.charter import Pin
from swarmllm.core.vocabulary import Vocabulary
from swarmllm.runtime.service.halts import HaltService
from swarmllm.runtime.service.service import Service
from tests.runtime.little_swarm import LittleSwarm, little_swarm

HOST = "127.0.0.1:7337"


@dataclass
class Got:
    """A response, as far as it has come."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of server-sent events, `[DONE]` as it is."""
        lines = [line for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [one if one == "[DONE]" else json.loads(one) for one in (line[6:] for line in lines)]

    @property
    def names(self) -> list[str]:
        lines = self.body.decode().split("\n")
        return [line[7:] for line in lines if line.startswith("event: ")]


@dataclass
class Caller:
    """Asks an application. `peer`: the address from which it does."""

    app: ASGIApp
    headers: dict[str, str] = field(default_factory=dict)
    peer: str = "127.0.0.1"

    async def get(self, path: str, **headers: str) -> Got:
        return await self.send("GET", path, b"", headers)

    async def post(self, path: str, body: object, **headers: str) -> Got:
        """`body`: JSON to be, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.send("POST", path, data, {"content-type": "application/json", **headers})

    async def send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        got: Got | None = None,
        gone: trio.Event | None = None,
    ) -> Got:
        """Until the response is over, or `gone` says that the client is."""
        got = Got() if got is None else got
        gone = trio.Event() if gone is None else gone
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        given = {"host": HOST} | self.headers | {k.replace("_", "-"): v for k, v in headers.items()}

        async def receive() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            if waiting:
                return waiting.pop()
            async with trio.open_nursery() as nursery:
                for event in (gone, got.over):

                    async def first(event: trio.Event) -> None:
                        await event.wait()
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(first, event)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                got.status = message["status"]
                got.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                return
            if message["body"]:
                got.chunks.append(message["body"])
                got.times.append(trio.current_time())
            if not message.get("more_body", False):
                got.over.set()

        scope = {
            "type": "http",
            "method": method,
            "path": path.partition("?")[0],
            "query_string": path.partition("?")[2].encode(),
            "headers": [(k.lower().encode(), v.encode()) for k, v in given.items() if v],
            "root_path": "",
            "client": (self.peer, 40_000),
        }
        await self.app(scope, receive, send)
        return got


@dataclass
class Client(Caller):
    """Of the first member of a little swarm."""

    swarm: LittleSwarm = field(kw_only=True)


class Compiled(Grammars):
    """Compiles within the event loop: a virtual clock does not wait for threads."""

    async def compile(self, source: GrammarSource, vocabulary: Vocabulary) -> Grammar:
        await trio.lowlevel.checkpoint()
        return self._compile(source, vocabulary)


@asynccontextmanager
async def serving(
    seeds: list[int | None] | None = None,
    *,
    guard: Guard | None = None,
    pin: Pin | None = None,
    **more: Any,
) -> AsyncIterator[Client]:
    """The API of the first member of a little swarm."""
    more = {"grammars": Compiled(), **more}
    async with little_swarm(seeds or [7, 8], pin=pin, **more) as swarm:
        await swarm.wait_met()
        one, service = swarm.members[0], Service()
        halts = None
        if one.orders is not None:
            halts = HaltService(one.driver, one.orders, lambda: one.local.view().peers)
        service.open(one.local, halts)
        yield Client(api(service, guard or Guard(), lambda: 1_000.0), swarm=swarm)
