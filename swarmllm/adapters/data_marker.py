"""The marker of a data folder: whose folder it is, so that a program of the same name does not
share it unawares.

There is another program called swarmllm, and both use the default folders of that name. A folder
that has our marker is ours. One without it gets the marker if it is empty or an older version of
ours made it, and is refused otherwise.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from swarmllm.core.halt.state_file import FIRST_COPY, GENESIS, SECOND_COPY
from swarmllm.errors import LocalError

MARKER: Final = "swarmllm-node"
FIRST_LINE: Final = b"swarmllm data folder, version 1\n"
_TEXT: Final = FIRST_LINE + (
    b"The identity and state of one node of the Python package swarmllm."
    b" Do not share it with another program.\n"
)

KEY: Final = "identity.pem"
STORE: Final = "store.sqlite"
OUR_NAMES: Final = frozenset({STORE, FIRST_COPY, SECOND_COPY, GENESIS})
"""Names that no other program gives its files."""
COMMON_NAMES: Final = frozenset(
    {
        KEY,
        "lock",
        "log",
        "node.log",
        "control.sock",
        "control.path",
        "STOP",
        "config.toml",
        "lost+found",
        ".DS_Store",
        ".directory",
    }
)
"""Names that prove nothing: an owner may put the key, the settings or STOP there before the first
start, and `swarmllm demo` and `halt drill` catch what a node prints in `log` beside its other
files."""
NAMES_MAX: Final = 3  # Of the files that a refusal lists.
_PEM: Final = b"-----BEGIN "


def refuse_foreign(path: Path) -> None:
    """LocalError, naming the folder and what to do, if another program made it. Changes nothing; a
    folder that cannot be read passes, and whoever writes to it will say so better."""
    try:
        found = set(os.listdir(path))
    except OSError:
        return
    if MARKER in found:
        _check(path / MARKER)
        return
    strange = sorted(
        name for name in found - COMMON_NAMES - OUR_NAMES if not name.endswith((".partial", ".new"))
    )
    if not strange or found & OUR_NAMES or (KEY in found and _may_be_our_key(path / KEY)):
        return
    shown = ", ".join(map(repr, strange[:NAMES_MAX])) + (
        ", ..." if len(strange) > NAMES_MAX else ""
    )
    raise LocalError(
        f"the folder {path} holds files that this swarmllm did not make ({shown}), perhaps another"
        " program's of the same name; give this node a folder of its own with --data-dir"
    )


def mark(path: Path) -> None:
    """Write the marker unless it is there. OSError passes through."""
    try:
        fd = os.open(path / MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return
    try:
        os.write(fd, _TEXT)
    except OSError:
        (path / MARKER).unlink()  # A marker that says nothing would be refused the next time.
        raise
    finally:
        os.close(fd)


def _check(path: Path) -> None:
    try:
        text = _beginning(path, len(FIRST_LINE))
    except OSError as error:
        raise LocalError(
            f"cannot read the marker {path} ({error.strerror}); make it readable, or remove it"
        ) from error
    if text != FIRST_LINE:
        raise LocalError(
            f"the marker {path} is not that of this version of swarmllm;"
            " use the version that made the folder, or another folder with --data-dir"
        )


def _may_be_our_key(path: Path) -> bool:
    """Also one that cannot be read: the reader of keys says what is wrong with it."""
    try:
        return _beginning(path, len(_PEM)) == _PEM
    except OSError:
        return True


def _beginning(path: Path, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        return os.read(fd, size) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
