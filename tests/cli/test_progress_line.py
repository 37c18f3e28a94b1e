"""Waits are told in one line of a terminal, and no note stands within a line of an answer."""

from __future__ import annotations

import os
import sys
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from swarmllm.cli import output
from swarmllm.cli.progress_line import BACK, BELOW, ERASE, ProgressLine, progress_line

Ends = tuple[int, int]


def shown(
    monkeypatch: pytest.MonkeyPatch, ends: Callable[[], Ends], body: Callable[[], object]
) -> str:
    """What `body` writes to both streams, which are one terminal or one pipe."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    reading, writing = ends()
    if os.isatty(writing):
        tty.setraw(writing)  # Line feeds come out as they went in.

    def stream() -> TextIO:
        return open(writing, "w", encoding="utf-8", closefd=False)

    with stream() as out, stream() as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        # Whatever a test before has written last.
        monkeypatch.setattr(progress_line, "_is_text_open", False)
        body()
        monkeypatch.undo()
    os.close(writing)
    found = b"".join(_pieces(reading)).decode()
    os.close(reading)
    return found


def _pieces(reading: int) -> Iterator[bytes]:
    """Until the end, which a terminal tells by an error: it may hand over less than was written."""
    with suppress(OSError):
        while piece := os.read(reading, 1 << 16):
            yield piece


def faint(text: str) -> str:
    return f"\x1b[2m{text}\x1b[22m"


def test_each_wait_takes_the_line_of_the_one_before_and_a_note_the_place_of_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body() -> None:
        output.waiting("one (4 s).")
        output.waiting("a sentence that is longer than the line")
        output.notice("told")
        output.waiting("two")
        progress_line.show("")

    assert shown(monkeypatch, os.openpty, body) == (
        f"{ERASE}{faint('one (4 s).')}{ERASE}{faint('a sentence that is ')}"
        f"{ERASE}\x1b[2mtold\x1b[0m\n{ERASE}{faint('two')}{ERASE}"
    )


def test_a_wait_within_a_line_of_an_answer_stands_below_it_and_the_answer_goes_on_in_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body() -> None:
        output.write_answer("half a wo")
        output.waiting("one")
        output.waiting("two")
        output.write_answer("rd\n")
        output.waiting("three")
        progress_line.clear()

    assert shown(monkeypatch, os.openpty, body) == (
        f"half a wo{BELOW}{faint('one')}{ERASE}{faint('two')}{BACK}rd\n"
        f"{ERASE}{faint('three')}{ERASE}"
    )


@pytest.mark.parametrize("ends", [os.openpty, os.pipe])
def test_a_note_begins_a_line_of_its_own_where_both_streams_are_one(
    monkeypatch: pytest.MonkeyPatch, ends: Callable[[], Ends]
) -> None:
    def body() -> None:
        output.write_answer("half a wo")
        output.notice("told")
        output.write_answer("rd\n")
        output.notice("told again")

    found = shown(monkeypatch, ends, body).replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert found == "half a wo\ntold\nrd\ntold again\n"


def test_in_a_pipe_a_wait_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, os.pipe, lambda: output.waiting("one")) == "one\n"


def test_a_live_view_is_given_the_waits_and_told_of_their_end() -> None:
    line, told = ProgressLine(), list[str]()
    with line.shown_by(told.append):
        assert line.show("one")
        assert line.show("")
    assert told == ["one", ""]
    assert not line.show("nobody shows this: standard error is no terminal here")
