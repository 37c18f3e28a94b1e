"""The tests of the kill switch notice every bug that is planted in it
(`scripts/plant_halt_bugs.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

SCRIPT = ROOT / "scripts" / "plant_halt_bugs.py"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("plant_halt_bugs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Its dataclasses look their annotations up there.
    spec.loader.exec_module(module)
    return module


PLANT = script()


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANT.BUGS)
def test_the_bug_is_noticed(name: str) -> None:
    assert PLANT.judge(PLANT.BUGS[name]).caught_by


@pytest.mark.parametrize("name", PLANT.BUGS)
def test_the_bug_still_fits(name: str, tmp_path: Path) -> None:
    PLANT.plant(PLANT.BUGS[name], tmp_path)


def test_what_must_be_planted_is_there() -> None:
    assert {
        "one epoch instead of vectors",
        "no threshold",
        "one signer counted twice",
        "no persistence",
        "lift by a stale charter",
        "expiry refuses a halt",
    } <= set(PLANT.BUGS)
