"""`swarmllm bench ledger` measures a ledger that it fills, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import run


def test_each_figure_stands_beside_the_least_that_is_possible(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = run(tmp_path, "bench", "ledger", "--entries", "1000", "--folder", str(folder), "--json")
    assert done.code == 0, done
    records = {record["name"]: record for record in done.records()}
    assert {*records} == {"append", "append beside fsync", "consistency proof", "verify"}
    assert all(record["value"] > 0 for record in records.values())
    assert records["verify"]["parameters"]["entries"] == 1_000
    assert list(folder.iterdir()) == []


def test_a_senseless_size_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "bench", "ledger", "--entries", "10")
    assert done.code == 2
    assert "--entries is 10" in done.sentence()
