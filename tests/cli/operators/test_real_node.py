"""The same commands with a real node: the questions that the double answers are the ones that a
node answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import RunningNode
from tests.cli.operators.conftest import Desk
from tests.cli.operators.support import last


@pytest.mark.slow
def test_a_swarm_is_halted_and_resumed_by_operators_with_and_without_a_node(
    desk: Desk, tmp_path: Path
) -> None:
    flags = ("--data-dir", str(tmp_path / "data"))
    charter = ("--charter", str(tmp_path / "c1"))
    with RunningNode(
        tmp_path / "home", tmp_path / "data", "--port", "0", "--model", "none", *charter
    ) as node:
        invite = str(node.wait_for("ready")["invite"])
        away = ("--peer", invite, "--data-dir", str(tmp_path / "away"))
        done = desk.ok("halt", "publish", "--key", "cy.key", "--state", "c1", "--json", *away)
        published = last(done, "published")
        assert (published["peers"], published["acknowledged"]) == (1, 1)
        assert node.wait_for("halted")["seq"] == published["seq"]
        desk.ok("resume", "propose", "--out", "proposal", *flags)
        desk.ok("resume", "sign", "proposal", "--key", "ann.key")
        assert "1 missing" in desk.refused(1, "resume", "publish", "proposal", *flags)
        desk.ok("resume", "sign", "proposal", "--key", "bob.key")
        desk.ok("resume", "publish", "proposal", *flags)
        node.wait_for("resumed")  # Which waits for the disk, as the command does not.
        assert desk.ok("halt", "status", "--json", *flags).records()[0]["halted"] == []
        desk.ok("halt", "publish", "--key", "ann.key", *flags)
        desk.ok("stop", *flags)
        assert "resume quorum" in desk.refused(3, "start", *flags)
    # Killed: what it had on disk is what counts now.
    status = desk.ok("halt", "status", "--json", *flags).records()[0]
    assert status["running"] is False
    assert [halt["key"] for halt in status["standing"]] == [desk.keys["ann"].id.hex()]
