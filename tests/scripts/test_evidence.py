"""The page of evidence: its rows name what exists, its verdicts fail where nothing is shown, and
what is finished stays finished."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import evidence_run
from scripts.evidence_rows import ROWS, Output, Row, figures, tests_pass
from tests import ROOT

tests_pass.__test__ = False  # type: ignore[attr-defined]
NAMES = [row.name for row in ROWS]


def test_names_are_unique_and_each_row_says_everything() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for row in ROWS:
        assert row.asked, row.name
        assert row.inputs, row.name
        assert row.expected, row.name
        assert row.command or row.beyond, row.name


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.command[:1] == ("pytest",)], ids=lambda r: r.name
)
def test_every_test_that_a_row_names_exists(row: Row) -> None:
    for word in row.command:
        path, _, name = word.partition("::")
        if not path.startswith("tests/"):
            continue
        assert (ROOT / path).exists(), word
        if name:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {one.name for one in tree.body if hasattr(one, "name")}, word


@pytest.mark.parametrize("row", [row for row in ROWS if row.command], ids=lambda r: r.name)
def test_no_judge_takes_nothing_for_a_pass(row: Row) -> None:
    for output in (Output(0, "", ""), Output(1, "", "Traceback"), Output(124, "", "too long")):
        assert row.verdict(output).state == "fail"


@pytest.mark.parametrize(
    ("out", "code", "state", "observed"),
    [
        ("3 passed in 1s", 0, "pass", "3 passed"),
        ("2 passed, 1 failed in 1s", 1, "fail", "2 passed, 1 failed"),
        ("2 passed, 1 skipped in 1s", 0, "needs", "2 passed, 1 skipped"),
        ("SKIPPED [1] tests/a.py:3: no root\n1 skipped in 1s", 0, "needs", "1 skipped; no root"),
        ("1 error in 1s", 1, "fail", "1 error"),
        ("no tests ran", 5, "fail", "no test ran"),
    ],
)
def test_of_tests_only_what_ran_and_passed_counts(
    out: str, code: int, state: str, observed: str
) -> None:
    found = tests_pass(Output(code, out, ""))
    assert (found.state, found.observed) == (state, observed)


def row(name: str = "one", **more: object) -> Row:
    found = Row(
        name, "asked", ("nothing",), "inputs", "expected", figures("f", lambda _: (True, "fine"))
    )
    return replace(found, **more)  # type: ignore[arg-type]


class Runs:
    def __init__(self, out: str = '{"event":"f"}') -> None:
        self.names: list[str] = []
        self.out = out

    def __call__(self, row: Row) -> Output:
        self.names.append(row.name)
        return Output(0, self.out, "")


def test_what_is_finished_stays_and_what_has_changed_is_run_anew(tmp_path: Path) -> None:
    rows, runs = [row("a"), row("b")], Runs()
    assert evidence_run.main(["--only", "a"], rows, tmp_path, runs) == 0
    assert evidence_run.main([], rows, tmp_path, runs) == 0
    assert runs.names == ["a", "b"]
    rows[0] = row("a", expected="more")
    assert "| a | asked | inputs | more |  | not run |" in evidence_run.page(
        evidence_run.read(tmp_path / "evidence.json"), rows
    )
    evidence_run.main([], rows, tmp_path, runs)
    assert runs.names == ["a", "b", "a"]
    evidence_run.main(["--again"], rows, tmp_path, runs)
    assert runs.names == ["a", "b", "a", "a", "b"]
    (first, _) = json.loads((tmp_path / "evidence.json").read_text())["rows"]
    assert (first["state"], first["observed"]) == ("pass", "fine")
    assert "2 of 2 rows hold" in (tmp_path / "README.md").read_text()


def test_a_row_that_fails_is_kept_and_shown_and_tells_by_the_exit_code(tmp_path: Path) -> None:
    for out in ("", "no json", '{"event":"f"'):
        broken = [row(verdict=figures("f", lambda found: (found[0]["absent"], "never")))]
        assert evidence_run.main(["--again"], broken, tmp_path, Runs(out)) == 1
    broken = [row(verdict=figures("f", lambda found: (found[0]["absent"], "never")))]
    assert evidence_run.main(["--again"], broken, tmp_path, Runs()) == 1
    assert "**does not hold**" in (tmp_path / "README.md").read_text()


def test_what_was_interrupted_keeps_what_was_finished(tmp_path: Path) -> None:
    def stop(row: Row) -> Output:
        if row.name == "b":
            raise KeyboardInterrupt
        return Output(0, '{"event":"f"}', "")

    with pytest.raises(KeyboardInterrupt):
        evidence_run.main([], [row("a"), row("b")], tmp_path, stop)
    assert list(evidence_run.read(tmp_path / "evidence.json")) == ["a"]


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    folder = ROOT / "docs" / "evidence"
    found = evidence_run.read(folder / "evidence.json")
    assert found
    assert (folder / "README.md").read_text(encoding="utf-8") == evidence_run.page(found, ROWS)
