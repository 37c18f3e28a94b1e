"""Markdown as it comes: finished blocks are laid out and stay, the block that is being written is
laid out anew with each piece.

Only the last block is ever drawn again, and no more of it than fits the screen, so nothing flickers
and nothing is lost from the scroll-back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.markdown import Markdown

from swarmllm.cli.progress_line import progress_line
from swarmllm.cli.screen import Line, Screen, Tail

FENCE: Final = re.compile(r"^ {0,3}(```+|~~~+)")
REFRESH_HZ: Final = 12


def blocks(text: str) -> list[str]:
    """The text cut behind blank lines that stand outside of code fences; joined they are the text.
    The last block is the one that may still grow."""
    found, block, fence = list[str](), "", ""
    for line in text.splitlines(keepends=True):
        block += line
        mark = FENCE.match(line)
        if mark is not None and not fence:
            fence = mark[1]
        elif mark is not None and mark[1].startswith(fence) and not line[mark.end() :].strip():
            fence = ""
        if not line.strip() and not fence and line.endswith("\n") and block.strip():
            found.append(block)
            block = ""
    return [*found, block]


class MarkdownStream:
    """Made by `shown`: `push` what comes."""

    def __init__(self, screen: Screen, live: Live) -> None:
        self._screen = screen
        self._live = live
        self._open = ""

    def push(self, piece: str) -> None:
        *finished, self._open = blocks(self._open + piece)
        for block in finished:
            self._print(block)
            self._screen.print()
        self._live.update(Tail(Markdown(self._open)))

    def wait(self, sentence: str) -> None:
        """Below what there is of the text, until more of it comes."""
        self._live.update(Group(Tail(Markdown(self._open)), Line(sentence, "dim")))

    def finish(self) -> None:
        """The last block is as it will be."""
        self._live.update(Tail(Markdown("")))
        if self._open.strip():
            self._print(self._open)
        self._open = ""

    def _print(self, block: str) -> None:
        """Above what is still being written, for good."""
        self._screen.print(Markdown(block.rstrip("\n")))


@contextmanager
def shown(screen: Screen) -> Iterator[MarkdownStream]:
    """A stream onto this screen; leaving the block lays out what is there."""
    with Live(console=screen, refresh_per_second=REFRESH_HZ, transient=True) as live:
        stream = MarkdownStream(screen, live)
        try:
            with progress_line.shown_by(stream.wait):
                yield stream
        finally:
            stream.finish()
