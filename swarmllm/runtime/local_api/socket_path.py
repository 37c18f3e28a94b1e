"""Where the local socket lies: in the data folder, or, if that path is too long for a socket, in a
private folder with a short one.

The kernel takes 104 to 108 bytes for the path of a Unix socket, and home folders of managed
machines are longer. Then the socket goes to the fallback folder, and a small file in the data
folder says where, so that clients need not share our environment to find it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from swarmllm.errors import LocalError

NAME: Final = "control.sock"
POINTER: Final = "control.path"
PATH_BYTES_MAX: Final = 103  # macOS has 104 with the closing zero, Linux 108.
BACKLOG: Final = 64


def find(folder: Path) -> Path | None:
    """Where the node of this data folder listens, if it does; None if nothing says so."""
    direct = folder / NAME
    if fits(direct):
        return direct if direct.exists() else None
    try:
        named = os.fsdecode((folder / POINTER).read_bytes()).strip()
    except OSError:
        return None
    return Path(named) if named else None


def refuse_foreign(path: Path) -> None:
    """LocalError if the socket is another user's: whoever listens there would be told our prompts.
    OSError if it has gone."""
    owner, us = path.stat().st_uid, os.geteuid()
    if owner != us:
        raise LocalError(
            f"the local socket {path} belongs to user {owner}, not to user {us} who runs this;"
            f" run it as user {owner}, or name the folder of your own node with --data-dir"
        )


def fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= PATH_BYTES_MAX


@contextmanager
def bind(folder: Path, fallback: Path) -> Iterator[tuple[trio.socket.SocketType, Path]]:
    """A listening socket and its path, which is removed at the end. The caller holds the data
    folder, so what is there is left over.

    LocalError if the socket cannot be made, or if somebody listens there all the same.
    """
    path = folder / NAME
    pointer = None
    if not fits(path):
        path = (
            _private(fallback)
            / f"{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]}.sock"
        )
        if not fits(path):
            raise LocalError(
                f"the path {path} is too long for a socket; set XDG_RUNTIME_DIR to a shorter one,"
                " or use --data-dir"
            )
        pointer = folder / POINTER
    listening = _listen(path)
    try:
        if pointer is not None:
            _write(pointer, str(path))
        yield trio.socket.from_stdlib_socket(listening), path
    finally:
        listening.close()
        path.unlink(missing_ok=True)
        if pointer is not None:
            pointer.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    if _is_answered(path):
        raise LocalError(
            f"another node listens on {path}; stop it,"
            " or give this one its own folder with --data-dir"
        )
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.setblocking(False)
    # The socket is made by `bind`, with this mask as the only way to its mode.
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        found.bind(str(path))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        reason = (
            "its disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror
        )
        raise LocalError(
            f"cannot make the socket {path} ({reason}); choose another folder with --data-dir"
        ) from error
    finally:
        os.umask(before)
    return found


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _private(folder: Path) -> Path:
    """The folder, made 0700 if need be. LocalError if it is anybody else's: they could put their
    own socket there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise LocalError(
            f"cannot make the folder {folder} ({error.strerror});"
            " set XDG_RUNTIME_DIR to one of your own"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise LocalError(
            f"the folder {folder} is not yours alone; remove it,"
            " or set XDG_RUNTIME_DIR to one of your own"
        )
    return folder


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(os.fsencode(text) + b"\n")
    except OSError as error:
        raise LocalError(
            f"cannot write {path} ({error.strerror}); choose another folder with --data-dir"
        ) from error
