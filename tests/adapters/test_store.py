"""The SQLite store keeps the contract, survives being killed, a full disk and a damaged file."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from swarmllm.adapters.store import FORMAT, MOVED_MAX, SqliteStore
from swarmllm.errors import LocalError
from tests.contracts.store_contract import Make, StoreContract


def _no_notice(text: str) -> None:
    raise AssertionError(text)


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Make]:
        numbers = itertools.count()
        with ExitStack() as stack:
            yield lambda: stack.enter_context(
                SqliteStore(tmp_path / f"{next(numbers)}.sqlite", _no_notice)
            )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_values_outlive_the_process_that_saved_them(path: Path) -> None:
    with SqliteStore(path, _no_notice) as store:
        store.save("a", b"1")
    with SqliteStore(path, _no_notice) as store:
        assert store.load("a") == b"1"


def test_closing_while_another_thread_reads_is_an_error_there_and_no_crash(path: Path) -> None:
    """A node that was stopped while its ledger opened ended with a segmentation fault."""
    program = (
        "import sys, pathlib, threading\n"
        "from swarmllm.adapters.store import SqliteStore\n"
        "from swarmllm.errors import LocalError\n"
        "def read(store, began):\n"
        "    try:\n"
        "        while True:\n"
        "            store.load('a')\n"
        "            began.set()\n"
        "    except LocalError:\n"
        "        print('refused', flush=True)\n"
        "for _ in range(100):\n"
        "    store = SqliteStore(pathlib.Path(sys.argv[1]), print)\n"
        "    store.save('a', bytes(100_000))\n"
        "    began = threading.Event()\n"
        "    reader = threading.Thread(target=read, args=(store, began))\n"
        "    reader.start()\n"
        "    began.wait()\n"
        "    store.close()\n"
        "    reader.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 100 * "refused\n"


def test_whatever_was_saved_before_a_kill_is_there_after_it(path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from swarmllm.adapters.store import SqliteStore\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]), print)\n"
        "for number in range(10**9):\n"
        "    store.save('n', str(number).encode())\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(20)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout if line.endswith("\n")]
    with SqliteStore(path, _no_notice) as store:
        value = store.load("n")
    assert value is not None
    assert int(value) >= told[-1]


def test_every_commit_is_flushed_before_save_returns(path: Path) -> None:
    with SqliteStore(path, _no_notice) as store:
        journal = store._connection.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = store._connection.execute("PRAGMA synchronous").fetchone()[0]
    # 2 FULL, 3 EXTRA: www.sqlite.org/pragma.html#pragma_synchronous
    assert synchronous >= (2 if journal == "wal" else 3)


def test_a_full_disk_is_a_sentence_and_the_old_value_stays(path: Path) -> None:
    with SqliteStore(path, _no_notice, bytes_max=64 * 4096) as store:
        store.save("a", b"old")
        with pytest.raises(LocalError, match=r"full.*free some space"):
            store.save("a", bytes(1 << 20))
        assert store.load("a") == b"old"
        store.save("a", b"new")
        assert store.load("a") == b"new"


@pytest.mark.parametrize(
    "junk",
    [
        b"this is not a database, it is a sentence",
        bytes(8192),
        b"SQLite format 3\0" + b"\xff" * 5000,
    ],
)
def test_a_file_that_is_no_database_is_moved_aside_and_said(path: Path, junk: bytes) -> None:
    path.write_bytes(junk)
    notices: list[str] = []
    with SqliteStore(path, notices.append) as store:
        store.save("a", b"1")
        assert store.load("a") == b"1"
    assert [str(path) in text for text in notices] == [True]
    assert path.with_name("store.sqlite.damaged-1").read_bytes() == junk


def test_a_page_overwritten_in_the_middle_is_found_at_the_next_start(path: Path) -> None:
    with SqliteStore(path, _no_notice) as store:
        for number in range(200):
            store.save(f"k{number}", bytes([number]) * 1000)
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 64] = b"\xaa" * 64
    path.write_bytes(data)
    notices: list[str] = []
    with SqliteStore(path, notices.append) as store:
        assert store.load("k7") is None
    assert len(notices) == 1


def test_damaged_files_are_kept_up_to_a_bound(path: Path) -> None:
    for number in range(MOVED_MAX + 3):
        path.write_bytes(b"junk number %d, long enough to be looked at" % number)
        with SqliteStore(path, lambda text: None):
            pass
    kept = sorted(path.parent.glob("*.damaged-*"))
    assert len(kept) == MOVED_MAX
    assert b"number %d," % (MOVED_MAX + 2) in kept[-1].read_bytes()


def test_a_killed_writers_log_is_used_or_forgotten_with_a_notice_but_never_mixed(
    path: Path,
) -> None:
    program = "import os, sys, pathlib\nfrom swarmllm.adapters.store import SqliteStore\n"
    program += (
        "SqliteStore(pathlib.Path(sys.argv[1]), print).save('a', b'1')\nos.kill(os.getpid(), 9)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode
        == -signal.SIGKILL
    )
    assert path.with_name("store.sqlite-wal").stat().st_size > 0
    path.write_bytes(b"junk, long enough to be looked at by sqlite")
    notices: list[str] = []
    with SqliteStore(path, notices.append) as store:
        assert store.load("a") == (None if notices else b"1")
        store.save("b", b"2")
    with SqliteStore(path, _no_notice) as store:
        assert (store.load("a"), store.load("b")) == (None if notices else b"1", b"2")


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE song (title TEXT)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(LocalError, match="another program"):
        SqliteStore(path, _no_notice)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_version_is_left_alone(path: Path) -> None:
    with SqliteStore(path, _no_notice) as store:
        store._connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(LocalError, match=f"format {FORMAT + 1}"):
        SqliteStore(path, _no_notice)


def test_the_file_is_private(path: Path) -> None:
    with SqliteStore(path, _no_notice):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_does_not_exist_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot create the store"):
        SqliteStore(tmp_path / "absent" / "store.sqlite", _no_notice)


def test_a_store_held_by_another_writer_is_a_sentence(path: Path) -> None:
    with (
        SqliteStore(path, _no_notice) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        store._connection.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LocalError, match="cannot write the store"):
            store.save("a", b"1")
