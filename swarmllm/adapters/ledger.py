"""The ledger in one SQLite file: entries that are never changed, the complete nodes of their Merkle
tree, our checkpoints with the lines of witnesses, and the last checkpoints of neighbours.

SQLite because it survives a kill at any moment, and because a group of entries, their nodes and a
checkpoint are one transaction. WAL with synchronous=FULL flushes once for each. Unlike the store
(`adapters.store`), a damaged file is never moved aside: what it held cannot be found again, and a
fresh log under the same key is what neighbours take for a forgery.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from swarmllm.adapters.sqlite_reading import open_to_read
from swarmllm.core.halt.entries import entries_of
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.ledger.audit import Audit, opening_fault, read_leaf
from swarmllm.core.ledger.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    peaks,
    root_of,
)
from swarmllm.core.ledger.own_log import LAST_CHECKPOINT, Keys
from swarmllm.core.ledger.part import LedgerPart
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import PeerId
from swarmllm.runtime.ledger_performer import LedgerPerformer
from swarmllm.runtime.ports import Keyring, Ledger, LedgerWrites, Store
from swarmllm.wire.checkpoint import COSIGNED_MAX, Checkpoint, open_checkpoint
from swarmllm.wire.envelope import Verify

FORMAT: Final = 1  # PRAGMA user_version.
APPLICATION: Final = 0x53574C4C  # PRAGMA application_id, "SWLL".
PAGE_BYTES: Final = 4_096
# A runaway writer must not fill the user's disk: millions of entries.
LEDGER_BYTES_MAX: Final = 2 * 1024**3
# Of our own; an earlier one says nothing that a later one does not.
CHECKPOINTS_KEPT: Final = 1_000
_FULL: Final = frozenset({sqlite3.SQLITE_FULL})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_TABLES: Final = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE entry (number INTEGER PRIMARY KEY, leaf BLOB NOT NULL, digest INTEGER NOT NULL);
    CREATE INDEX entry_digest ON entry (digest);
    CREATE TABLE node (
        level INTEGER, number INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, number)
    ) WITHOUT ROWID;
    CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note BLOB NOT NULL);
    CREATE TABLE cosignature (
        size INTEGER, witness TEXT, line BLOB NOT NULL, PRIMARY KEY (size, witness)
    ) WITHOUT ROWID;
    CREATE TABLE head (peer TEXT PRIMARY KEY, note BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE alarm (peer TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE TRIGGER entry_stays BEFORE UPDATE ON entry
        BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
    CREATE TRIGGER entry_remains BEFORE DELETE ON entry
        BEGIN SELECT RAISE(ABORT, 'entries are never removed'); END;
    PRAGMA application_id = {APPLICATION};
    PRAGMA user_version = {FORMAT};
    COMMIT;
"""

# Cast, because SQLite keeps whatever type somebody else put there.
_LEAF: Final = "SELECT CAST(leaf AS BLOB) FROM entry WHERE number = ?"
_LEAVES: Final = (
    "SELECT number, CAST(leaf AS BLOB) FROM entry WHERE number >= ? ORDER BY number LIMIT ?"
)
_NOTES: Final = "SELECT size, CAST(note AS BLOB) FROM checkpoint ORDER BY size"
_LINES: Final = "SELECT CAST(line AS BLOB) FROM cosignature WHERE size = ? ORDER BY witness"
_ALARMS: Final = "SELECT CAST(peer AS TEXT), CAST(record AS BLOB) FROM alarm ORDER BY peer"
_HEADS: Final = "SELECT CAST(peer AS TEXT), CAST(note AS BLOB) FROM head ORDER BY peer"


class SqliteLedger:
    """`runtime.ports.Ledger`."""

    def __init__(
        self, path: Path, *, bytes_max: int = LEDGER_BYTES_MAX, flushes: bool = True
    ) -> None:
        """Opens or creates the file; `flushes` False is for measuring what a flush costs, and
        loses entries in a power cut. LocalError if it cannot be written, is damaged, or was
        written by another program or a newer version."""
        self._path = path
        self._lock = threading.Lock()
        with _told(path, "open"):
            self._connection = _open(path, bytes_max)
            if not flushes:
                self._connection.execute("PRAGMA synchronous = OFF")
        try:
            with _told(path, "read"):
                self._frontier = self._load()
        except BaseException:
            self._connection.close()
            raise

    @property
    def size(self) -> int:
        return self._frontier.size

    @property
    def root(self) -> bytes:
        return self._frontier.root

    def write(self, writes: LedgerWrites) -> None:
        with self._lock, _told(self._path, "write"):
            grown = Frontier(self._frontier.size, self._frontier.peaks)
            entries, nodes = _rows(writes.leaves, grown)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for table, rows in (
                    ("INSERT INTO entry VALUES (?, ?, ?)", entries),
                    ("INSERT INTO node VALUES (?, ?, ?)", nodes),
                    ("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", writes.checkpoints),
                    ("INSERT OR REPLACE INTO cosignature VALUES (?, ?, ?)", writes.cosignatures),
                    ("INSERT OR REPLACE INTO head VALUES (?, ?)", writes.heads),
                    ("INSERT OR REPLACE INTO alarm VALUES (?, ?)", writes.alarms),
                ):
                    if rows:
                        self._connection.executemany(table, rows)
                self._forget(writes)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._frontier = grown

    def holds(self, payload: bytes) -> bool:
        with self._lock, _told(self._path, "read"):
            rows = self._connection.execute(
                "SELECT CAST(leaf AS BLOB) FROM entry WHERE digest = ?", (_digest(payload),)
            )
            return any(_has_payload(leaf, payload) for (leaf,) in rows)

    def prove(self, old: int, new: int) -> tuple[bytes, ...] | None:
        if not 0 < old <= new <= self.size:
            return None
        with self._lock, _told(self._path, "read"):
            return tuple(consistency_proof(old, new, _reader(self._connection)))

    def root_at(self, size: int) -> bytes | None:
        if size > self.size:
            return None
        with self._lock, _told(self._path, "read"):
            return root_of(size, _reader(self._connection))

    @property
    def note(self) -> bytes:
        with self._lock, _told(self._path, "read"):
            row = self._connection.execute(
                "SELECT CAST(note AS BLOB) FROM checkpoint ORDER BY size DESC LIMIT 1"
            ).fetchone()
        return b"" if row is None else bytes(row[0])

    def heads(self) -> dict[PeerId, bytes]:
        with self._lock, _told(self._path, "read"):
            return {PeerId(peer): bytes(note) for peer, note in self._connection.execute(_HEADS)}

    def alarms(self) -> dict[PeerId, bytes]:
        with self._lock, _told(self._path, "read"):
            return {
                PeerId(peer): bytes(record) for peer, record in self._connection.execute(_ALARMS)
            }

    def close(self) -> None:
        """Behind a call that another thread is in; later calls are LocalErrors."""
        with self._lock:  # SQLite crashes if a connection goes while it is used.
            self._connection.close()

    def _load(self) -> Frontier:
        (size,) = self._connection.execute("SELECT count(*) FROM entry").fetchone()
        (last,) = self._connection.execute("SELECT max(number) FROM entry").fetchone()
        if size and last != size - 1:
            raise LocalError(
                f"the ledger {self._path} has {size} entries up to number {last}: some are missing;"
                " restore it from a copy, and see `swarmllm ledger verify`"
            )
        read = _reader(self._connection)
        return Frontier(size, [read(*node) for node in peaks(size)])

    def _forget(self, writes: LedgerWrites) -> None:
        """Checkpoints and heads beyond their number."""
        gone = [(peer,) for peer, note in writes.heads if not note]
        self._connection.executemany("DELETE FROM head WHERE peer = ?", gone)
        if writes.checkpoints:
            oldest = self._connection.execute(
                "SELECT size FROM checkpoint ORDER BY size DESC LIMIT 1 OFFSET ?",
                (CHECKPOINTS_KEPT - 1,),
            ).fetchone()
            for table in ("checkpoint", "cosignature") if oldest is not None else ():
                self._connection.execute(f"DELETE FROM {table} WHERE size < ?", oldest)


class LedgerFile:
    """A ledger's file, read and never written, also while its node runs: for showing, proving and
    verifying. A context manager."""

    def __init__(self, path: Path) -> None:
        """LocalError if there is no such file, or it is no ledger."""
        self._path = path
        if not path.exists():
            raise LocalError(
                f"there is no ledger {path}; a node that has run on this folder has one"
            )
        with _told(path, "read"):
            self._connection = open_to_read(path)
            try:
                _check_kind(self._connection, path)
                self._connection.execute(
                    "BEGIN"
                )  # One moment of it, whatever is written meanwhile.
                (self.size,) = self._connection.execute("SELECT count(*) FROM entry").fetchone()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> LedgerFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def leaves(self, first: int = 0, count: int = -1) -> Iterator[tuple[int, bytes]]:
        """Number and leaf, in order."""
        with _told(self._path, "read"):
            yield from self._connection.execute(
                _LEAVES,
                (first, count),
            )

    def notes(self) -> tuple[tuple[int, bytes], ...]:
        """Our own checkpoints, as they were written down."""
        with _told(self._path, "read"):
            return tuple(self._connection.execute(_NOTES))

    def cosigned(self, size: int) -> tuple[str, ...]:
        """The lines of witnesses under the checkpoint of this size."""
        with _told(self._path, "read"):
            rows = self._connection.execute(
                _LINES,
                (size,),
            )
            return tuple(bytes(line).decode("utf-8", "replace") for (line,) in rows)

    def heads(self) -> tuple[tuple[str, bytes], ...]:
        with _told(self._path, "read"):
            return tuple(self._connection.execute(_HEADS))

    def alarms(self) -> tuple[tuple[str, bytes], ...]:
        with _told(self._path, "read"):
            return tuple(self._connection.execute(_ALARMS))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        with _told(self._path, "read"):
            return tuple(inclusion_proof(index, size, _reader(self._connection)))

    def audit(
        self,
        verify: Verify,
        show: Callable[[int, int], None] = lambda _done, _all: None,
        more: Sequence[bytes] = (),
    ) -> tuple[Audit, tuple[str, ...]]:
        """Every entry, node and checkpoint looked at; and what is wrong, a sentence each. `show`
        hears how many entries of how many are done; `more` are checkpoints that were kept
        elsewhere."""
        faults: list[str] = []
        checkpoints: list[Checkpoint] = []
        for size, note in (*self.notes(), *((0, note) for note in more)):
            try:
                found = open_checkpoint(note, verify, COSIGNED_MAX).checkpoint
            except RemoteError as fault:
                faults.append(f"the checkpoint of {size} entries is not valid ({fault})")
                continue
            if size and found.size != size:
                faults.append(f"the checkpoint of {size} entries is one of {found.size}")
            checkpoints.append(found)
        if len({one.peer for one in checkpoints}) > 1:
            faults.append("there are checkpoints of different nodes in it")
        with _told(self._path, "read"):
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                faults.append(f"the file is damaged ({_one_line(str(verdict))})")
            audit = Audit(checkpoints, _reader(self._connection))
            for number, leaf in self.leaves():
                if number != audit.size:
                    audit.missing(number - 1)
                    break
                audit.leaf(leaf)
                if number % 1_000 == 0:
                    show(number, self.size)
        return audit, (*faults, *audit.faults())


def _rows(
    leaves: Sequence[bytes], grown: Frontier
) -> tuple[list[tuple[int, bytes, int]], list[tuple[int, int, bytes]]]:
    entries, nodes = [], []
    for leaf in leaves:
        entries.append((grown.size, leaf, _digest(read_leaf(leaf).payload)))
        nodes += [row for row in grown.append(leaf_hash(leaf)) if row[0]]
    return entries, nodes


def _reader(connection: sqlite3.Connection) -> Callable[[int, int], bytes]:
    """The hash of a complete node; that of a leaf is computed. Where there is none, a hash that
    fits nothing: whoever compares finds it."""

    def read(level: int, index: int) -> bytes:
        if level == 0:
            row = connection.execute(_LEAF, (index,)).fetchone()
            return bytes(32) if row is None else leaf_hash(row[0])
        row = connection.execute(
            "SELECT CAST(hash AS BLOB) FROM node WHERE level = ? AND number = ?", (level, index)
        ).fetchone()
        return bytes(32) if row is None else bytes(row[0])

    return read


def _has_payload(leaf: bytes, payload: bytes) -> bool:
    try:
        return read_leaf(leaf).payload == payload
    except RemoteError:
        return False  # Damaged: the audit says so.


def _digest(payload: bytes) -> int:
    """A short hash by which a payload is found again."""
    return int.from_bytes(sha256(payload).digest()[:8], "big", signed=True)


def _open(path: Path, bytes_max: int) -> sqlite3.Connection:
    if not path.exists():
        _create_private(path)
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            _check_kind(connection, path)
        (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA synchronous = {'FULL' if journal == 'wal' else 'EXTRA'}")
        connection.execute(f"PRAGMA max_page_count = {bytes_max // PAGE_BYTES}")
        if not tables:
            connection.executescript(_TABLES)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not application and not version and not path.stat().st_size:
        raise LocalError(
            f"the ledger {path} is empty: what it held was lost; restore it from a copy"
        )
    if application != APPLICATION:
        raise LocalError(
            f"{path} is no ledger, or a database of another program; move it away or choose"
            " another folder with --data-dir"
        )
    if version > FORMAT:
        raise LocalError(
            f"the ledger {path} has format {version}, and this swarmllm knows {FORMAT};"
            " use the newer swarmllm that wrote it"
        )


def _create_private(path: Path) -> None:
    """An empty file is an empty database to SQLite, which would otherwise create it with the
    umask's mode."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise LocalError(
            f"cannot create the ledger {path} ({error.strerror});"
            " choose another folder with --data-dir"
        ) from error


@contextmanager
def _told(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _as_local(error, path, doing) from error


def _as_local(error: sqlite3.Error, path: Path, doing: str) -> LocalError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    reason = _one_line(str(error))
    if primary in _FULL:
        return LocalError(
            f"cannot {doing} the ledger {path}: the disk or the ledger is full ({reason});"
            " free some space"
        )
    if primary in _DAMAGED:
        return LocalError(
            f"the ledger {path} is damaged ({reason}); restore it from a copy: nothing is enacted"
            " without it"
        )
    return LocalError(
        f"cannot {doing} the ledger {path} ({reason}); check that its folder can be written"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def performer_of(
    path: Path,
    keyring: Keyring,
    store: Store,
    halts: HaltMachine,
    warn: Callable[[str], None],
) -> LedgerPerformer:
    """The writer of this node's ledger, which holds at least what `halts` holds. It is compared
    with what `store` remembers of it, too: both would have to be put back to hide that one
    was."""

    def look(ledger: Ledger) -> str:
        notes = [note for note in (ledger.note, store.load(LAST_CHECKPOINT)) if note]
        return opening_fault(keyring.peer, ledger.size, ledger.root_at, notes, keyring.verify)

    def audit() -> tuple[str, ...]:
        with LedgerFile(path) as file:
            return file.audit(keyring.verify)[1]

    return LedgerPerformer(
        lambda: SqliteLedger(path),
        look,
        audit,
        lambda: entries_of(halts.state),
        lambda: int(time.time() * 1000),
        warn,
    )


def part_of(keyring: Keyring, rng: random.Random, now: float) -> LedgerPart:
    """The node's part that signs our checkpoints and witnesses those of neighbours; `now` is this
    moment on the node's clock."""
    keys = Keys(keyring.peer, keyring.public_key, keyring.sign, keyring.verify)
    unix_ms_at_zero = round(1000 * (time.time() - now))
    return LedgerPart(keys, rng, lambda moment: unix_ms_at_zero + round(1000 * moment))
