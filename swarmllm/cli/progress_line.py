"""Progress on a terminal: one line of standard error that each sentence about a wait takes from the
one before, and that is gone as soon as anything else is shown.

Standard error and standard output may be one terminal, or one file (`2>&1`), and a piece of an
answer may end in the middle of a line. So it is known here whether a line of text is open: the
progress line stands below it and leaves the cursor where it was, and a note begins a line of its
own. Whatever writes to either stream says so here first: `output` and `screen` do.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from swarmllm.runtime.visible import one_line

View = Callable[[str], object]
ERASE: Final = "\r\x1b[K"
# Down and up again, so that there is a line below; then note where the cursor is, and go there.
BELOW: Final = "\x1bD\x1bM\x1b7\x1b[B" + ERASE
BACK: Final = ERASE + "\x1b8"


def obeys(stream: TextIO | None) -> bool:
    """Whether it is a terminal that understands control sequences."""
    if stream is None or os.environ.get("TERM") in {"dumb", "unknown"}:
        return False
    return stream.isatty()


def is_one_place() -> bool:
    """Whether both output streams are one terminal, file or pipe."""
    try:
        out, err = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return False  # Closed, or replaced by something without a descriptor.
    return (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)


class ProgressLine:
    """There is one, since there is one standard error. Any thread may call its methods."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._views: list[View] = []
        self._is_text_open = False  # A line of an answer on standard output is not at its end.
        # Where the line stands, and what takes it away.
        self._shown: tuple[TextIO, str] | None = None

    def show(self, sentence: str) -> bool:
        """Show it until something else is shown; whether that can be done here. An empty one takes
        the last one away."""
        with self._lock:
            view = self._views[-1] if self._views else None
            if view is None:
                return self._draw(sys.stderr, sentence)
        view(sentence)  # Outside of the lock: a view has locks of its own, and shows things.
        return True

    def clear(self) -> None:
        """Something else is about to be shown."""
        with self._lock:
            if self._shown is not None:
                (stream, text), self._shown = self._shown, None
                _write(stream, text)

    def wrote(self, text: str) -> None:
        """A piece of an answer has gone to standard output."""
        if text:
            self._is_text_open = not text.endswith("\n")

    def line_break(self) -> str:
        """What a note on standard error begins with, so that it does not stand within a line of an
        answer."""
        with self._lock:
            self.clear()
            is_within = self._is_text_open and is_one_place()
            self._is_text_open &= not is_within
            return "\n" if is_within else ""

    @contextmanager
    def shown_by(self, view: View) -> Iterator[None]:
        """While the block runs, a live view, which draws the bottom of the screen itself, is given
        the sentences, from whatever thread, and an empty one when there is none any more."""
        with self._lock:
            self.clear()
            self._views.append(view)
        try:
            yield
        finally:
            with self._lock:
                self._views.remove(view)

    def _draw(self, stream: TextIO | None, sentence: str) -> bool:
        # A live view that knows nothing of this line may have taken the stream's place.
        if stream is None or not obeys(stream) or hasattr(stream, "rich_proxied_file"):
            return False
        if not sentence:
            self.clear()
            return True
        begin = ERASE
        if self._shown is None:
            is_within = self._is_text_open and is_one_place()
            begin = BELOW if is_within else ERASE
            self._shown = stream, BACK if is_within else ERASE
        columns = shutil.get_terminal_size().columns - 1
        # It must not wrap; characters of other scripts may take two columns.
        cut = one_line(sentence)[: columns if sentence.isascii() else columns // 2]
        _write(stream, f"{begin}\x1b[2m{cut}\x1b[22m")
        return True


progress_line: Final = ProgressLine()


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return  # Nobody is there to read it.
