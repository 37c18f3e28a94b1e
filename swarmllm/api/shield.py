"""The ASGI middleware before every route: it lets `Guard` decide, bounds how many requests are open
and how large bodies are, answers preflights, and turns what is raised into replies."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarmllm.api.guard import BODY_BYTES_MAX, BODY_S, HEALTH, OPEN_MAX, Guard, too_large
from swarmllm.api.problem import Problem, as_anthropic, as_openai, problem_of
from swarmllm.api.reply import Outlet
from swarmllm.errors import SwarmError

ANTHROPIC: Final = "/v1/messages"
PREFLIGHT_S: Final = "600"
DRAIN_S: Final = 1.0

log = logging.getLogger("swarmllm.api")


class Shield:
    """`clock` is trio's, in seconds."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        receiving = _Receiving(receive)
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        request_id = secrets.token_hex(12)
        outlet = Outlet(send, self._headers(headers, request_id))
        try:
            if self._is_preflight(scope, headers):
                await outlet.begin(204, _preflight(headers))
                await outlet.end()
                return
            self._guard.check(method, path, headers, trio.current_time())
            receiving.check = partial(self._guard.check_body, method, headers)
            # "app": where there is one, a method that a route does not take is told as an error.
            more = {"app": self._app, "state": {"id": request_id, "outlet": outlet}}
            await self._bounded({**scope, **more}, receiving)
        except ClientDisconnect:
            log.debug("a client went away before its request was whole")
        except (Problem, SwarmError, HTTPException) as error:
            await receiving.drain()
            await _refuse(outlet, path, _problem(error))
        # The guard's purpose: a fault in answering one request must not end the node, nor say in
        # the log what was asked.
        except Exception as fault:  # noqa: BLE001
            log.error("a fault of our own while answering over HTTP: %s", _kinds(fault))
            await _refuse(outlet, path, Problem(500, "the node failed to answer; its log says how"))

    async def _bounded(self, scope: Scope, receive: Receive) -> None:
        if self._open >= OPEN_MAX and scope["path"] != HEALTH:
            raise Problem(
                429, f"{OPEN_MAX} requests are open already; try again soon", code="too_many_open"
            )
        self._open += 1
        try:
            await self._app(scope, receive, scope["state"]["outlet"].send)
        finally:
            self._open -= 1

    def _headers(self, headers: Headers, request_id: str) -> dict[str, str]:
        """Of every response."""
        found = {
            "x-request-id": request_id,
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        }
        origin = self._guard.allowed_origin(headers)
        if origin is not None:
            exposed = "x-request-id, x-swarm-experts, server-timing, retry-after"
            found |= {
                "access-control-allow-origin": origin,
                "access-control-expose-headers": exposed,
                "vary": "origin",
            }
        return found

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        """Browsers send no key with it."""
        return (
            scope["method"] == "OPTIONS"
            and "access-control-request-method" in headers
            and self._guard.allowed_origin(headers) is not None
        )


class _Receiving:
    """A body arrives in bounded size and time. `check` says first whether it is read at all."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.check: Callable[[], None] = _nothing
        self._is_checked = False
        self._left = BODY_BYTES_MAX
        self._deadline = trio.current_time() + BODY_S
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        if not self._is_checked:
            self.check()
            self._is_checked = True
        message: Message | None = None
        with trio.move_on_at(self._deadline):
            message = await self._receive()
        if message is None:
            raise Problem(408, f"the body took more than {BODY_S:.0f} s", code="timeout")
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large()
        self._is_whole = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """What was not read of a body that is refused: a client that still sends it while the
        connection is closed would see no reply."""
        with trio.move_on_at(min(self._deadline, trio.current_time() + DRAIN_S)):
            while not self._is_whole and self._left >= 0:
                message = await self._receive()
                self._left -= len(message.get("body", b""))
                self._is_whole = not message.get("more_body", False)


def _nothing() -> None:
    pass


def _preflight(headers: Headers) -> dict[str, str]:
    return {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": headers.get("access-control-request-headers", "")[:1000]
        or "authorization, content-type",
        "access-control-max-age": PREFLIGHT_S,
    }


def _problem(error: Problem | SwarmError | HTTPException) -> Problem:
    match error:
        case Problem():
            return error
        case SwarmError():
            return problem_of(error)
        case _:
            return Problem(error.status_code, error.detail, headers=error.headers)


async def _refuse(outlet: Outlet, path: str, problem: Problem) -> None:
    if outlet.is_begun:
        return
    shape = as_anthropic if path.startswith(ANTHROPIC) else as_openai
    await outlet.whole(problem.status, shape(problem), problem.headers)


def _kinds(fault: BaseException) -> str:
    if isinstance(fault, BaseExceptionGroup):
        return ", ".join(_kinds(inner) for inner in fault.exceptions)
    return type(fault).__name__
