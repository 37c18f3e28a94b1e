"""The kill switch's memory in the data folder: two copies and a marker, each written whole, one
after the other.

Written aside, flushed, renamed, and the folder flushed: at every moment each file is the old one or
the new one, and at least one of the two copies is readable. What the bytes mean is
`core.halt.state_file`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from swarmllm.core.halt.state_file import (
    FIRST_COPY,
    GENESIS,
    GENESIS_MAGIC,
    SECOND_COPY,
    STATE_BYTES_MAX,
)
from swarmllm.errors import LocalError

ASIDE: Final = ".new"
# One more than it ever has, so that a longer file is seen to be wrong.
GENESIS_BYTES_MAX: Final = len(GENESIS_MAGIC) + 33


class HaltFolder:
    """`runtime.halt_performer.HaltStore` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """(first copy, second copy, marker), None for a file that is not there. One that cannot be
        read counts as damaged: it is there, and it may say that this node is halted."""
        bounds = (
            (FIRST_COPY, STATE_BYTES_MAX + 1),
            (SECOND_COPY, STATE_BYTES_MAX + 1),
            (GENESIS, GENESIS_BYTES_MAX),
        )
        first, second, genesis = (self._read(name, size_max) for name, size_max in bounds)
        return first, second, genesis

    def save(self, data: bytes, genesis: bytes) -> None:
        """Both copies, and the marker where it is missing. LocalError if the disk does not take
        them; older files are still whole."""
        try:
            for name in (FIRST_COPY, SECOND_COPY):
                self._write(name, data)
            if not (self._folder / GENESIS).exists():
                self._write(GENESIS, genesis)
        except OSError as error:
            why = (
                "its disk is full"
                if error.errno in {errno.ENOSPC, errno.EDQUOT}
                else str(error.strerror)
            )
            raise LocalError(
                f"cannot write the record of halts to {self._folder} ({why}); make room there,"
                " or a restart may forget an order"
            ) from error

    def _read(self, name: str, size_max: int) -> bytes | None:
        try:
            fd = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError:
            return b""
        try:
            return os.read(fd, size_max)
        except OSError:
            return b""
        finally:
            os.close(fd)

    def _write(self, name: str, data: bytes) -> None:
        aside = self._folder / (name + ASIDE)
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(aside, self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
