"""The routes of the HTTP API: a thin layer between Starlette and the node's service."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from swarmllm.api.asked import Dialect
from swarmllm.api.body import object_of, read
from swarmllm.api.console.routes import console
from swarmllm.api.dialects.anthropic_messages import CountBody, MessagesDialect
from swarmllm.api.dialects.openai_chat import ChatDialect
from swarmllm.api.dialects.openai_completions import CompletionDialect
from swarmllm.api.dialects.openai_responses import ResponsesDialect
from swarmllm.api.endpoints import CHANGES, READS, SIGNED
from swarmllm.api.guard import Guard
from swarmllm.api.metrics import PATH, metrics
from swarmllm.api.models import listed, resolved
from swarmllm.api.openapi import document
from swarmllm.api.problem import Problem, broken_off, problem_of
from swarmllm.api.reply import Reply
from swarmllm.api.shield import Shield
from swarmllm.api.voting import Voting
from swarmllm.errors import LocalError, SwarmError
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.runtime.service.service import Client

READY_S: Final = 5.0  # For which an answer of `/ready` is good.
_NOT_SERVED: Final = ("embeddings", "audio", "images", "moderations", "files", "fine_tuning")

MakeDialect = Callable[[dict[str, Any], dict[str, Any]], Dialect]


def api(
    client: Client,
    guard: Guard,
    clock: Callable[[], float] = time.time,
    key_folder: Path | None = None,
) -> ASGIApp:
    """The whole application; `clock` tells Unix time. `key_folder`: where voters' keys are."""
    document(bool(guard.keys))  # Before there is a loop that it could hold.
    routes, voting = _Routes(client, guard, clock), Voting(client, guard, key_folder)
    table = [
        *console(client, guard, voting),
        Route("/health", routes.health),
        Route("/ready", routes.ready),
        Route("/openapi.json", routes.openapi),
        Route(PATH, metrics(client)),
        Route("/v1/models", routes.models),
        Route("/v1/models/{id:path}", routes.model),
        Route("/v1/chat/completions", routes.dialect("chatcmpl", ChatDialect), methods=["POST"]),
        Route("/v1/completions", routes.dialect("cmpl", CompletionDialect), methods=["POST"]),
        Route("/v1/responses", routes.dialect("resp", ResponsesDialect), methods=["POST"]),
        Route("/v1/messages", routes.dialect("msg", MessagesDialect), methods=["POST"]),
        Route("/v1/messages/count_tokens", routes.count, methods=["POST"]),
        *(Route(f"/api/{op}", routes.show) for op in sorted(READS)),
        Route("/api/receipts/{name}", routes.receipt),
        *(Route(f"/api/{op}", routes.change, methods=["POST"]) for op in sorted(CHANGES)),
        Route("/api/vote", voting.vote, methods=["POST"]),
        Route("/api/propose", voting.propose, methods=["POST"]),
    ]
    router = Router(table, redirect_slashes=False, default=_unknown)
    return Shield(router, guard)


class _Routes:
    def __init__(self, client: Client, guard: Guard, clock: Callable[[], float]) -> None:
        self._client = client
        self._guard = guard
        self._clock = clock
        self._probed: tuple[float, Problem | None] | None = None
        self._probing = trio.Lock()

    # --- text -------------------------------------------------------------------------------------

    def dialect(self, prefix: str, make: MakeDialect) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            found = object_of(await request.body())
            experts = await self._experts()
            model = found.get("model")
            asked_of = resolved(model, experts) if isinstance(model, str) else {}
            request_id = request.state.id
            head = {
                "id": f"{prefix}-{request_id}",
                "created": int(self._clock()),
                "model": model,
            }
            dialect = make(found, head)
            questions = tuple(asked_of | one for one in dialect.asked.questions)
            dialect.asked = replace(dialect.asked, questions=questions)
            return _Answering(Reply(self._client, dialect, request.state.outlet, request_id))

        return answer

    async def count(self, request: Request) -> Response:
        body = read(CountBody, object_of(await request.body()))
        resolved(body.model, await self._experts())
        [record] = await self._records("count", {"messages": body.conversation()})
        return JSONResponse({"input_tokens": record["tokens"]})

    # --- models -----------------------------------------------------------------------------------

    async def models(self, request: Request) -> Response:
        found = listed(await self._experts(), self._clock())
        return JSONResponse({"object": "list", "data": found})

    async def model(self, request: Request) -> Response:
        name, experts = request.path_params["id"], await self._experts()
        resolved(name, experts)
        found = [one for one in listed(experts, self._clock()) if one["id"] == name]
        if not found:  # `swarm:K` is not listed.
            found = [one | {"id": name} for one in listed(experts, self._clock())[:1]]
        return JSONResponse(found[0])

    async def _experts(self) -> list[Record]:
        """Those that can be asked now."""
        [record] = await self._records("experts")
        return [one for one in record["experts"] if one["connected"] or one["local"]]

    async def _records(self, op: str, params: Any = NO_PARAMS) -> list[Record]:
        async with self._client.call(op, params) as records:
            return [record async for record in records]

    # --- the node ---------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """A real token, at most one every five seconds."""
        async with self._probing:
            now = trio.current_time()
            if self._probed is None or now >= self._probed[0] + READY_S:
                self._probed = now, await self._probe()
        problem = self._probed[1]
        if problem is not None:
            raise problem
        return JSONResponse({"status": "ready"})

    async def _probe(self) -> Problem | None:
        try:
            records = await self._records("generate", {"prompt": "a", "max_tokens": 1, "k": 1})
        except SwarmError as error:
            return problem_of(error)
        end = records[-1]
        is_bad = end["reason"] in {"error", "halted"}
        return broken_off(end["reason"], end.get("error", "")) if is_bad else None

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document(bool(self._guard.keys)))

    async def show(self, request: Request) -> Response:
        return JSONResponse((await self._records(_op(request)))[0])

    async def receipt(self, request: Request) -> Response:
        """Of an answer that has ended; waits until its experts have signed or have had time to."""
        try:
            [record] = await self._records("receipt", {"name": request.path_params["name"]})
        except LocalError as fault:
            raise Problem(404, str(fault), code="not_found") from fault
        return Response(record["receipt"], media_type="application/json")

    async def change(self, request: Request) -> Response:
        """State changes; with the token of the node's folder alone."""
        self._guard.check_token(request.headers)
        params = object_of(await request.body() or b"{}")
        return JSONResponse({"records": await self._records(_op(request), params)})


def _op(request: Request) -> str:
    return request.url.path.removeprefix("/api/")


class _Answering(Response):
    """A reply that is written while the answer is."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._reply.run(receive)


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    path = str(scope["path"])
    kind = path.removeprefix("/v1/").partition("/")[0]
    if kind in _NOT_SERVED:
        raise Problem(404, f"{kind} cannot be served: the experts of the swarm write text")
    if path.startswith("/api/"):
        told = ", ".join(sorted(READS | CHANGES | SIGNED))
        raise Problem(404, f"there is no {path[:80]!r}; there is {told}", code="not_found")
    raise Problem(404, f"there is no {path[:80]!r} here", code="not_found")
