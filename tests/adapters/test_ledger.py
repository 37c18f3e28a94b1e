"""The SQLite ledger keeps the contract, survives a kill at every step, a full disk and a read-only
folder, and whatever is done to its file is found."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.ledger import FORMAT, LedgerFile, SqliteLedger
from swarmllm.core.ledger.audit import opening_fault
from swarmllm.errors import LocalError
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.testing.memory_ledger import MemoryLedger
from swarmllm.wire.checkpoint import Checkpoint, sign_checkpoint
from tests import ROOT
from tests.contracts.ledger_contract import LedgerContract, Make, leaf

KEY = ephemeral_key()
ENTRIES = 12
STEPS_MAX = 200


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Make]:
        numbers = itertools.count()
        with ExitStack() as stack:

            def made() -> SqliteLedger:
                ledger = SqliteLedger(tmp_path / f"{next(numbers)}.sqlite")
                stack.callback(ledger.close)
                return ledger

            yield made


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def make(self) -> Make:
        return MemoryLedger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def filled(path: Path, entries: int = ENTRIES, key: KeyFile = KEY) -> None:
    """A ledger with checkpoints after a third of its entries and at its end."""
    with closing(SqliteLedger(path)) as ledger:
        for at in range(entries):
            ledger.write(LedgerWrites((leaf(at),)))
            if at + 1 in {entries // 3, entries}:
                ledger.write(LedgerWrites(checkpoints=((at + 1, note_of(ledger, key)),)))


def note_of(ledger: SqliteLedger, key: KeyFile = KEY) -> bytes:
    checkpoint = Checkpoint(key.peer, ledger.size, ledger.root)
    return sign_checkpoint(checkpoint, key.public_key, key.sign)


def faults(path: Path) -> tuple[str, ...]:
    with LedgerFile(path) as file:
        return file.audit(KEY.verify)[1]


def edited(path: Path, *statements: str) -> None:
    """What somebody does to the file who knows SQLite, and that our triggers do not bind him."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for trigger in ("entry_stays", "entry_remains"):
            other.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            other.execute(statement)


def quick_fault(path: Path, *notes: bytes) -> str:
    with closing(SqliteLedger(path)) as ledger:
        return opening_fault(
            KEY.peer, ledger.size, ledger.root_at, [ledger.note, *notes], KEY.verify
        )


def test_what_was_written_is_there_after_the_process_and_nothing_is_wrong(path: Path) -> None:
    filled(path)
    with closing(SqliteLedger(path)) as ledger:
        again = (ledger.size, ledger.root)
        ledger.write(LedgerWrites((leaf(99),)))
    assert again[0] == ENTRIES
    assert faults(path) == ()
    assert quick_fault(path) == ""
    with LedgerFile(path) as file:
        assert [data for _, data in file.leaves()] == [*map(leaf, [*range(ENTRIES), 99])]


def test_killed_at_every_step_it_has_all_of_a_group_or_nothing_of_it_and_is_sound(
    tmp_path: Path,
) -> None:
    """At each statement that SQLite begins, and between them: `_exit` is what SIGKILL does."""
    sizes: list[int] = []
    for step in range(STEPS_MAX):
        path = tmp_path / f"{step}.sqlite"
        filled(path)
        child = os.fork()
        if child == 0:
            try:
                _write_and_die(path, step)
            finally:
                os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with closing(SqliteLedger(path)) as ledger:
            sizes.append(ledger.size)
            assert ledger.size in {ENTRIES, ENTRIES + 3}
            assert (ledger.note == b"whole") == (ledger.size == ENTRIES + 3)
            if ledger.size == ENTRIES:  # The interrupted group is written again, whole.
                ledger.write(LedgerWrites(tuple(map(leaf, range(100, 103)))))
        if ended == 0:
            break
        edited(path, "DELETE FROM checkpoint WHERE note = 'whole'")
        assert faults(path) == ()
    assert len(sizes) > 7
    assert sizes[-1] == ENTRIES + 3


def _write_and_die(path: Path, step: int) -> None:
    ledger = SqliteLedger(path)
    left = step

    def count(_statement: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)

    ledger._connection.set_trace_callback(count)
    ledger.write(
        LedgerWrites(tuple(map(leaf, range(100, 103))), checkpoints=((ENTRIES + 3, b"whole"),))
    )


def test_whatever_was_written_before_a_kill_is_there_after_it(path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from swarmllm.adapters.ledger import SqliteLedger\n"
        "from swarmllm.runtime.ports import LedgerWrites\n"
        "from tests.contracts.ledger_contract import leaf\n"
        "ledger = SqliteLedger(pathlib.Path(sys.argv[1]))\n"
        "while True:\n"
        "    ledger.write(LedgerWrites((leaf(ledger.size), leaf(ledger.size + 1))))\n"
        "    print(ledger.size, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(20)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout if line.endswith("\n")]
    with closing(SqliteLedger(path)) as ledger:
        assert ledger.size >= told[-1]
        assert ledger.size % 2 == 0
    assert faults(path) == ()


def test_killed_while_it_is_created_it_is_created_at_the_next_start(path: Path) -> None:
    path.touch(mode=0o600)  # As far as `_create_private` came.
    filled(path)
    assert faults(path) == ()


def test_a_full_disk_is_a_sentence_and_nothing_of_the_group_is_there(path: Path) -> None:
    with closing(SqliteLedger(path, bytes_max=40 * 4096)) as ledger:
        ledger.write(LedgerWrites((leaf(0),)))
        size, root = ledger.size, ledger.root
        with pytest.raises(LocalError, match=r"ledger .* full .*free some space"):
            ledger.write(LedgerWrites(tuple(map(leaf, range(10_000)))))
        assert (ledger.size, ledger.root) == (size, root)
        ledger.write(LedgerWrites((leaf(1),)))
        assert ledger.size == 2
    assert faults(path) == ()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot create the ledger"):
        SqliteLedger(tmp_path / "absent" / "ledger.sqlite")


def test_a_file_that_is_no_ledger_is_left_alone(path: Path) -> None:
    for junk in (b"this is not a database, it is a sentence", bytes(8192)):
        path.write_bytes(junk)
        with pytest.raises(LocalError, match=r"is damaged .*restore it from a copy"):
            SqliteLedger(path)
        assert path.read_bytes() == junk
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE song (title TEXT)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(LocalError, match="no ledger"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_a_ledger_of_a_newer_version_is_left_alone(path: Path) -> None:
    filled(path)
    edited(path, f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(LocalError, match=f"format {FORMAT + 1}"):
        SqliteLedger(path)


def test_the_file_is_private_and_its_commits_are_flushed(path: Path) -> None:
    with closing(SqliteLedger(path)) as ledger:
        assert path.stat().st_mode & 0o777 == 0o600
        (journal,) = ledger._connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = ledger._connection.execute("PRAGMA synchronous").fetchone()
    # 2 FULL, 3 EXTRA: www.sqlite.org/pragma.html#pragma_synchronous
    assert synchronous >= (2 if journal == "wal" else 3)


def test_our_own_code_cannot_change_or_remove_an_entry(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in ("UPDATE entry SET leaf = 'x'", "DELETE FROM entry WHERE number = 3"):
            with pytest.raises(sqlite3.IntegrityError, match="entries are never"):
                other.execute(statement)


TAMPERED: dict[str, tuple[str, ...]] = {
    "flip": (f"UPDATE entry SET leaf = X'{leaf(77).hex()}' WHERE number = 5",),
    "text for bytes": ("UPDATE entry SET leaf = 'text' WHERE number = 5",),
    "flip of a bit that is no entry": ("UPDATE entry SET leaf = X'00' WHERE number = 5",),
    "drop": ("DELETE FROM entry WHERE number = 5",),
    "drop and close the gap": (
        "DELETE FROM entry WHERE number = 5",
        *(f"UPDATE entry SET number = {at - 1} WHERE number = {at}" for at in range(6, ENTRIES)),
    ),
    "swap": (
        "UPDATE entry SET number = 99 WHERE number = 4",
        "UPDATE entry SET number = 4 WHERE number = 5",
        "UPDATE entry SET number = 5 WHERE number = 99",
    ),
    "truncate": (f"DELETE FROM entry WHERE number >= {ENTRIES - 2}",),
    "truncate with its nodes": (
        f"DELETE FROM entry WHERE number >= {ENTRIES - 2}",
        "DELETE FROM node WHERE (number + 1) * (1 << level) > 10",
    ),
    "insert": (
        *(f"UPDATE entry SET number = {at + 1} WHERE number = {at}" for at in range(11, 4, -1)),
        f"INSERT INTO entry VALUES (5, X'{leaf(77).hex()}', 0)",
    ),
    "inner node": ("UPDATE node SET hash = zeroblob(32) WHERE level = 2 AND number = 1",),
    "checkpoint": ("UPDATE checkpoint SET note = replace(note, 'ledger', 'Ledger')",),
}


@pytest.mark.parametrize("statements", TAMPERED.values(), ids=TAMPERED)
def test_what_is_done_to_the_file_is_found(path: Path, statements: tuple[str, ...]) -> None:
    filled(path)
    edited(path, *statements)
    found = faults(path)
    assert found, statements
    assert len(found) < 40
    assert all(len(sentence) < 300 for sentence in found)


def test_a_changed_entry_is_named(path: Path) -> None:
    filled(path)
    edited(path, *TAMPERED["flip"])
    assert faults(path)[0] == "entry 4 or 5 is not what was written"


def test_whoever_also_makes_the_nodes_anew_is_found_by_the_checkpoints(
    path: Path, tmp_path: Path
) -> None:
    filled(path)
    other = tmp_path / "other.sqlite"
    with closing(SqliteLedger(other)) as ledger:
        for at in range(ENTRIES):
            ledger.write(LedgerWrites((leaf(77 if at == 5 else at),)))
    edited(path, f"ATTACH '{other}' AS other")
    with closing(sqlite3.connect(path, isolation_level=None)) as both:
        both.execute(f"ATTACH '{other}' AS other")
        for table in ("entry", "node"):
            both.execute(f"DELETE FROM main.{table}")
            both.execute(f"INSERT INTO main.{table} SELECT * FROM other.{table}")
    assert faults(path) == ("entries 4 to 11 do not add up to the signed checkpoint of 12 entries",)
    assert "are not what this node has signed" in quick_fault(path)


@pytest.mark.parametrize("name", ["truncate", "truncate with its nodes"])
def test_a_log_whose_end_is_cut_off_is_found_at_the_start(path: Path, name: str) -> None:
    filled(path)
    edited(path, *TAMPERED[name])
    assert "cut off, or an old copy" in quick_fault(path)


def test_an_old_copy_restored_is_found_by_the_checkpoint_that_is_kept_elsewhere(
    path: Path, tmp_path: Path
) -> None:
    filled(path)
    old = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, old)
    with closing(SqliteLedger(path)) as ledger:
        ledger.write(LedgerWrites((leaf(50),)))
        kept = note_of(ledger)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copy(old, path)
    assert faults(path) == ()  # By itself it is in order: that is what makes it dangerous.
    assert "old copy" in quick_fault(path, kept)


def test_another_nodes_ledger_is_told_from_ours(path: Path) -> None:
    filled(path, key=ephemeral_key())
    assert "that of another node" in quick_fault(path)


def test_it_is_read_while_its_node_writes(path: Path) -> None:
    filled(path)
    with closing(SqliteLedger(path)) as ledger, LedgerFile(path) as file:
        ledger.write(LedgerWrites(tuple(map(leaf, range(40)))))
        assert file.size == ENTRIES
        audit, wrong = file.audit(KEY.verify)
    assert (audit.size, audit.vouched, wrong) == (ENTRIES, ENTRIES, ())


def test_an_empty_file_is_said_to_have_lost_what_it_held(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(LocalError, match=r"is empty: what it held was lost; restore it"):
        LedgerFile(path)


def test_there_is_no_ledger_to_read_where_no_node_ran(path: Path) -> None:
    with pytest.raises(LocalError, match="there is no ledger"):
        LedgerFile(path)
    assert not path.exists()


def test_a_page_overwritten_is_found(path: Path) -> None:
    filled(path, 400)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\xaa" * 64
    path.write_bytes(data)
    with suppress(LocalError):  # SQLite itself may refuse to read on.
        assert faults(path)
