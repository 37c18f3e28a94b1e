"""The folders of a node on this machine, and the lock that keeps a second node out of them.

One data folder is one identity: two nodes on it would sign contradicting records with one key and
answer for each other. The lock is the kernel's (`flock`), not the existence of a file, so a node
that was killed leaves nothing behind that would have to be cleaned up; the process id in the lock
file only serves the message. Python opens files non-inheritable, so worker processes do not hold
it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from swarmllm.adapters.data_marker import KEY, STORE, mark, refuse_foreign
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Folders
from swarmllm.runtime.holder import LOCK, holder_of, pid_in

__all__ = ["DataDir", "default_folders", "holder_of", "locked", "make_folder"]

APP: Final = "swarmllm"
LOOKS: Final = 5  # A client that looks who holds the folder holds it itself for some microseconds.
LOOK_EVERY_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class DataDir:
    """The files of one node; `locked` hands it out for as long as nobody else may use them."""

    path: Path

    @property
    def key_file(self) -> Path:
        return self.path / KEY

    @property
    def store_file(self) -> Path:
        return self.path / STORE

    @property
    def lock_file(self) -> Path:
        return self.path / LOCK


def default_folders() -> Folders:
    """Where this system's conventions (XDG on Linux) put a user's config, state and caches. Creates
    nothing."""
    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    return Folders(Path(dirs.user_config_dir), Path(dirs.user_data_dir), Path(dirs.user_cache_dir))


def make_folder(path: Path, flag: str = "--data-dir") -> Path:
    """Create a private folder (0700) unless it exists. LocalError, naming it and the flag that
    moves it, if it cannot be used."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise LocalError(
            f"{path} is a file, not a folder; move it away or choose another folder with {flag}"
        ) from error
    except OSError as error:
        raise LocalError(
            f"cannot create the folder {path} ({_reason(error)}); choose another one with {flag}"
        ) from error
    return path


@contextmanager
def locked(path: Path) -> Iterator[DataDir]:
    """Create the data folder if need be and hold it. LocalError if another node has it, if another
    program made it, or if it cannot be written."""
    data_dir = DataDir(make_folder(path))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:  # Whoever may rename files in it may hand us another key.
        raise LocalError(
            f"the data folder {path} can be written by other users (mode {mode:03o}); run:"
            f" chmod 700 {path}"
        )
    refuse_foreign(path)
    try:
        fd = os.open(data_dir.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LocalError(
            f"cannot write to the data folder {path} ({_reason(error)});"
            " choose another one with --data-dir"
        ) from error
    try:
        _take(fd, path)
        yield data_dir
    finally:
        # Gives the lock up. The file stays: removing it would race with whoever opens it just now.
        os.close(fd)


def _take(fd: int, path: Path) -> None:
    try:
        for _ in range(LOOKS - 1):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOOK_EVERY_S)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = pid_in(fd)
        by = f"process {pid}" if pid else "another process"
        raise LocalError(
            f"the data folder {path} is in use by another node ({by}); stop it,"
            " or give this one its own folder with --data-dir (in Python: configure(data_dir=...))"
        ) from error
    except OSError as error:
        raise LocalError(
            f"cannot lock the data folder {path} ({error.strerror});"
            " choose one on a local disk with --data-dir"
        ) from error
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        mark(path)
    except OSError as error:
        raise LocalError(
            f"cannot write to the data folder {path} ({_reason(error)});"
            " choose another one with --data-dir"
        ) from error


def _reason(error: OSError) -> str:
    return (
        "its disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else str(error.strerror)
    )
