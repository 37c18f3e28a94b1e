"""Small durable values in one SQLite file: `save` returns when the value would survive a power cut.

SQLite because it is the best-tested code there is for exactly that. WAL with synchronous=FULL
flushes once per commit; file systems that cannot do WAL (it needs shared memory) get the rollback
journal with synchronous=EXTRA, which flushes the folder too. A file that is not, or no longer, a
database is moved aside and a fresh one begun: saved addresses can be found again, and a node that
does not start helps nobody; `notice` says so, for a person to read and for whoever must treat a
forgotten value as the worst case.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from swarmllm.adapters.sqlite_reading import open_to_read
from swarmllm.errors import LocalError
from swarmllm.runtime.ports import KEY_BYTES_MAX, VALUE_BYTES_MAX

FORMAT: Final = 1  # PRAGMA user_version.
# PRAGMA application_id, "SWLM": tells our file from any other database.
APPLICATION: Final = 0x53574C4D
PAGE_BYTES: Final = 4096
# A runaway writer must not fill the user's disk; the node needs well under 1 MiB.
STORE_BYTES_MAX: Final = 256 * 1024 * 1024
MOVED_MAX: Final = 9  # Corrupt files kept for a post-mortem; the last name is reused.
_FULL: Final = frozenset({sqlite3.SQLITE_FULL})
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteStore:
    """`runtime.ports.Store`. May be called from any thread; a context manager, or `close` it."""

    def __init__(
        self, path: Path, notice: Callable[[str], None], *, bytes_max: int = STORE_BYTES_MAX
    ) -> None:
        """Opens or creates the file. LocalError if it cannot be read or written, or was written by
        a newer version."""
        self._path = path
        self._lock = threading.Lock()
        self._connection = _open_or_begin_anew(path, notice, bytes_max)

    def load(self, key: str) -> bytes | None:
        _check_key(key)
        with self._lock, _told(self._path, "read"):
            row = self._connection.execute(
                "SELECT value FROM entry WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def save(self, key: str, value: bytes) -> None:
        """Replaces what was under `key`. On LocalError (a full disk) the old value is still
        there."""
        _check_key(key)
        if len(value) > VALUE_BYTES_MAX:
            raise LocalError(
                f"the value for {key!r} has {len(value)} bytes,"
                f" more than the {VALUE_BYTES_MAX} that the store takes; split it"
            )
        with self._lock, _told(self._path, "write"):
            self._connection.execute(
                "INSERT OR REPLACE INTO entry (key, value) VALUES (?, ?)", (key, value)
            )

    def close(self) -> None:
        """Behind a call that another thread is in; later calls are LocalErrors."""
        with self._lock:  # SQLite crashes if a connection goes while it is used.
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def peek(path: Path, key: str) -> bytes | None:
    """A value of a store that may be in use by a node, without touching it; None if there is no
    such store or value."""
    if not path.exists():
        return None
    with _told(path, "read"):
        connection = open_to_read(path)
        try:
            row = connection.execute("SELECT value FROM entry WHERE key = ?", (key,)).fetchone()
        finally:
            connection.close()
    return None if row is None else bytes(row[0])


def _check_key(key: str) -> None:
    if not key or len(key.encode()) > KEY_BYTES_MAX:
        raise LocalError(
            f"the store's keys have 1 to {KEY_BYTES_MAX} bytes, not {len(key.encode())}:"
            f" {key[:40]!r}; use a shorter one"
        )


def _open_or_begin_anew(
    path: Path, notice: Callable[[str], None], bytes_max: int
) -> sqlite3.Connection:
    try:
        return _open(path, bytes_max)
    except sqlite3.DatabaseError as error:
        if not _is(error, _CORRUPT):
            raise _as_local(error, path, "open") from error
        reason = str(error)
    moved = _move_aside(path)
    notice(
        f"the store {path} was damaged ({reason}); it was moved to {moved},"
        " and what this node remembered is forgotten"
    )
    with _told(path, "open"):
        return _open(path, bytes_max)


def _open(path: Path, bytes_max: int) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError; LocalError for a sound database that is not ours to touch."""
    if not path.exists():
        _create_private(path)
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise LocalError(
                f"{path} is a database of another program;"
                " move it away or choose another folder with --data-dir"
            )
        if version > FORMAT:
            raise LocalError(
                f"the store {path} has format {version}, and this swarmllm knows {FORMAT};"
                " use the newer swarmllm that wrote it"
            )
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(verdict)
        (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA synchronous = {'FULL' if journal == 'wal' else 'EXTRA'}")
        connection.execute(f"PRAGMA max_page_count = {bytes_max // PAGE_BYTES}")
        _create_table(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: Path) -> None:
    """An empty file is an empty database to SQLite, which would otherwise create it with the
    umask's mode."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise LocalError(
            f"cannot create the store {path} ({error.strerror});"
            " choose another folder with --data-dir"
        ) from error


def _create_table(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone() == (FORMAT,):
        return
    connection.executescript(
        f"""
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value BLOB NOT NULL);
        PRAGMA application_id = {APPLICATION};
        PRAGMA user_version = {FORMAT};
        COMMIT;
        """
    )


def _damaged(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(verdict.replace("\n", " "))
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _move_aside(path: Path) -> Path:
    targets = [
        path.with_name(f"{path.name}.damaged-{number}") for number in range(1, MOVED_MAX + 1)
    ]
    target = next((target for target in targets if not target.exists()), targets[-1])
    try:
        os.replace(path, target)
        # They belong to the moved file; a fresh one must not replay them.
        for suffix in ("-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():
                os.replace(beside, target.with_name(target.name + suffix))
    except OSError as error:
        raise LocalError(
            f"the store {path} is damaged and cannot be moved aside ({error.strerror});"
            " move it away yourself"
        ) from error
    return target


@contextmanager
def _told(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _as_local(error, path, doing) from error


def _as_local(error: sqlite3.Error, path: Path, doing: str) -> LocalError:
    if _is(error, _FULL):
        return LocalError(
            f"cannot {doing} the store {path}: the disk or the store is full ({error});"
            " free some space and try again"
        )
    if _is(error, _CORRUPT):
        return LocalError(
            f"the store {path} was damaged while in use ({error}); restart the node,"
            " which will move it aside"
        )
    return LocalError(
        f"cannot {doing} the store {path} ({error}); check that its folder can be written,"
        " or choose another with --data-dir"
    )


def _is(error: sqlite3.Error, codes: frozenset[int]) -> bool:
    # Absent on errors that Python's own wrapper raises.
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the primary code; the rest says where it happened.
    return code is not None and code & 0xFF in codes
