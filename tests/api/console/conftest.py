"""A real browser, real nodes, and a node that says whatever a test wants."""

from __future__ import annotations

import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from playwright.sync_api import Browser, Page, expect, sync_playwright

from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.testing.gguf_fixture import write_model
from tests.api.console.records import everything
from tests.cli.command import RunningNode

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
SWARM: Final = "console-test"
PATIENCE_MS: Final = 120_000  # Nothing may hang; beside eight programs a page takes seconds.


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Root has no sandbox of its own; all that is opened are nodes of this machine.
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Visit:
    """A window and what went wrong in it."""

    page: Page
    faults: list[str] = field(default_factory=list)


@contextmanager
def visiting(
    browser: Browser, width: int = 1280, height: int = 800, theme: Any = "light"
) -> Iterator[Visit]:
    """Whatever the console says is an error, and so is whatever the page may not do."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    visit = Visit(context.new_page())
    visit.page.on("console", lambda one: visit.faults.append(one.text))
    visit.page.on("pageerror", lambda one: visit.faults.append(str(one)))
    visit.page.on("dialog", lambda one: visit.faults.append(f"a dialog: {one.message}"))
    try:
        yield visit
    finally:
        context.close()


# --- nodes ----------------------------------------------------------------------------------------


@dataclass
class Nodes:
    """Two of one swarm; the second asks for a key."""

    first: RunningNode
    second: RunningNode

    @property
    def url(self) -> str:
        return str(self.first.wait_for("ready")["http"])

    @property
    def token(self) -> str:
        return (self.first.data / TOKEN_FILE).read_text().strip()


KEY: Final = "a-key-of-sixteen-or-more"


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    home = tmp_path_factory.mktemp("home")
    flags = ("--port", "0", "--api-port", "0", "--swarm", SWARM, "--context", "2048")
    names = ("hazel", "willow")
    models = [str(write_model(home / f"{name}.gguf", name=name)) for name in names]
    with RunningNode(home, home / "one", *flags, "--model", models[0], "--agent") as first:
        invite = first.wait_for("ready")["invite"]
        more = ("--model", models[1], "--peer", invite, "--api-key", KEY)
        with RunningNode(home, home / "two", *flags, *more) as second:
            second.wait_for("ready")
            yield Nodes(first, second)


class Puppet:
    """A client of the API's, as a node's service is: it says what it is told to say."""

    def __init__(self) -> None:
        self.records = everything()
        self.answer: list[Record] = []

    @asynccontextmanager
    async def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AsyncIterator[AsyncIterator[Record]]:
        async with aclosing(self._records(op)) as records:
            yield records

    async def _records(self, op: str) -> AsyncGenerator[Record]:
        match op:
            case "events":
                await trio.sleep_forever()
            case "generate":
                for record in self.answer:
                    await trio.sleep(0.01)
                    yield record
            case "experts":
                yield {"experts": self.records["status"]["experts"]}
            case _:
                yield self.records[op]


@dataclass
class Stage:
    """The puppet, behind a real server."""

    puppet: Puppet
    url: str


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    puppet = Puppet()
    ready, stop, found = threading.Event(), trio.Event(), list[Any]()

    async def serve() -> None:
        options = Options("127.0.0.1", 0, (), (), (), tmp_path / TOKEN_FILE)
        async with serving(puppet, options) as url:
            found[:] = [url, trio.lowlevel.current_trio_token()]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(60)
    url, token = found
    yield Stage(puppet, url)
    trio.from_thread.run_sync(stop.set, trio_token=token)
    thread.join(60)
