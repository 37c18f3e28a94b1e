"""Known bugs that are planted in copies of the code: each finds its place, and the tests of the
kill switch notice each of theirs. Those of governance and of the world take minutes:
`python scripts/plant_governance_bugs.py`, `python scripts/plant_world_bugs.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import (
    plant_governance_bugs,
    plant_halt_bugs,
    plant_ledger_bugs,
    plant_world_bugs,
)
from scripts.planting import Bug, Change, changed, plant


@pytest.mark.slow
@pytest.mark.parametrize("name", plant_halt_bugs.BUGS)
def test_the_bug_is_noticed(name: str) -> None:
    assert plant_halt_bugs.verdict_on(plant_halt_bugs.BUGS[name]).caught_by


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=name)
        for bugs in (
            plant_governance_bugs.BUGS,
            plant_halt_bugs.BUGS,
            plant_ledger_bugs.BUGS,
            plant_world_bugs.BUGS,
        )
        for name, bug in bugs.items()
    ],
)
def test_the_bug_still_fits(bug: Bug, tmp_path: Path) -> None:
    plant(bug, tmp_path, tuple({change.path for change in bug}))
    for change in bug:
        compile((tmp_path / change.path).read_text(encoding="utf-8"), change.path, "exec")


def test_what_must_be_planted_is_there() -> None:
    assert {
        "one epoch instead of vectors",
        "no threshold",
        "one signer counted twice",
        "no persistence",
        "lift by a stale charter",
        "expiry refuses a halt",
    } <= set(plant_halt_bugs.BUGS)


@pytest.mark.parametrize(
    "text",
    [
        "    return [a, f(b)]\n",
        "    return [\n        a,\n        f(b),\n    ]\n",
        "    return [a,\n        f(\n            b\n        )]\n",
    ],
)
def test_a_place_is_found_however_it_is_laid_out(text: str) -> None:
    assert changed(text, Change("x.py", "return [a, f(b)]", "return []")) == "    return []\n"


def test_a_place_that_is_deleted_leaves_a_statement() -> None:
    assert changed("if a:\n    b()\n", Change("x.py", "    b()\n", "")) == "if a:\n    pass\n"


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n", "aa = 1\n", "a = 11\n"])
def test_a_place_that_is_not_there_once_is_said(text: str) -> None:
    with pytest.raises(SystemExit, match="mend the bug"):
        changed(text, Change("x.py", "a = 1", "a = 2"))
