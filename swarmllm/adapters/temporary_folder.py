"""Temporary folders of commands, such as the data folder of the node that `swarmllm chat` starts
for itself: gone with the command, and after a kill with the next command that starts.

They hold what was said and an identity, so nothing of a killed command may lie about until somebody
restarts the machine. Whose owner lives is known by the kernel's lock on the folder itself, which it
gives back however a process ends; a process id could be another one's by then.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# Only folders of this name are swept: whoever makes one locks it.
PREFIX: Final = "swarmllm-run-"
KEPT_PREFIX: Final = "swarmllm-kept-"
TRIES: Final = 100


@contextmanager
def temporary_folder(*, keep: bool = False) -> Iterator[Path]:
    """A private folder (0700) that goes with the block, whatever is in it; with `keep` it stays for
    a person to look at. OSError passes through."""
    if keep:
        yield Path(tempfile.mkdtemp(prefix=KEPT_PREFIX))
        return
    sweep()
    folder, fd = _locked_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def sweep() -> None:
    """Remove the folders of dead commands of this user. What cannot be removed stays; it is not
    worth a word."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            _sweep(folder)


def _sweep(folder: Path) -> None:
    """OSError if it is in use, is no folder (a link included), or is somebody else's."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(fd)


def _locked_folder() -> tuple[Path, int]:
    """A new folder and the descriptor that locks it; no child inherits that. Another command may
    sweep it away between the two steps: then it is made again."""
    for _ in range(TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if _is_ours(folder, fd):
            return folder, fd
        os.close(fd)
    raise FileExistsError(f"every new folder in {tempfile.gettempdir()} is swept away at once")


def _is_ours(folder: Path, fd: int) -> bool:
    """Locked for us, and still there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # Whoever sweeps it was first.
    except OSError:
        return True  # A file system without locks: there nobody sweeps.
    try:
        return os.path.samestat(os.stat(folder), os.fstat(fd))
    except FileNotFoundError:
        return False
