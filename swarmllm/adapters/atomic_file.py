"""Small files that people carry about: read within bounds, written whole or not at all.

A file gets its name only when it is complete and on the disk, so whoever is killed, or fills the
disk, at any step leaves either what was there before or the whole new file. A new file is named by
`link`, which fails where anything has the name already, a dangling link included; so two programs
that make the same file at once cannot replace each other's.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from swarmllm.errors import LocalError

_PARTIAL: Final = ".{name}.{pid}.partial"


def read_bounded(path: Path, bytes_max: int, what: str, *, is_secret: bool = False) -> bytes:
    """The bytes of a regular file of at most `bytes_max`. LocalError, with `what` it should be and
    its path, otherwise; also for a secret that other users can read or change."""
    try:
        # Or a named pipe in its place would make us wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise LocalError(
            f"cannot read {what} {path} ({error.strerror}); check its path and permissions"
        ) from error
    try:
        if is_secret:
            refuse_shared(fd, path, what)
        return read_open(fd, path, bytes_max, what)
    finally:
        os.close(fd)


def refuse_shared(fd: int, path: Path, what: str) -> None:
    """LocalError, with the remedy, if anybody but us (and root, who can anyway) can read or change
    the open file."""
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise LocalError(
            f"{what} {path} can be read or changed by other users (mode {mode:03o}); run:"
            f" chmod 600 {path}"
        )
    if status.st_uid not in {os.geteuid(), 0}:
        raise LocalError(
            f"{what} {path} belongs to user {status.st_uid},"
            f" not to user {os.geteuid()} who uses it; run: chown {os.geteuid()} {path}"
        )


def read_open(fd: int, path: Path, bytes_max: int, what: str) -> bytes:
    """The same of a file that is open already."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise LocalError(f"{what} {path} is not a regular file; give the path of one")
        parts = []
        left = bytes_max + 1
        while left and (piece := os.read(fd, left)):
            parts.append(piece)
            left -= len(piece)
    except OSError as error:
        raise LocalError(f"cannot read {what} {path} ({error.strerror}); check the disk") from error
    if not left:
        raise LocalError(
            f"{what} {path} is larger than {bytes_max} bytes, which none is; give another file"
        )
    return b"".join(parts)


def write_new(
    path: Path,
    data: bytes | Iterable[bytes],
    what: str,
    mode: int = 0o644,
    *,
    option: str = " with --out",
) -> None:
    """Make a file that is not there yet. LocalError if it is (nothing is ever overwritten) or if it
    cannot be written; `option` says where its name is given."""
    refuse_existing(path, what, option)
    partial = _write_aside(path, data, what, mode)
    try:
        os.link(partial, path)
    except FileExistsError:
        refuse_existing(path, what, option)
        raise
    except OSError as error:
        raise LocalError(
            f"cannot write {what} {path} ({_reason(error)}); choose another folder{option}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    _flush_folder(path, what)


def refuse_existing(path: Path, what: str, option: str = " with --out") -> None:
    """LocalError if anything has this name, also a link to nothing."""
    if os.path.lexists(path):
        raise LocalError(
            f"{path} is there already and is not overwritten;"
            f" choose another name for {what}{option}"
        )


def replace_whole(path: Path, data: bytes, what: str, mode: int = 0o644) -> None:
    """Put new content in the place of the old one. LocalError if it cannot be written; the old one
    stays then."""
    path = Path(os.path.realpath(path))  # A link goes on pointing to it.
    partial = _write_aside(path, data, what, mode)
    try:
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise LocalError(
            f"cannot write {what} {path} ({_reason(error)}); it is as it was before"
        ) from error
    _flush_folder(path, what)


def _write_aside(path: Path, data: bytes | Iterable[bytes], what: str, mode: int) -> Path:
    """All of it on the disk, under a name of its own in the same folder."""
    partial = path.with_name(_PARTIAL.format(name=path.name, pid=os.getpid()))
    try:
        partial.unlink(missing_ok=True)  # Left by a process that was killed and had our number.
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(fd, mode)  # Whatever the umask.
            for piece in [data] if isinstance(data, bytes) else data:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        _remove(partial)
        raise LocalError(
            f"cannot write {what} {path} ({_reason(error)});{_remedy(error)} choose another place"
        ) from error
    except BaseException:  # Of whoever gives the pieces.
        _remove(partial)
        raise
    return partial


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # Its folder cannot be written or is none, so nothing was made.


def _flush_folder(path: Path, what: str) -> None:
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LocalError(
            f"{what} {path} is written, but may not survive a power cut ({_reason(error)});"
            " check the disk"
        ) from error


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in _FULL else str(error.strerror)


def _remedy(error: OSError) -> str:
    return " free some space or" if error.errno in _FULL else ""
