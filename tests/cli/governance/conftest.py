"""Three voters, an agent and a stranger with key files, and a node under their charter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmllm.core.settings.table import EXTRA
from swarmllm.core.validation.report import encode_report
from tests.cli.governance.governed_node import GovernedNode
from tests.cli.operators.conftest import Desk, built_once, cheap
from tests.core.validation.cases import case, report

__all__ = ["built_once", "cheap", "desk", "node"]

ROLES = [f"--{role}={n}.pub" for role in ("root", "resume", "voter") for n in ("ann", "bob", "cy")]
TERMS = ("--agent", "gus.pub", "--canary-seconds", "0", "--phase", "1")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    found = Desk(tmp_path, monkeypatch)
    found.make("ann", "bob", "cy", "gus", "eve")
    found.ok("charter", "create", *ROLES, "--halt", "ann.pub", *TERMS, "--out", "c1")
    found.ok("charter", "sign", "c1", "--key", "ann.key", "--key", "bob.key")
    (tmp_path / "report").write_bytes(encode_report(report(case(EXTRA, 3))))
    return found


@pytest.fixture
def node(desk: Desk) -> Iterator[GovernedNode]:
    with GovernedNode(desk.folder / "data", desk.folder / "c1") as running:
        yield running
