"""Disks that fail under a governed node: full, read-only, damaged. One clear sentence, the right
exit code, and nothing that was said to be recorded is lost."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from swarmllm.adapters.store import peek
from swarmllm.core.governance.state_file import load
from tests.cli.command import DEADLINE_S, RunningNode
from tests.cli.governance.test_commands import SET
from tests.cli.operators.conftest import Desk
from tests.cli.operators.support import contents
from tests.cli.own_mounts import fill, make_read_only, small_disk, with_own_mounts

pytestmark = pytest.mark.slow


def governed(desk: Desk, folder: Path) -> RunningNode:
    charter = ("--charter", str(desk.folder / "c1"))
    return RunningNode(desk.folder / "home", folder, "--port", "0", "--model", "none", *charter)


def records_on(folder: Path) -> int:
    """How many records of governance are on this node's disk."""
    _, cases = load(lambda key: peek(folder / "store.sqlite", key))
    return sum(map(len, cases.values()))


def proposed(desk: Desk, *flags: str) -> str:
    return str(desk.ok(*SET, "--key", "ann.key", "--json", *flags).records()[-1]["id"])


@with_own_mounts
def test_a_full_disk_and_then_one_that_is_read_only(desk: Desk) -> None:
    disk, data = desk.folder / "disk", desk.folder / "disk" / "data"
    small_disk(disk, "1m")
    flags = ("--data-dir", str(data))
    with governed(desk, data) as node:
        node.wait_for("ready")
        id = proposed(desk, *flags)
        filler = fill(disk)
        _commands_on_a_full_disk(desk, disk, id, flags)
        assert records_on(data) == 1
        filler.unlink()
        until = time.monotonic() + DEADLINE_S
        while records_on(data) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        desk.ok("vote", id, "yes", "--key", "bob.key", *flags)
        assert "trouble" not in desk.ok("status", *flags).out
        node.process.send_signal(signal.SIGTERM)
        assert node.ends() == 0
    assert records_on(data) == 4, "two proposals and two votes, whatever was said of them"
    _commands_on_a_read_only_disk(desk, data, flags)


def _commands_on_a_full_disk(desk: Desk, disk: Path, id: str, flags: tuple[str, ...]) -> None:
    for words in (("vote", id, "yes", "--key", "ann.key"), (*SET, "--key", "ann.key")):
        refused = desk.refused(1, *words, *flags)
        assert "keeps trying to write it down" in refused
        assert "the disk or the store is full" in refused
    assert "the disk or the store is full" in desk.ok("status", *flags).out.replace("\n", " ")
    for asked in (("phase",), ("proposals", "show", id), ("tiers",), ("ledger", "verify")):
        desk.ok(*asked, *flags)
    for command in (("proposals", "export"), ("ledger", "export")):
        assert "the disk is full" in desk.refused(1, *command, "--out", str(disk / "file"), *flags)
        assert not (disk / "file").exists()


def _commands_on_a_read_only_disk(desk: Desk, data: Path, flags: tuple[str, ...]) -> None:
    before = contents(data)
    assert "ledger.sqlite-wal" not in before, "SQLite would have to make one in order to read"
    make_read_only(data)
    refused = desk.refused(1, "join", "--model", "none", *flags)
    assert refused == (
        f"cannot write to the data folder {data} (Read-only file system); choose another one with"
        " --data-dir"
    )
    desk.ok("ledger", "verify", *flags)
    shown = desk.ok("ledger", "show", "--kind", "governance", "--json", *flags).records()
    assert len(shown) == 4
    assert "no node runs on" in desk.refused(1, "phase", *flags)
    assert contents(data) == before


# --- damaged files --------------------------------------------------------------------------------


def _spoil_leaf(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger, isolation_level=None)) as file:
        file.execute("DROP TRIGGER entry_stays")
        file.execute("UPDATE entry SET leaf = leaf || x'00' WHERE number = 1")


def _spoil_value(store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as file:
        key = ("governance/case/0",)
        (value,) = file.execute("SELECT value FROM entry WHERE key = ?", key).fetchone()
        flipped = value[:40] + bytes((value[40] ^ 1,)) + value[41:]
        file.execute("UPDATE entry SET value = ? WHERE key = ?", (flipped, *key))


def _cut(file: Path) -> None:
    with closing(sqlite3.connect(file)) as log:
        log.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def test_killed_after_the_answer_then_damaged_then_restored(desk: Desk) -> None:
    """Nothing is put into force by a node that does not know what it held, nothing is written over
    what could be mended, and with the files back all is as it was."""
    data, copy = desk.folder / "data", desk.folder / "copy"
    flags = ("--data-dir", str(data))
    with governed(desk, data) as node:
        node.wait_for("ready")
        id = proposed(desk, *flags)
        for voter in ("ann", "bob"):
            desk.ok("vote", id, "yes", "--key", f"{voter}.key", *flags)
        node.process.kill()
        node.ends()
    assert records_on(data) == 3
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("control.sock"))
    _with_flipped_bits(desk, data, id, flags)
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    _cut_short(desk, data, flags)
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    with governed(desk, data) as node:
        node.wait_for("ready")
        one = desk.ok("proposals", "show", id, "--json", *flags).records()[0]
        assert len(one["yes"]) == 2
        assert node.found("warning") is None


def _with_flipped_bits(desk: Desk, data: Path, id: str, flags: tuple[str, ...]) -> None:
    _spoil_leaf(data / "ledger.sqlite")
    _spoil_value(data / "store.sqlite")
    with governed(desk, data) as node:
        node.wait_for("ready")
        warned = [one["text"] for one in node.records if one["event"] == "warning"]
        damage = "what this node remembers of governance cannot be read: governance/case/0"
        assert any(damage in text for text in warned), warned
        for words in (
            (*SET, "--key", "ann.key"),
            ("vote", id, "yes", "--key", "cy.key"),
            ("withdraw", id, "--key", "ann.key"),
            ("proposals", "show", id),
        ):
            refused = desk.refused(1, *words, *flags)
            assert damage in refused, words
            assert refused.endswith("restore its data folder from a copy")
        assert damage in desk.ok("status", *flags).out.replace("\n", " ").replace("  ", "")
        assert desk.ok("phase", "--json", *flags).records()[0]["obstacle"].startswith(damage)
        done = desk.run("ledger", "verify", *flags)
        assert done.code == 1
        assert "entry 0 or 1 is not what was written" in done.err


def _cut_short(desk: Desk, data: Path, flags: tuple[str, ...]) -> None:
    for name in ("ledger.sqlite", "store.sqlite"):
        _cut(data / name)
    before = contents(data)
    with governed(desk, data) as node:
        node.wait_for("ready")
        warned = " ".join(one["text"] for one in node.records if one["event"] == "warning")
        assert f"the store {data / 'store.sqlite'} was damaged" in warned
        assert f"the ledger {data / 'ledger.sqlite'} is damaged" in warned
        assert "is damaged" in desk.refused(1, "ledger", "verify", *flags)
        assert "is damaged" in desk.ok("status", *flags).out.replace("\n", " ")
    after = contents(data)
    assert after["ledger.sqlite"] == before["ledger.sqlite"]
    assert after["store.sqlite.damaged-1"] == before["store.sqlite"]
