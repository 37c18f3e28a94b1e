"""What whole programs of these tests need."""

from __future__ import annotations

import os

import pytest

from tests import ROOT


@pytest.fixture
def runs_tests_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the package `tests`, in which liars and doubles of an owner are; where the
    product is installed it is not."""
    paths = str(ROOT), os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
