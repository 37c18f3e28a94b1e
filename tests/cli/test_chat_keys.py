"""Laws of chat under its keyboard and its terminal: no Ctrl-C ends a conversation, whenever and
however often it comes; what cannot be shown any more does."""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from swarmllm.cli import chat
from swarmllm.cli.conversation import Conversation
from swarmllm.cli.generate import ShownAnswer
from swarmllm.cli.output import people
from swarmllm.cli.streams import OutputError
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.request import TextRequest
from tests.cli.terminal import Terminal

QUESTION = TextRequest(prompt="?")
Answers = Callable[[], AsyncIterator[dict[str, Any]]]


async def endless() -> AsyncIterator[dict[str, Any]]:
    yield {"event": "text", "text": "said"}
    await trio.sleep_forever()


def on(answers: Answers, monkeypatch: pytest.MonkeyPatch, call: Any = None) -> chat._Loop:
    """A loop whose node gives these records to every question, and what `call` does to others."""

    @asynccontextmanager
    async def answering(request: TextRequest) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        yield answers()

    @asynccontextmanager
    async def open_client(config: Config, *, local: bool) -> AsyncIterator[object]:
        async with trio.open_nursery():
            node = SimpleNamespace(call=call)
            yield SimpleNamespace(answering=answering, peer="", node=node)

    monkeypatch.setattr(chat, "open_client", open_client)
    return chat._Loop(Config(Path("data"), Path("cache")), local=False, verbose=False)


def test_the_receipt_of_an_answer_is_written_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "talk.receipt"
    names: list[str] = []

    async def answered() -> AsyncIterator[dict[str, Any]]:
        yield {"event": "text", "text": "said"}
        yield {"event": "end", "reason": "stop", "tokens": 1, "seconds": 1.0, "tokens_per_s": 1.0}

    async def signed() -> AsyncIterator[dict[str, Any]]:
        yield {"event": "receipt", "receipt": "what was signed"}

    @asynccontextmanager
    async def call(op: str, params: dict[str, str]) -> AsyncIterator[Any]:
        assert op == "receipt"
        names.append(params["name"])
        yield signed()

    loop = on(answered, monkeypatch, call)
    lines = iter([f"/receipt {file}", "Hello", "Hello again", "/receipt", f"/receipt {file}"])
    asked: list[str] = []
    answer = loop.answer

    def noting(request: TextRequest, **more: Any) -> str:
        asked.append(request.receipt)
        return answer(request, **more)

    monkeypatch.setattr(loop, "answer", noting)

    def read() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    loop.start()
    try:
        chat._talk(loop, QUESTION, Conversation(), read)
    finally:
        loop.leave()
    assert asked == [*names, ""], "of the next answer, and of no later one"
    assert file.read_text() == "what was signed"
    assert file.stat().st_mode & 0o777 == 0o600
    told = capsys.readouterr().err
    assert "/receipt needs the name of a file" in told
    assert "is there already" in told


@pytest.fixture
def keyboard() -> Iterator[tuple[chat._Keyboard, list[str]]]:
    """And how often it said stop."""
    stops: list[str] = []
    found = chat._Keyboard(lambda: stops.append("stop"))
    before = signal.signal(signal.SIGINT, found)
    yield found, stops
    signal.signal(signal.SIGINT, before)


def typed(monkeypatch: pytest.MonkeyPatch, body: Callable[[], str]) -> None:
    monkeypatch.setattr(builtins, "input", lambda prompt="": body())


def ctrl_c() -> str:
    signal.raise_signal(signal.SIGINT)
    return "a line"


def test_outside_of_the_line_editor_ctrl_c_stops_and_raises_nothing(
    keyboard: tuple[chat._Keyboard, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, stops = keyboard
    ctrl_c()
    assert stops == ["stop"]
    typed(monkeypatch, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        keys.read()
    ctrl_c()
    assert stops == ["stop"] * 2
    typed(monkeypatch, lambda: "a line")
    assert keys.read() == "a line"


def test_ctrl_c_twice_at_once_throws_one_line_away(
    keyboard: tuple[chat._Keyboard, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> str:
        try:
            return ctrl_c()
        except KeyboardInterrupt:
            ctrl_c()
            # What Python makes of a handler that returns with an exception on its way.
            raise SystemError("returned a result with an exception set") from None

    typed(monkeypatch, twice)
    with pytest.raises(KeyboardInterrupt):
        keyboard[0].read()
    typed(monkeypatch, lambda: "the next")
    assert keyboard[0].read() == "the next"


def test_an_answer_that_is_stopped_keeps_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = on(endless, monkeypatch)
    loop.start()

    def press() -> None:
        while loop._asked is None:
            time.sleep(0.001)
        time.sleep(0.1)  # For the first piece.
        for _ in range(50):
            loop.stop()

    for _ in range(2):
        fingers = threading.Thread(target=press)
        fingers.start()
        assert loop.answer(QUESTION) == "said"
        fingers.join()
        loop.stop()  # Nothing is asked: nothing happens.
    loop.leave()
    assert not loop._thread.is_alive()


async def wordless() -> AsyncIterator[dict[str, Any]]:
    await trio.sleep_forever()
    yield {}


def test_an_answer_that_is_stopped_before_its_first_word_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = on(wordless, monkeypatch)
    loop.start()

    def press() -> None:
        while loop._asked is None:
            time.sleep(0.001)
        loop.stop()

    fingers = threading.Thread(target=press)
    fingers.start()
    loop.answer(QUESTION)
    fingers.join()
    loop.leave()
    assert capsys.readouterr().err == "(stopped)\n"


def test_ctrl_c_leaves_a_line_that_was_typed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    person, terminal = os.openpty()
    with open(person, "wb", buffering=0), open(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(stdin)
        with chat.keeping_what_is_typed_ahead():
            os.write(person, b"kept\n\x03")
            assert stdin.readline() == "kept\n"
        assert termios.tcgetattr(stdin) == before


def test_a_node_that_ends_leaves_the_conversation_to_be_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken() -> AsyncIterator[dict[str, Any]]:
        raise ZeroDivisionError
        yield {}

    loop = on(broken, monkeypatch)
    loop.start()
    with pytest.raises(BaseExceptionGroup):
        loop.answer(QUESTION)
    with pytest.raises(LocalError, match="has ended"):
        loop.answer(QUESTION)
    loop.stop()
    loop.leave()


async def cut_off() -> AsyncIterator[dict[str, Any]]:
    yield {"event": "text", "text": "half"}


def test_half_an_answer_of_a_node_that_died_is_told_and_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = on(cut_off, monkeypatch)
    loop.start()
    assert loop.answer(QUESTION) == "half"
    loop.leave()
    shown = capsys.readouterr()
    assert shown.out == "half\n"
    assert "the node ended before the answer did" in shown.err


@pytest.mark.parametrize("as_json", [True, False])
def test_half_an_answer_is_a_failure_of_generate(as_json: bool) -> None:
    @asynccontextmanager
    async def answering(request: TextRequest) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        yield cut_off()

    client: Any = SimpleNamespace(answering=answering, peer="")
    answer = ShownAnswer(client, people(), as_json=as_json)
    with pytest.raises(LocalError, match="ended before"):
        trio.run(answer.run, QUESTION)


def test_leaving_while_the_node_starts_waits_for_its_clean_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cleaned, opening = threading.Event(), threading.Event()

    @asynccontextmanager
    async def open_client(config: Config, *, local: bool) -> AsyncIterator[object]:
        try:
            opening.set()
            await trio.sleep_forever()
            yield
        finally:
            cleaned.set()

    monkeypatch.setattr(chat, "open_client", open_client)
    loop = chat._Loop(Config(Path("data"), Path("cache")), local=False, verbose=False)
    loop._thread.start()
    assert opening.wait(5)
    loop.leave()
    assert cleaned.is_set()


def test_where_nothing_can_be_shown_there_is_no_conversation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(request: TextRequest) -> str:
        raise OutputError("cannot write to standard output")

    with pytest.raises(OutputError):
        chat.turn(Conversation(), "Hello", QUESTION, full)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("typing", "seen"), [(True, True), (True, False), (False, True)])
def test_in_a_pipe_are_answers_alone(
    typing: bool, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal() if typing else io.StringIO())
    monkeypatch.setattr(sys, "stdout", Terminal() if seen else io.StringIO())
    shown: list[str] = []

    def read(prompt: str = "") -> str:
        shown.append(prompt)
        return "a line"

    monkeypatch.setattr(builtins, "input", read)
    assert chat._Keyboard(lambda: None).read() == "a line"
    assert shown == ["> " if typing and seen else ""]
