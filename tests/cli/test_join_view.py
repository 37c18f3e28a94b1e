"""A fault of a view stays in the view: the node goes on, the log is told once, and the person as
much as can be shown."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.assembly import Parts
from swarmllm.cli import collector, inspect, join_view
from swarmllm.cli import join as joining
from swarmllm.cli.join_view import JoinView
from swarmllm.cli.progress_line import progress_line
from swarmllm.core.events import PeerSeen
from swarmllm.messages import PeerId
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.json_events import Life
from swarmllm.runtime.service.record import Record
from tests.cli.hostile_views import status
from tests.cli.terminal import Terminal, screen_on, words_on

FOUND: Record = {"event": "peer_found", "peer": "12D3KooWabcdef"}
DEADLINE_S = 30.0


class Broken(Terminal):
    """A terminal that has gone: every write fails."""

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")


def view_on(terminal: Terminal, *, is_closed: bool = False) -> JoinView:
    view = JoinView(screen_on(terminal), ask_with="", is_first_run=False, is_closed=is_closed)
    _open.append(view)
    return view


_open: list[JoinView] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """A view that is left open would be given the waits of other tests."""
    yield
    while _open:
        _open.pop().close()


def failing(
    monkeypatch: pytest.MonkeyPatch, times: int, then: Callable[[], None] = lambda: None
) -> None:
    """The state cannot be shown so often; `then` is called with the last time."""
    left = times
    real = inspect.status_view

    def status_view(record: Record) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            then()
        if left >= 0:
            raise ZeroDivisionError("a secret of the record")
        return real(record)

    monkeypatch.setattr(join_view, "status_view", status_view)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "swarmllm.view"]


# --- the view -------------------------------------------------------------------------------------


def test_a_state_that_cannot_be_shown_is_said_to_be_so_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing(monkeypatch, 3)
    terminal = Terminal()
    view = view_on(terminal)
    for _ in range(3):
        view.refresh(status("fine"))
    assert told(caplog) == [
        "the view could not show the node's state: ZeroDivisionError; the node goes on"
    ]
    assert words_on("its state cannot be shown") in words_on(terminal.getvalue())
    assert "fine" not in terminal.getvalue()
    view.refresh(status("fine"))
    assert view.is_live
    assert "fine" in terminal.getvalue()


@pytest.mark.parametrize(
    "record",
    [
        {"event": "expert_found"},
        {"event": "listening", "addrs": None},
        {"event": "halted", "reasons": [None]},
        {"event": "progress", "what": "x", "done": "many", "total": "more", "unit": "bytes"},
        {"event": "model_ready", "model": "x", "n_params": None, "context_max": 1, "seconds": 1.0},
        {"event": None},
        {},
    ],
    ids=lambda record: str(record.get("event")),
)
def test_a_record_that_cannot_be_shown_loses_one_line(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    view = view_on(terminal)
    view.tell(record)
    view.tell(record)
    view.tell(FOUND)
    assert len(told(caplog)) <= 1
    assert "peer…abcdef".replace("…", "") in words_on(terminal.getvalue())
    assert (words_on("could not be shown") in words_on(terminal.getvalue())) == bool(told(caplog))


def test_the_text_of_a_fault_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may quote the record, and a log holds no text of an answer."""
    failing(monkeypatch, 1)
    view_on(Terminal()).refresh(status("x"))
    assert "secret" not in caplog.text


def test_a_terminal_that_has_gone_ends_the_live_state_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    view = view_on(Broken())
    for _ in range(50):
        view.refresh(status("x"))
        view.tell(FOUND)
    view.close()
    assert not view.is_live
    assert 1 <= len(told(caplog)) <= 6
    assert all("OSError" in line for line in told(caplog))
    assert view._console._buffer == []  # Or it would grow for as long as the node runs.


def test_a_terminal_that_comes_back_is_written_to_again() -> None:
    class Flaky(Terminal):
        is_gone = False

        def write(self, text: str) -> int:
            if self.is_gone:
                raise OSError(28, "No space left on device")
            return super().write(text)

    terminal = Flaky()
    view = view_on(terminal)
    terminal.is_gone = True
    view.tell(FOUND)
    terminal.is_gone = False
    view.tell({"event": "peer_lost", "peer": "12D3KooWghijkl", "reason": "reset"})
    assert "ghijkl" in terminal.getvalue()
    assert "abcdef" not in terminal.getvalue()


# --- the node -------------------------------------------------------------------------------------


class FakeNode:
    """Runs until it is told to stop, and knows whether it got that far."""

    def __init__(self) -> None:
        self.ended_well = False
        self._stop = trio.Event()

    def status(self) -> Record:
        return status("x")

    def stop(self) -> None:
        """From the thread of a view."""
        trio.from_thread.run_sync(self._stop.set)

    async def wait_stopped(self) -> None:
        await self._stop.wait()
        self.ended_well = True


def joined(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    terminal: Terminal,
    prepare: Callable[[FakeNode], None],
) -> FakeNode:
    """The real `join` around a node of ours, on this terminal."""
    node: list[FakeNode] = []

    @asynccontextmanager
    async def open_node(
        _: Config, tell: Callable[[Life], None], parts: object
    ) -> AsyncIterator[FakeNode]:
        assert parts == Parts()
        node.append(FakeNode())
        prepare(node[0])
        tell(PeerSeen(PeerId("12D3KooWabcdef"), True))
        yield node[0]

    monkeypatch.setattr(joining, "open_node", open_node)
    monkeypatch.setattr(joining, "status_record", lambda found: found)
    monkeypatch.setattr(joining, "people", lambda: screen_on(terminal))
    monkeypatch.setattr(joining, "REFRESH_S", 0.001)
    monkeypatch.setattr(collector, "leave_alone", lambda: None)

    async def body() -> None:
        with trio.fail_after(DEADLINE_S):
            config = Config(data_dir=folder, cache_dir=folder)
            assert await joining._join(config, False, False, Parts()) == 0

    trio.run(body)
    return node[0]


def test_a_view_that_raises_does_not_end_the_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    node = joined(monkeypatch, tmp_path, terminal, lambda node: failing(monkeypatch, 5, node.stop))
    assert node.ended_well
    assert told(caplog) == [
        "the view could not show the node's state: ZeroDivisionError; the node goes on"
    ]
    assert "Left." in terminal.getvalue()


def test_a_state_that_cannot_be_read_does_not_end_the_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(node: FakeNode) -> None:
        asked = 0

        def broken() -> Record:
            nonlocal asked
            asked += 1
            if asked == 5:
                node._stop.set()
            raise OverflowError("too large")

        monkeypatch.setattr(node, "status", broken)

    node = joined(monkeypatch, tmp_path, Terminal(), prepare)
    assert node.ended_well
    assert told(caplog) == [
        "the view could not read the node's state: OverflowError; the node goes on"
    ]


def test_a_terminal_that_has_gone_does_not_end_the_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = threading.current_thread()

    class Stops(Broken):
        node: FakeNode | None = None

        def write(self, text: str) -> int:
            if self.node is not None and threading.current_thread() is not here:
                node, self.node = self.node, None
                node.stop()
            return super().write(text)

    terminal = Stops()
    node = joined(monkeypatch, tmp_path, terminal, lambda node: setattr(terminal, "node", node))
    assert node.ended_well
    assert told(caplog)
    assert all(record.levelno == logging.ERROR for record in caplog.records)


def ready(invite: str) -> Record:
    return {"event": "ready", "peer": "12D3KooWours", "invite": invite}


def test_of_the_experts_found_before_it_is_ready_its_own_is_none() -> None:
    terminal = Terminal()
    view = view_on(terminal)
    for peer, model in (("12D3KooWours", "mine"), ("12D3KooWother", "theirs")):
        view.tell({"event": "expert_found", "peer": peer, "model": model, "n_params": 7})
    assert "expert" not in terminal.getvalue()
    view.tell(ready("/ip4/127.0.0.1/tcp/7339/p2p/12D3KooWours"))
    assert words_on("expert theirs") in words_on(terminal.getvalue())
    assert words_on("expert mine") not in words_on(terminal.getvalue())
    assert words_on("Only this machine can reach it") in words_on(terminal.getvalue())


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("mine.gguf", "Expert its own (mine.gguf) is"),
        ("Its-Own.gguf", "Expert its own is"),
        ("", "Expert its own is"),
    ],
)
def test_a_model_is_told_with_the_name_of_its_file(file: str, shown: str) -> None:
    terminal = Terminal()
    facts = {"n_params": 7, "context_max": 9, "seconds": 1.0, "tokens_per_s": 5.0, "file": file}
    view_on(terminal).tell({"event": "model_ready", "model": "its own", **facts})
    assert words_on(shown) in words_on(terminal.getvalue())


def test_its_own_expert_is_not_told_when_it_is_found_late() -> None:
    terminal = Terminal()
    view = view_on(terminal)
    view.tell(ready(""))
    for peer, model in (("12D3KooWours", "mine"), ("12D3KooWother", "theirs")):
        view.tell({"event": "expert_found", "peer": peer, "model": model, "n_params": 7})
    assert words_on("expert theirs") in words_on(terminal.getvalue())
    assert words_on("expert mine") not in words_on(terminal.getvalue())


def test_waits_of_the_start_are_told_in_the_live_state() -> None:
    terminal = Terminal()
    view = view_on(terminal)
    assert progress_line.show("Still working (4 s).")
    view.close()
    assert words_on("Still working (4 s).") in words_on(terminal.getvalue())


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_closed_swarm_is_not_said_to_be_joined_by_an_address(is_closed: bool) -> None:
    terminal = Terminal()
    address = "/ip4/192.0.2.7/tcp/7339/p2p/12D3KooWabcdef"
    view_on(terminal, is_closed=is_closed).tell(
        {"event": "ready", "peer": "12D3KooWabcdef", "invite": address, "http": ""}
    )
    shown = words_on(terminal.getvalue())
    assert (words_on("join --peer") in shown) != is_closed
    assert (words_on("The swarm is closed.") in shown) == is_closed
    assert words_on("swarmllm invite") in shown


def test_a_warning_begins_like_a_sentence() -> None:
    terminal = Terminal()
    view_on(terminal).tell({"event": "warning", "text": "the port is taken"})
    assert "The port is taken" in terminal.getvalue()
