"""What a command was asked to show goes to standard output, for people as for machines (`--json`);
progress, notices and errors go to standard error. This module is the one place where the commands
write to either.

Much of what they write are words of strangers. Records and, in a pipe or a file, answers go out
exactly. Everything that a person reads goes through `runtime.visible`: here, or in `screen`, which
tables and styled lines are made of.

Records and text go to file descriptor 1 directly: a reader that has gone (`| head`) shows at once,
and nothing is left in a buffer whose flush could fail or block while the interpreter shuts down.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sys
import threading
import time
import traceback
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

from swarmllm.cli.progress_line import obeys, progress_line
from swarmllm.cli.streams import write_all
from swarmllm.errors import LocalError
from swarmllm.runtime.logs import OneLine
from swarmllm.runtime.visible import flowing, json_of, runs

if TYPE_CHECKING:
    from swarmllm.cli.screen import Screen

_writing = threading.Lock()
INSET: Final = "\n  "
CLI: Final = "swarmllm.cli"  # The `event` of what a command itself says, where that is JSON.


class _Manner:
    """How this process speaks on standard error."""

    is_json = False


T = TypeVar("T")


def write_stdout(text: str) -> None:
    """Write all of `text`, exactly; BrokenPipeError if nobody reads any more, OutputError if it
    cannot be written."""
    _write_all(text, _exact(text))


def write_answer(text: str) -> None:
    """A piece of what strangers' experts wrote: exactly, for a pipe or a file; on a terminal it
    shows what would act there.

    Pieces need not end where characters' meanings do: an escape sequence that comes in two is
    caught by its first character.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        write_stdout(text)
        progress_line.wrote(text)
        return
    shown = _with_faint(text) if _has_colours(sys.stdout) else flowing(text)
    # In the terminal's own encoding: a byte of a UTF-8 sequence may be a control character in
    # another.
    _write_all(shown, shown.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
    progress_line.wrote(text)


def _exact(text: str) -> bytes:
    """UTF-8, and the bytes of file names that are none; what never was bytes becomes a question
    mark."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _write_all(text: str, data: bytes) -> None:
    if sys.stdout is None:
        raise LocalError(
            "standard output is closed, so nothing can be shown there; send it to a terminal,"
            " a file or a pipe"
        )
    progress_line.clear()
    try:
        descriptor = sys.stdout.fileno()
    # Replaced by an object without a descriptor (a test, a notebook).
    except (OSError, ValueError):
        sys.stdout.write(text)
        return
    write_all(descriptor, data)


def _has_colours(stream: TextIO) -> bool:
    return "NO_COLOR" not in os.environ and obeys(stream)


def _with_faint(text: str) -> str:
    return "".join(
        f"\x1b[2m{part}\x1b[22m" if is_written_out else part
        for part, is_written_out in runs(text, flows=True)
    )


async def in_thread(write: Callable[[T], object], what: T) -> None:
    """Write from a trio task: a reader that is slow, or has stopped, must not hold up the node (nor
    its lease on the engine).

    When cancelled, the thread is left to itself; whoever writes next waits for it, so lines stay
    whole.
    """
    import trio  # Here, so that help and usage errors need not wait for it.

    def alone() -> None:
        with _writing:
            write(what)

    await trio.to_thread.run_sync(alone, abandon_on_cancel=True)  # type: ignore[call-arg]  # Some installed stubs are older than trio.


async def write_stdout_async(text: str) -> None:
    await in_thread(write_stdout, text)


async def write_answer_async(text: str) -> None:
    await in_thread(write_answer, text)


def line(record: Mapping[str, object]) -> str:
    """One record as one line of JSON; `time` (Unix seconds) is added if it is missing."""
    complete = dict(record) if "time" in record else {**record, "time": round(time.time(), 3)}
    return json_of(complete) + "\n"


def print_record(record: Mapping[str, object]) -> None:
    write_stdout(line(record))


async def print_record_async(record: Mapping[str, object]) -> None:
    await write_stdout_async(line(record))


def people(*, width: int | None = None) -> Screen:
    """The console for what is told besides, such as progress: standard error, colours only on a
    terminal."""
    from swarmllm.cli.screen import Screen  # Here, so that help need not wait for it.

    return Screen(stderr=True, soft_wrap=False, width=width)


def answer(*, width: int | None = None) -> Screen:
    """The console for what a command was asked to show: standard output, so that `swarmllm doctor >
    file` holds it."""
    from swarmllm.cli.screen import Screen

    return Screen(soft_wrap=False, width=width)


def speak_json() -> None:
    """From now on each sentence is one JSON object a line."""
    _Manner.is_json = True


def log_line(fields: Mapping[str, object]) -> None:
    """One line of a log, on standard error."""
    _write_stderr(line(fields))


def complain(sentence: str) -> None:
    """One sentence of an error, red on a terminal. Plain writing, since it must work when all else
    does not."""
    if _Manner.is_json:
        log_line({"level": "error", "event": CLI, "message": sentence})
    else:
        _say(f"swarmllm: {sentence}", "\x1b[31m")


def notice(sentence: str) -> None:
    """One sentence that is no error."""
    if _Manner.is_json:
        log_line({"level": "info", "event": CLI, "message": sentence})
    else:
        _say(sentence, "\x1b[2m")


def waiting(sentence: str) -> None:
    """One sentence about a wait that goes on: in place of the one before where that can be done,
    else a notice."""
    if _Manner.is_json or not progress_line.show(sentence):
        notice(sentence)


def trace(raised: BaseException) -> None:
    """Where an exception comes from. Its text, and those of all before it, may quote a peer."""
    text = "".join(traceback.format_exception(raised)).rstrip("\n")
    if _Manner.is_json:
        log_line({"level": "error", "event": CLI, "message": text})
    else:
        _say(text, "")


def _say(sentence: str, colour: str) -> None:
    """Sentences quote strangers. Further lines are set in, so that a line break in a quotation does
    not begin another sentence."""
    begin, end = (colour, "\x1b[0m") if colour and _is_coloured() else ("", "")
    lines = flowing(sentence).split("\n")
    if _is_terminal():
        columns = shutil.get_terminal_size().columns
        lines = [part for line_ in lines for part in wrapped(line_, columns)]
    _write_stderr(f"{begin}{INSET.join(lines)}{end}\n")


def wrapped(text: str, columns: int) -> list[str]:
    """Broken between words. A command in backquotes stays whole, so that it can be copied; what is
    too long for any line the terminal breaks."""
    lines, used = [""], 0
    for word in re.findall(r"(?:`[^`]*`|\S)+|\s+", text):
        wide = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in word)
        if used and used + wide > columns - len(INSET) and not word.isspace():
            lines[-1] = lines[-1].rstrip()
            lines.append("")
            used = 0
        if word.isspace() and not used and len(lines) > 1:
            continue
        lines[-1] += word
        used += wide
    return lines


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and obeys(sys.stderr)
    except ValueError:
        return False  # It was closed.


def _is_coloured() -> bool:
    try:
        return sys.stderr is not None and _has_colours(sys.stderr)
    except ValueError:
        return False  # It was closed.


def _write_stderr(text: str) -> None:
    stream: TextIO | None = sys.stderr
    if stream is None:
        return  # It was closed before we began.
    line_break = progress_line.line_break()
    try:
        stream.write(line_break + text)
        stream.flush()
    except (OSError, ValueError):
        return  # Nobody is there to read it; the exit code still tells.


def catch_strays() -> None:
    """What libraries say past every door, on standard error: log lines that no handler took, and
    threads that end by an exception."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(OneLine())
    threading.excepthook = _thread_ended


def _thread_ended(how: threading.ExceptHookArgs) -> None:
    if how.exc_value is not None and not isinstance(how.exc_value, SystemExit):
        trace(how.exc_value)


def shell_word(text: str) -> str:
    """As a word of a command line that can be pasted; what is no printable text (bytes of a name
    that is not UTF-8) as its bytes."""
    if text.isprintable():
        return shlex.quote(text)
    data = text.encode("utf-8", "surrogateescape")
    return (
        "$'"
        + "".join(chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\x{b:02x}" for b in data)
        + "'"
    )


def short_peer(peer: str) -> str:
    """A peer id as people compare it: all Ed25519 ids begin alike, so the end tells them apart."""
    return peer if len(peer) <= 8 else f"…{peer[-6:]}"


def ago(seconds: float) -> str:
    """A duration for people: 3 s, 4 min, 2 h, 5 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """Bytes for people, in powers of 1,000 as disks and networks count."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= one:
            return f"{n_bytes / one:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def count(number: float) -> str:
    """A count for people: 6.1 M, 8.0 B."""
    for unit, one in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= one:
            return f"{number / one:.1f} {unit}"
    return f"{number:.0f}"
