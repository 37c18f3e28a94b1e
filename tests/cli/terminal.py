"""A terminal that keeps what was written to it, and knows what would have acted there."""

from __future__ import annotations

import io
import re
from typing import Final

from swarmllm.cli.screen import Screen

WIDTH: Final = 160
# What views may send of their own: colours and styles, and what moves a live view: cursor off and
# on, a line up, a line erased.
OWN: Final = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*A|\x1b\[2K|\r")


class Terminal(io.StringIO):
    """Stands in for `sys.stdout` and `sys.stderr`."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def screen_on(terminal: io.StringIO) -> Screen:
    return Screen(
        file=terminal, force_terminal=True, width=WIDTH, height=100, color_system="truecolor"
    )


def words_on(raw: str) -> str:
    """All that can be read, without spaces, line breaks and what tables fold lines with."""
    return re.sub(r"[\s…│─]", "", OWN.sub("", raw))


def acting_in(raw: str) -> set[str]:
    """Characters that a view let through and that would act on a terminal."""
    return set(OWN.sub("", raw)) & (set(ACTING) - {"\n", "\t"})


PRINTABLE: Final = tuple(map(chr, range(0x21, 0x7F)))
ACTING: Final = tuple(
    map(
        chr,
        (
            *range(0x20),
            *range(0x7F, 0xA0),
            *(0xAD, 0x61C, 0x180E, 0x3164, 0xFEFF, 0xFFF9, 0xFFFB),
            *range(0x200B, 0x2010),
            *range(0x2028, 0x202F),
            *range(0x2060, 0x2070),
            *(0xD800, 0xDBFF, 0xDC80, 0xDC9B, 0xDFFF),
            *(0xE0001, 0xE0020, 0xE0041, 0xE007E, 0xE007F, 0xE0100),
        ),
    )
)
MARKUP: Final = (
    "[/x]",
    "[/]",
    "[",
    "[[",
    "\\[x]",
    "[bold]x",
    "[on red]x[/on red]",
    "[link=http://a.example]x[/link]",
    "[@click=app.quit]x[/]",
    "[not_a_style]",
    ":smile:",
    ":warning:",
    "`x`",
    "**x**",
    "<b>&amp;",
    "{}",
    "{0}",
    "{task.description}",
    "%s%d%(x)s",
    "$(x)",
    "http://a.example/",
    "192.0.2.1",
    "True",
    "'x'",
)
SEQUENCES: Final = (
    "\x1b]52;c;cm0gLXJm\x07",  # writes the clipboard
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",  # clears the screen
    "\x1b]8;;http://a.example\x1b\\x\x1b]8;;\x1b\\",  # a link
    "\x1b[31mx\x1b[0m",
    "\x9b2J",
    "\x9d52;c;eA==\x9c",
    "\x1bc",
    "\x1b[?1049h",
    "\u202egnp.exe\u202c",
    "x\r\x1b[Ky",
    "x\n\nswarmllm: y",
)
