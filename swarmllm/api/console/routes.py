"""The routes of the console: pages, what they show of the node now, their style and scripts, and
the stream of events."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from swarmllm.api.console.events import Events
from swarmllm.api.console.gathering import gathered
from swarmllm.api.console.paths import LIVE, PAGES, STATIC
from swarmllm.api.console.rendering import TITLES, Pages
from swarmllm.api.guard import Guard
from swarmllm.api.problem import Problem
from swarmllm.api.voting import Voting
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Client

TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS: Final[Mapping[str, str]] = {
    # Nothing from elsewhere, nothing in a frame, and no script or style within a page.
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; object-src 'none'",
    "referrer-policy": "no-referrer",
}


def console(client: Client, guard: Guard, voting: Voting) -> list[Route]:
    routes = _Console(client, voting, is_keyed=bool(guard.keys))
    return [
        Route("/api/events", Events(client).show, methods=["GET"]),
        *(Route(path, routes.page, methods=["GET"]) for path in PAGES),
        Route(LIVE + "{name}", routes.live, methods=["GET"]),
        Route(STATIC + "{name}", routes.static, methods=["GET"]),
    ]


class _Console:
    def __init__(self, client: Client, voting: Voting, *, is_keyed: bool) -> None:
        self._client = client
        self._voting = voting
        self._is_keyed = is_keyed
        self._pages = Pages()
        self._files = {
            one.name: (one.read_bytes(), TYPES[one.name.rpartition(".")[2]])
            for one in files("swarmllm.api.console").joinpath("static").iterdir()
        }

    async def page(self, request: Request) -> Response:
        """Empty where a key is needed: the page's script asks for it, and then for the rest."""
        name = PAGES[request.url.path]
        found = None if self._is_keyed else await self._found(name, request)
        return HTMLResponse(self._pages.page(name, found), headers=HEADERS)

    async def live(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in TITLES:
            raise Problem(404, f"the console has no page {name[:40]!r}", code="not_found")
        found = await self._found(name, request)
        return HTMLResponse(self._pages.live(name, found), headers=HEADERS)

    async def _found(self, name: str, request: Request) -> dict[str, Record]:
        found = await gathered(self._client, name)
        if name == "safety":
            found["voting"] = await self._voting.shown(request)
        return found

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise Problem(404, f"the console has no file {name[:40]!r}", code="not_found")
        data, kind = self._files[name]
        return Response(data, media_type=kind, headers=HEADERS)
