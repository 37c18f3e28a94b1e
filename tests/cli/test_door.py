"""The door itself: a string is a string, whoever hands it in; only styles of our own and rich's
cursor movements act."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.progress import Progress, TextColumn
from rich.rule import Rule
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from swarmllm.cli import output
from swarmllm.cli.screen import Flow, Line
from swarmllm.runtime.visible import flowing, one_line
from tests.cli.terminal import ACTING, MARKUP, SEQUENCES, Terminal, acting_in, screen_on, words_on

HOSTILE = st.sampled_from([*MARKUP, *SEQUENCES, *ACTING, "ab", " "])
TEXTS = st.lists(HOSTILE, min_size=1, max_size=5).map("".join)
CLIPBOARD = "\x1b]52;c;cm0gLXJm\x07"


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Both streams, from here on. A fixture would come too early: pytest puts its own streams in
    place just before a test."""
    both = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    return both


# --- tables and lines -----------------------------------------------------------------------------


@given(TEXTS)
def test_a_console_takes_no_string_for_anything_else(text: str) -> None:
    """Printed, in a cell, a title, a heading, a rule, a spinner, a bar: rich reads some of them as
    markup whatever its console says."""
    terminal = Terminal()
    screen = screen_on(terminal)
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    screen.print(text)
    screen.print(text, markup=True, emoji=True, highlight=True)
    screen.print(table)
    screen.rule(text)
    screen.print(Rule(text))
    with screen.status(text) as spinner:
        spinner.update(text)
    with Progress(TextColumn("{task.description}", markup=False), console=screen) as bar:
        bar.add_task(text, total=1)
    with Live(text, console=screen) as live:
        live.update(text, refresh=True)
    assert acting_in(terminal.getvalue()) == set()
    assert "\x1b]" not in terminal.getvalue()
    assert words_on(terminal.getvalue()).count(words_on(one_line(text))) >= 8


def test_what_renders_itself_is_caught_as_well() -> None:
    """Whatever part of rich goes round the strings: the last look is at what was rendered."""

    class Raw:
        def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
            yield Segment(CLIPBOARD)

    terminal = Terminal()
    screen = screen_on(terminal)
    screen.print(Raw())
    screen.print(Text(CLIPBOARD, Style(link="http://a.example")))
    screen.print(Text.from_markup("[link=http://a.example]here[/link]"))
    screen.print(Markdown(f"[here](http://a.example) {CLIPBOARD}"))
    assert acting_in(terminal.getvalue()) == set()
    assert "\x1b]" not in terminal.getvalue()


@given(st.lists(TEXTS, max_size=4))
def test_lines_are_one_line_and_texts_keep_theirs(texts: list[str]) -> None:
    line, flow = Line(), Flow()
    for text in texts:
        line.append(text, "bold")
        flow.append(text)
    assert line.plain == one_line("".join(texts))
    assert flow.plain == flowing("".join(texts))


def test_what_was_written_out_is_faint_beside_what_was_not() -> None:
    terminal = Terminal()
    screen_on(terminal).print(Line("a\x1bb", "red"))
    assert terminal.getvalue() == "\x1b[31ma\x1b[0m\x1b[2;31m\\x1b\x1b[0m\x1b[31mb\x1b[0m\n"


def test_a_reader_that_has_gone_ends_no_program() -> None:
    """rich's own console would leave with SystemExit, out of whichever thread it was in."""

    class Gone(Terminal):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        screen_on(Gone()).print("x")


def test_what_could_not_be_written_is_not_kept() -> None:
    class Full(Terminal):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    terminal = Full()
    screen = screen_on(terminal)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            screen.print("lost")
        screen.drop()
    terminal.is_full = False
    screen.print("kept")
    assert terminal.getvalue() == "kept\n"


# --- answers --------------------------------------------------------------------------------------


@given(TEXTS, st.lists(st.integers(0, 60), max_size=6))
def test_an_answer_may_come_in_any_pieces(text: str, cuts: list[int]) -> None:
    terminal = Terminal()
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        for begin, end in pairwise(places):
            output.write_answer(text[begin:end])
    assert acting_in(terminal.getvalue()) == set()
    assert words_on(terminal.getvalue()) == words_on(flowing(text))


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_without_colours_an_answer_has_no_escape_at_all(
    variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setenv(*variable)
    output.write_answer("a\x1b[2J")
    output.notice("b\x1b[2J")
    output.complain("c\x1b[2J")
    assert terminal.getvalue() == "a\\x1b[2Jb\\x1b[2J\nswarmllm: c\\x1b[2J\n"


@pytest.mark.parametrize("text", [*SEQUENCES, *MARKUP])
def test_an_answer_is_exact_in_a_pipe(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert through_pipe(monkeypatch, output.write_answer, text) == text.encode()


def test_the_bytes_of_a_name_are_exact_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        through_pipe(monkeypatch, output.write_answer, os.fsdecode(b"caf\xe9\x9b"))
        == b"caf\xe9\x9b"
    )


def test_a_terminal_of_another_encoding_gets_no_byte_of_utf_8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Û is C3 9B in UTF-8, and 9B begins a sequence where every byte is a character."""

    class Latin(Terminal):
        encoding = "iso8859-1"

        def fileno(self) -> int:
            return write

    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdout", Latin())
    output.write_answer("Û 日")
    os.close(write)
    with os.fdopen(read, "rb") as end:
        assert end.read() == b"\xdb \\u65e5"


def through_pipe(monkeypatch: pytest.MonkeyPatch, write_to: object, text: str) -> bytes:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as end:
        with os.fdopen(write, "w", encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert callable(write_to)
            write_to(text)
        return end.read()


@given(TEXTS)
def test_a_record_is_exact_once_parsed_and_harmless_as_it_stands(text: str) -> None:
    line = output.line({"event": "token", "text": text})
    # JSON joins halves.
    assert json.loads(line)["text"] == text or any("\ud800" <= char <= "\udfff" for char in text)
    assert line.index("\n") == len(line) - 1
    assert acting_in(line) == set()


# --- sentences ------------------------------------------------------------------------------------


def test_a_line_break_in_a_quotation_begins_no_sentence_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_terminal(monkeypatch)
    output.complain("a peer says: x\nswarmllm: all is well")
    assert "\n  swarmllm: all is well" in terminal.getvalue()


def test_a_closed_stream_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        output.complain("x")
        output.notice("x")


def test_strays_of_libraries_come_through_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line that no handler took, and a thread that ends by an exception."""
    terminal = on_terminal(monkeypatch)
    assert logging.lastResort is not None
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    formatter = logging.lastResort.formatter
    output.catch_strays()
    try:
        logging.lastResort.handle(
            logging.LogRecord("zeroconf", logging.WARNING, "", 0, "odd name %s", (CLIPBOARD,), None)
        )
    finally:
        logging.lastResort.setFormatter(formatter)

    def ends() -> None:
        raise ValueError(CLIPBOARD)

    thread = threading.Thread(target=ends)
    thread.start()
    thread.join()
    assert "warning zeroconf: odd name \\x1b]52" in terminal.getvalue()
    assert "ValueError: \\x1b]52" in terminal.getvalue()
    assert acting_in(terminal.getvalue()) == set()
