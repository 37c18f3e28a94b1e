"""What several files of tests of the operators' commands do."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Finished
from tests.cli.operators.conftest import Desk
from tests.cli.operators.fake_node import FakeNode

TERMS = (
    "--root",
    "ann.pub",
    "--root",
    "bob.pub",
    "--halt",
    "ann.pub",
    "--resume",
    "ann.pub",
    "--resume",
    "bob.pub",
)


def last(done: Finished, event: str) -> dict[str, object]:
    """The last record of this kind."""
    return [record for record in done.records() if record["event"] == event][-1]


def resume(desk: Desk, node: FakeNode) -> None:
    """Lift everything that stands, signed by two."""
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    desk.ok("resume", "sign", "proposal", "--key", "ann.key", "--key", "bob.key")
    desk.ok("resume", "publish", "proposal", *node.flags)
    Path("proposal").unlink()


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a data folder, but for the lock."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name != "lock"
    }
