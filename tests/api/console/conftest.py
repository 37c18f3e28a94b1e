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

from swarmllm.adapters import operator_keys
from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.api.voting import KEY_FOLDER
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.testing.gguf_fixture import write_model
from tests.api.console.records import everything
from tests.cli.command import RunningNode
from tests.cli.operators.conftest import Desk

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
SWARM: Final = "console-test"
REAL_COST: Final = 2**17
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


@dataclass
class Council:
    """A node under a charter of two voters. Ann's key lies in its data folder, ben's does not, and
    ann has proposed to go back to phase 0, which takes both."""

    node: RunningNode
    desk: Desk
    id: str

    def typed(self, *words: str) -> list[dict[str, Any]]:
        flags = ("--data-dir", str(self.node.data), "--json")
        return self.desk.ok(*words, *flags).records()


@pytest.fixture
def council(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Council]:
    monkeypatch.setattr(operator_keys, "SCRYPT_COST", REAL_COST)  # As the node has it.
    (tmp_path / "desk").mkdir()
    desk = Desk(tmp_path / "desk", monkeypatch)
    desk.make("ann", "ben")
    roles = [f"--{role}=ann.pub" for role in ("root", "halt", "resume", "voter")]
    terms = ("--voter", "ben.pub", "--canary-seconds", "0", "--phase", "1", "--out", "charter")
    alone = ("--root-threshold", "1", "--resume-threshold", "1")
    desk.ok("charter", "create", *roles, *terms, *alone)
    desk.ok("charter", "sign", "charter", "--key", "ann.key")
    charter = ("--charter", str(desk.folder / "charter"))
    flags = ("--port", "0", "--api-port", "0", "--model", "none", "--log-level", "debug")
    home = tmp_path / "home"
    home.mkdir()
    with RunningNode(home, home / "data", *flags, *charter) as node:
        node.wait_for("ready")
        (node.data / KEY_FOLDER).mkdir()
        shutil.copy(desk.folder / "ann.key", node.data / KEY_FOLDER)
        council = Council(node, desk, "")
        words = ("propose", "phase", "0", "--why", "it talks too much", "--key", "ann.key")
        council.id = str(council.typed(*words)[-1]["id"])
        yield council


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
