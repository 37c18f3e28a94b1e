"""The console over HTTP: pages with their headers, keys, links from elsewhere, and its size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from swarmllm.api.console import routes
from swarmllm.api.console.paths import LIVE, PAGES, STATIC
from swarmllm.api.guard import Guard
from tests.api.http_client import serving
from tests.clock import under_mock_clock

KEY = "a-key-of-sixteen-or-more"
HASHED = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
SIZE_BYTES_MAX = 200_000
FOLDER = Path(routes.__file__).parent


@under_mock_clock
async def test_every_page_shows_the_node_and_lets_nothing_from_elsewhere_in() -> None:
    async with serving([7, 8]) as client:
        for path, name in PAGES.items():
            got = await client.get(path)
            assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
            policy = got.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            live = await client.get(LIVE + name)
            assert live.body in got.body
        swarm = (await client.get(LIVE + "swarm")).body.decode()
        assert "model-7" in swarm
        assert "model-8" in swarm


@under_mock_clock
async def test_styles_and_scripts_are_served_by_name_alone() -> None:
    async with serving([7]) as client:
        for name, kind in (("console.css", "text/css"), ("chat.js", "text/javascript")):
            got = await client.get(STATIC + name)
            assert got.status == 200
            assert got.headers["content-type"].startswith(kind)
        for name in ("nothing.js", "../routes.py", "..%2froutes.py", "%2e%2e/routes.py"):
            assert (await client.get(STATIC + name)).status == 404
        assert (await client.get(LIVE + "nothing")).status == 404


@under_mock_clock
async def test_with_keys_pages_are_empty_and_what_they_show_needs_one() -> None:
    guard = Guard(keys=frozenset({HASHED}))
    async with serving([7], guard=guard) as client:
        for path, name in PAGES.items():
            got = await client.get(path)
            assert got.status == 200
            assert b"model-7" not in got.body
            assert client.swarm.members[0].peer.encode() not in got.body
            assert (await client.get(LIVE + name)).status == 401
            keyed = await client.get(LIVE + name, authorization=f"Bearer {KEY}")
            assert keyed.status == 200
        assert (await client.get(STATIC + "console.js")).status == 200
        assert (await client.get("/api/events")).status == 401


OPENED = {
    "sec_fetch_site": "cross-site",
    "sec_fetch_mode": "navigate",
    "sec_fetch_dest": "document",
}


@under_mock_clock
async def test_a_link_from_elsewhere_opens_a_page_and_nothing_else() -> None:
    async with serving([7]) as client:
        for path in PAGES:
            assert (await client.get(path, **OPENED)).status == 200
        for path in (LIVE + "swarm", "/api/status", "/v1/models", STATIC + "console.js"):
            assert (await client.get(path, **OPENED)).status == 403
        framed = OPENED | {"sec_fetch_dest": "iframe"}
        assert (await client.get("/", **framed)).status == 403
        named = OPENED | {"host": "evil.example"}
        assert (await client.get("/", **named)).status == 403
        assert (await client.post("/", {}, **OPENED)).status == 403


def test_the_whole_console_is_small_and_holds_no_address_of_elsewhere() -> None:
    files = [one for name in ("static", "templates") for one in (FOLDER / name).iterdir()]
    assert sum(one.stat().st_size for one in files) < SIZE_BYTES_MAX
    for one in files:
        text = one.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "style=" not in text.replace("border-bottom-style=", "")


@pytest.mark.parametrize("path", sorted((FOLDER / "templates").iterdir()), ids=lambda one: one.name)
def test_no_template_turns_escaping_off(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "safe" not in text.split()
    assert "autoescape" not in text
