"""The three standard streams, made fit before anything is done: whatever the caller of a command
closed, filled up or set otherwise.

A closed stream's number would go to the next file that is opened, and the records meant for a
reader into that file; so the number is taken by the null device, open the wrong way round, and
whoever uses the stream is told. Standard output may be a pipe that was set not to block, or a disk
that is full; standard error may be either as well, and then nobody can be told, but the exit code
must still be right.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, Final, TextIO

from swarmllm.errors import LocalError

STDIN, STDOUT, STDERR = 0, 1, 2
_CODEPAGE: Final = "utf-8"
COLUMNS_MIN: Final = 40


class OutputError(LocalError):
    """What a command was asked to show could not be written."""


def prepare() -> None:
    """Call it once, before anything is read or written. Streams that somebody else replaced (a
    test, a notebook) stay theirs."""
    for number, flags in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        if not _is_open(number):
            _take_number(number, flags)
    if sys.stdin is None:
        sys.stdin = open(STDIN, encoding=_CODEPAGE, closefd=False)  # noqa: SIM115  For as long as the program lasts.
    elif isinstance(sys.stdin, io.TextIOWrapper):
        # A byte that is not text is told as such where it is looked at.
        sys.stdin.reconfigure(errors="surrogateescape")
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Stream(STDOUT), sys.stdout)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stream(STDERR), sys.stderr)
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) < COLUMNS_MIN:
        os.environ["COLUMNS"] = str(COLUMNS_MIN)  # Tables of one column are empty lines.


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _take_number(number: int, flags: int) -> None:
    found = os.open(os.devnull, flags)
    if found != number:
        os.dup2(found, number)
        os.close(found)


def _text(raw: _Stream, was: TextIO | None) -> TextIO:
    """Text without a buffer, whose flush at exit could fail. No character can fail either: what the
    encoding lacks is spelt out."""
    encoding = (None if was is None else was.encoding) or _CODEPAGE
    return io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", write_through=True)  # type: ignore[type-var]  # It asks for what reading takes, too.


class _Stream(io.BufferedIOBase):
    """One of the process's descriptors, which is never closed; every write is whole or an error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def close(self) -> None:
        return

    def write(self, data: Any) -> int:
        """What libraries print: help, tables, errors of usage."""
        view = memoryview(data)
        if self._number == STDERR:
            # A failure to write there can be told to nobody, and changes nothing about what the
            # command does.
            with suppress(OSError):
                _write(STDERR, view)
        else:
            try:
                write_all(self._number, view)
            except BrokenPipeError:
                forget_output()  # Whoever stops reading has what they wanted.
        return view.nbytes


def write_all(number: int, data: bytes | memoryview) -> None:
    """All of it. BrokenPipeError if nobody reads any more, OutputError for any other reason."""
    try:
        _write(number, memoryview(data))
    except BrokenPipeError:
        raise
    except OSError as error:
        forget_output()
        raise OutputError(_sentence(error)) from error


def _sentence(error: OSError) -> str:
    if error.errno == errno.EBADF:
        return (
            "standard output is closed, so there is nowhere to show what was asked for;"
            " leave it open, or send it to a file"
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            f"cannot write to standard output ({error.strerror}); free some space,"
            " or send it elsewhere"
        )
    return f"cannot write to standard output ({error.strerror}); send it elsewhere"


def _write(number: int, data: memoryview) -> None:
    rest = data.cast("B") if data.nbytes else data
    while rest.nbytes:
        try:
            rest = rest[os.write(number, rest) :]
        # A full pipe that somebody set not to block: wait as one that blocks would.
        except BlockingIOError:
            select.select([], [number], [])


def forget_output() -> None:
    """Nobody reads standard output: whatever is still written goes nowhere, also by the interpreter
    at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)
    except OSError:
        return


def input_is_closed() -> bool:
    """Whether standard input was closed when the program began."""
    return fcntl.fcntl(STDIN, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY


def read_descriptor(number: int, bytes_max: int, what: str) -> bytes:
    """All that comes, up to `bytes_max` + 1 bytes. LocalError if it cannot be read."""
    parts: list[bytes] = []
    left = bytes_max + 1
    while left:
        try:
            piece = os.read(number, min(left, 1 << 16))
        except BlockingIOError:
            select.select([number], [], [])
            continue
        except OSError as error:
            raise LocalError(
                f"cannot read {what} ({error.strerror}); give the text in another way"
            ) from error
        if not piece:
            break
        parts.append(piece)
        left -= len(piece)
    return b"".join(parts)
