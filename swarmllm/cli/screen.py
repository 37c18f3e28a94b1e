"""The one way by which tables and lines of text reach a terminal: whatever stands in them is shown,
and nothing in it acts.

Words of strangers are everywhere: names of models, addresses, texts of errors, answers. So no
string is ever read as rich's markup, as an emoji's name or as something to highlight; what a
terminal would obey or hide is written out (`runtime.visible`), faintly; and nothing becomes a link.
Styles come from the code alone, as arguments: `Line("halted", "bold red")`.

A test (`tests/cli/test_nothing_passes_the_door.py`) sees to it that no other module of the commands
makes a console or a `Text` of rich.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any, Final

from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    OverflowMethod,
    RenderableType,
)
from rich.segment import Segment
from rich.status import Status
from rich.style import Style
from rich.table import Table
from rich.text import Text

from swarmllm.cli.progress_line import progress_line
from swarmllm.runtime.visible import flowing, runs

UNBOUNDED: Final = 100_000  # Columns.


class Line(Text):
    """One line of styled text, which shows any string that it is given. Line breaks and tabs are
    written out as well."""

    flows = False

    def __init__(self, text: object = "", style: str | Style = "", **layout: Any) -> None:
        """`layout`: what `rich.text.Text` takes besides."""
        super().__init__("", style, **layout)
        self.append(str(text))

    def append(self, text: Text | str, style: str | Style | None = None) -> Line:
        if isinstance(text, Text):
            super().append(text, style)
            return self
        for part, is_written_out in runs(text, flows=self.flows):
            at = len(self)
            super().append(part, style)
            if is_written_out:
                self.stylize("dim", at)
        return self


class Flow(Line):
    """Text of any number of lines: line feeds and tabs are kept."""

    flows = True


class Screen(Console):
    """A console for which a string is a string. Anything that other renderables let through is
    caught where it is rendered."""

    def __init__(self, **how: Any) -> None:
        """`how`: what `rich.console.Console` takes."""
        super().__init__(markup=False, emoji=False, highlight=False, **how)
        self._is_for_programs = (
            not self.is_terminal and how.get("width") is None and "COLUMNS" not in os.environ
        )

    def print(self, *objects: Any, **how: Any) -> None:
        """In a pipe or a file tables and sentences have the width that they need, and no line ends
        in blanks."""
        progress_line.clear()
        if not (self._is_for_programs and objects and all(map(_is_bounded, objects))):
            super().print(*objects, **how)
            return
        usual, self.width = self.width, UNBOUNDED
        try:
            with self.capture() as captured:
                super().print(*objects, **how)
        finally:
            self.width = usual
        lines = "\n".join(line.rstrip() for line in captured.get().split("\n"))
        super().print(Flow(lines), end="", soft_wrap=True)

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        **_reading: object,
    ) -> Text:
        """Also for cells, titles and headings. Whoever asks for markup here does not get it."""
        return Line(text, style, justify=justify, overflow=overflow)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        return map(_harmless, super().render(renderable, options))

    def status(self, status: RenderableType, **how: Any) -> Status:
        return _Status(_shown(status), console=self, **how)

    def drop(self) -> None:
        """Forget what this thread printed and could not write: rich would keep it, and write it
        again before all that follows."""
        before, self.quiet = self.quiet, True
        self.print()
        self.quiet = before

    def on_broken_pipe(self) -> None:
        """rich would end the program; whether a reader that has gone matters is for the command to
        say."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads it any more")


def _is_bounded(shown: object) -> bool:
    """Whether it takes no more columns than what stands in it: tables and lines of text, alone or
    in a group. Rules and panels take all that there are."""
    if isinstance(shown, Group):
        return all(isinstance(one, str) or _is_bounded(one) for one in shown.renderables)
    return isinstance(shown, (Table, Text))


class Tail:
    """The last lines of what is shown, as many as the screen has room for."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        lines = console.render_lines(self._whole, options, pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()


class _Status(Status):
    """A spinner's words are markup to rich, whatever the console says."""

    def update(self, status: RenderableType | None = None, **how: Any) -> None:
        super().update(None if status is None else _shown(status), **how)


def _shown(status: RenderableType) -> RenderableType:
    return Line(status) if isinstance(status, str) else status


def _harmless(segment: Segment) -> Segment:
    """Control segments are rich's own: they move the cursor of a live view."""
    if segment.control is not None:
        return segment
    text, style = flowing(segment.text), segment.style
    if style is not None and style.link is not None:
        style = style.update_link(None)
    return segment if text == segment.text and style is segment.style else Segment(text, style)
