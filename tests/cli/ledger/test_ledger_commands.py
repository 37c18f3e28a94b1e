"""`swarmllm ledger` as a person types it, on a folder, on an exported file and on a proof: what is
sound is said to be, what was touched is found, and every mistake is one sentence."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.ledger import SqliteLedger
from swarmllm.adapters.store import SqliteStore
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.ledger.own_log import LAST_CHECKPOINT
from swarmllm.messages import ALARM_FORKED, HaltedHere, LedgerAlarm, OwnerCommand
from swarmllm.runtime.ledger_performer import leaf_of
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.testing.operators import Founders
from swarmllm.wire.checkpoint import Checkpoint, cosign, cosignature_line, sign_checkpoint
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record
from tests.cli.command import Finished, run

KEY, WITNESS = ephemeral_key(), ephemeral_key()
WE = Founders("ledger")
AT = 1_790_000_000_000
ENTRIES = (
    LedgerEntry(LedgerKind.CHARTER, WE.charter),
    LedgerEntry(LedgerKind.HALT, WE.halt()),
    LedgerEntry(LedgerKind.HALTED, encode(HaltedHere(("stopped by the owner of this node",)))),
    LedgerEntry(LedgerKind.COMMAND, encode(OwnerCommand("stop"))),
    LedgerEntry(LedgerKind.COMMAND, encode(OwnerCommand("start"))),
)
SIGNED = 4  # The last one came later.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's folder after it has run."""
    path = tmp_path / "data"
    path.mkdir()
    with closing(SqliteLedger(path / "ledger.sqlite")) as ledger:
        ledger.write(LedgerWrites(tuple(leaf_of(one, AT) for one in ENTRIES[:SIGNED])))
        at = Checkpoint(KEY.peer, ledger.size, ledger.root)
        note = sign_checkpoint(at, KEY.public_key, KEY.sign)
        line = cosignature_line(cosign(at, WITNESS.peer, AT // 1000, WITNESS.sign)).encode()
        ledger.write(
            LedgerWrites(
                checkpoints=((at.size, note),),
                cosignatures=((at.size, WITNESS.peer, line),),
                heads=((WITNESS.peer, note),),
            )
        )
        ledger.write(LedgerWrites(tuple(leaf_of(one, AT) for one in ENTRIES[SIGNED:])))
    with SqliteStore(path / "store.sqlite", lambda _: None) as store:
        store.save(LAST_CHECKPOINT, note)
    return path


def ledger(home: Path, *words: str | Path) -> Finished:
    return run(home, "ledger", *map(str, words))


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as other:
        for trigger in ("entry_stays", "entry_remains"):
            other.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        other.execute(statement)


def test_entries_are_shown_with_what_stands_in_them(tmp_path: Path, folder: Path) -> None:
    done = ledger(tmp_path, "show", folder, "--json")
    assert done.code == 0, done
    records = done.records()
    assert [one["kind"] for one in records] == ["charter", "halt", "halted", "command", "command"]
    assert records[1]["what"] == "Halt"
    assert records[1]["signers"] == [WE.halters[0].id.hex()]
    assert records[1]["fields"]["seq"] == 1
    assert bytes.fromhex(records[1]["payload"]) == ENTRIES[1].payload
    shown = ledger(tmp_path, "show", "--data-dir", folder, "--count", "2").out
    assert "stop" in shown
    assert "start" in shown
    assert "charter" not in shown
    some = ledger(tmp_path, "show", folder, "--from", "1", "--count", "2", "--json").records()
    assert [one["number"] for one in some] == [1, 2]
    halts = ledger(tmp_path, "show", folder, "--kind", "halt", "--json").records()
    assert [one["number"] for one in halts] == [1]


def test_a_sound_ledger_is_verified_and_says_by_whom(tmp_path: Path, folder: Path) -> None:
    [record] = ledger(tmp_path, "verify", folder, "--json").records()
    assert record["ok"] is True
    assert (record["entries"], record["signed"]) == (5, SIGNED)
    assert (record["log"], record["witnesses"]) == (KEY.peer, [WITNESS.peer])
    done = ledger(tmp_path, "verify", folder)
    assert (done.code, done.complaint) == (0, "")
    assert "5: 4 as they were signed, 1 not yet" in done.out
    assert ledger(tmp_path, "verify", folder, "--peer", KEY.peer).code == 0
    other = ledger(tmp_path, "verify", folder, "--peer", WITNESS.peer)
    assert other.code == 1
    assert "not of" in other.sentence()


def test_an_exported_ledger_is_verified_anywhere_and_a_changed_one_is_not(
    tmp_path: Path, folder: Path
) -> None:
    file = tmp_path / "out.ledger"
    done = ledger(tmp_path, "export", "--out", file, "--data-dir", folder, "--json")
    assert done.records()[0]["entries"] == 5
    [record] = ledger(tmp_path, "verify", file, "--json").records()
    assert (record["ok"], record["signed"], record["witnesses"]) == (True, SIGNED, [WITNESS.peer])
    assert len(ledger(tmp_path, "show", file, "--json").records()) == 5
    assert ledger(tmp_path, "export", "--out", file, "--data-dir", folder).code == 1
    lines = file.read_text().splitlines(keepends=True)
    for changed in (
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines[:3], lines[2].replace('"number": 1', '"number": 2'), *lines[4:]],
        lines[:-2],
        [lines[0], "{\n", *lines[2:]],
    ):
        file.write_text("".join(changed))
        assert ledger(tmp_path, "verify", file, "--json").records()[0]["ok"] is False


def test_a_proof_of_an_entry_is_checked_without_the_ledger(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "entry.tlog-proof"
    assert ledger(tmp_path, "prove", "1", folder, "--out", file).code == 0
    text = file.read_text()
    assert text.startswith("c2sp.org/tlog-proof@v1\n")
    assert ledger(tmp_path, "prove", "1", "--data-dir", folder).out == text
    [record] = ledger(tmp_path, "verify", file, "--json").records()
    assert (record["ok"], record["number"], record["kind"]) == (True, 1, "halt")
    assert (record["log"], record["witnesses"]) == (KEY.peer, [WITNESS.peer])
    file.write_text(text.replace("index 1", "index 2"))
    done = ledger(tmp_path, "verify", file)
    assert done.code == 1
    assert "proves nothing" in done.sentence()


def test_of_an_entry_that_is_not_signed_yet_there_is_no_proof(tmp_path: Path, folder: Path) -> None:
    done = ledger(tmp_path, "prove", "4", folder)
    assert done.code == 1
    assert "not signed yet" in done.sentence()
    assert ledger(tmp_path, "prove", "5", folder).code == 2


def test_witnesses_and_watched_logs_are_shown(tmp_path: Path, folder: Path) -> None:
    [record] = ledger(tmp_path, "witnesses", folder, "--json").records()
    assert record["witnesses"] == [{"peer": WITNESS.peer, "at_s": AT // 1000}]
    assert record["watched"] == [{"peer": WITNESS.peer, "checkpoint": SIGNED}]
    assert record["alarms"] == []
    assert "cosigned by" in ledger(tmp_path, "witnesses", "--data-dir", folder).out


TOUCHED = {
    "flip": f"UPDATE entry SET leaf = X'{leaf_of(ENTRIES[3], 5).hex()}' WHERE number = 1",
    "drop": "DELETE FROM entry WHERE number = 2",
    "truncate": "DELETE FROM entry WHERE number > 2",
    "rubbish": "UPDATE entry SET leaf = 'rubbish' WHERE number = 0",
    "checkpoint": "UPDATE checkpoint SET note = 'rubbish'",
    "cosignature": "UPDATE cosignature SET line = replace(line, '=', '')",
    "another witness": (
        f"UPDATE cosignature SET line = replace(line, '{WITNESS.peer}', '{KEY.peer}')"
    ),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_what_was_touched_is_found_with_exit_code_1(
    tmp_path: Path, folder: Path, name: str
) -> None:
    edit(folder, TOUCHED[name])
    [record] = ledger(tmp_path, "verify", folder, "--json").records()
    assert record["ok"] is False
    assert record["faults"]
    assert ledger(tmp_path, "verify", folder).code == 1


def test_an_old_copy_put_back_is_found_by_what_the_store_remembers(
    tmp_path: Path, folder: Path
) -> None:
    edit(folder, "DELETE FROM entry WHERE number > 1")
    edit(folder, "DELETE FROM node WHERE (number + 1) * (1 << level) > 2")
    edit(folder, "DELETE FROM checkpoint")
    [record] = ledger(tmp_path, "verify", folder, "--json").records()
    assert record["faults"] == [
        "the log has 2 entries, and a signed checkpoint of 4: the end is missing"
    ]


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no such place": (("show", "absent"), 2, "does not exist"),
    "no node has run here": (("verify", "--data-dir", "empty"), 1, "there is no ledger"),
    "no ledger": (("verify", "text"), 1, "is no ledger"),
    "no such kind": (("show", "--kind", "prompt"), 2, "is no kind of entry"),
    "count": (("show", "--count", "0"), 2, "--count is 0"),
    "from": (("show", "--from", "-1"), 2, "--from is -1"),
    "peer": (("verify", "--peer", "nobody"), 2, "--peer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_one_sentence(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text(json.dumps({"hello": 1}))
    monkeypatch.chdir(tmp_path)
    words, code, sentence = WRONG[name]
    words = tuple(
        str(tmp_path / word) if word in {"absent", "empty", "text"} else word for word in words
    )
    done = ledger(tmp_path, *words)
    assert done.code == code, done
    assert sentence in done.sentence()
    assert done.out == ""


# --- alarms ---------------------------------------------------------------------------------------


@pytest.fixture
def alarmed(folder: Path) -> str:
    """The id of an alarm that the node of this folder raised about its witness's log."""
    at = Checkpoint(WITNESS.peer, 3, b"\1" * 32)
    notes = [
        sign_checkpoint(replace(at, root=root), WITNESS.public_key, WITNESS.sign)
        for root in (b"\1" * 32, b"\2" * 32)
    ]
    record = LedgerAlarm(WITNESS.public_key, ALARM_FORKED, notes[0], notes[1], AT)
    data = sign_record(record, [(KEY.public_key, KEY.sign)])
    with closing(SqliteLedger(folder / "ledger.sqlite")) as file:
        entry = leaf_of(LedgerEntry(LedgerKind.ALARM, data), AT)
        file.write(LedgerWrites((entry,), alarms=((WITNESS.peer, data),)))
    return sha256(data).hexdigest()


def test_an_alarm_is_shown_with_its_proof_and_acknowledged_without_losing_anything(
    tmp_path: Path, folder: Path, alarmed: str
) -> None:
    [one] = ledger(tmp_path, "alarms", folder, "--json").records()[0]["alarms"]
    assert (one["id"], one["log"], one["entry"]) == (alarmed, WITNESS.peer, 5)
    assert one["proves_itself"] is True
    assert one["held"] != one["shown"]
    assert one["acknowledged_ms"] is None
    said = " ".join(ledger(tmp_path, "alarms", folder).out.split())
    assert "forked: it signed two histories" in said
    assert "3 entries, root AgIC" in said
    assert f"swarmllm ledger acknowledge {alarmed[:8]}" in said
    done = ledger(tmp_path, "acknowledge", alarmed[:6], "--data-dir", folder)
    assert done.code == 0, done
    assert "stays in the ledger, entry 5" in done.err
    [after] = ledger(tmp_path, "alarms", folder, "--json").records()[0]["alarms"]
    assert after["acknowledged_ms"] is not None
    assert {**after, "acknowledged_ms": None} == one, "nothing of the evidence is gone"
    again = ledger(tmp_path, "acknowledge", alarmed, "--data-dir", folder, "--json")
    assert again.records()[0]["known"] is True
    kinds = [r["kind"] for r in ledger(tmp_path, "show", folder, "--json").records()]
    assert kinds.count("acknowledged") == 1
    assert ledger(tmp_path, "verify", folder).code == 0


def test_an_exported_ledger_shows_its_alarms_too(
    tmp_path: Path, folder: Path, alarmed: str
) -> None:
    file = tmp_path / "out.ledger"
    ledger(tmp_path, "export", "--out", file, "--data-dir", folder)
    [one] = ledger(tmp_path, "alarms", file, "--json").records()[0]["alarms"]
    assert one["id"] == alarmed


def test_no_alarm_and_no_such_alarm_are_said(tmp_path: Path, folder: Path) -> None:
    assert "No alarm is in" in ledger(tmp_path, "alarms", folder).out
    for id, sentence in (("ab", "no alarm of this ledger begins with 'ab'"), ("x", "is no id of")):
        done = ledger(tmp_path, "acknowledge", id, "--data-dir", folder)
        assert done.code == 2
        assert sentence in done.sentence()
