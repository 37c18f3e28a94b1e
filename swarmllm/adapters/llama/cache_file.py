"""Atomic cache files: a file in the cache is whole or it is not there.

Both things that are cached here, the built tokenizer and the expanded demo experts, can be made
again. So the only damage a crash, a full disk or a second process may do is to cost time: content
goes to a file of another name, reaches the disk, and is then renamed.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PART = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path`, durable and in one step, when the block ends
    without an error.

    After an error nothing is left. OSError from the file system passes through: what it means is
    for the caller to say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):  # The first error is the one to report.
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process is inside this block for `path`, and sweep away what killed ones
    left behind.

    The kernel gives the lock back when its holder dies. On a file system without locks we go on
    without: names of unfinished files are unique, so the worst is that two processes do the same
    work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            pass
        else:
            for left in path.parent.glob(f".{path.name}.*{PART}"):
                left.unlink(missing_ok=True)
        yield
    finally:
        os.close(fd)
