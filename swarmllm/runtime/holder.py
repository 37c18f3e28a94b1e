"""The data folder lock: which process holds a data folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from swarmllm.errors import LocalError

LOCK: Final = "lock"
PID_BYTES_MAX: Final = 20  # Digits of the largest 64-bit number.


def holder_of(path: Path) -> int | None:
    """The process id of the node that holds the data folder; 0 if it holds it but left no id; None
    if nobody does."""
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return pid_in(fd)
    except OSError as error:
        raise LocalError(
            f"cannot see whether the data folder {path} is in use ({error.strerror});"
            " choose one on a local disk with --data-dir"
        ) from error
    finally:
        os.close(fd)
    return None


def pid_in(fd: int) -> int:
    """What the node wrote into its lock file; 0 if that is no process id."""
    text = os.pread(fd, PID_BYTES_MAX, 0).strip()
    return int(text) if text.isdigit() else 0
