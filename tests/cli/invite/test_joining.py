"""A friend joins with one line, in processes of their own: asks, is in the same swarm, and is there
again at the next start without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cli.command import RunningNode, run


def status(node: RunningNode) -> dict[str, Any]:
    (found,) = run(node.home, "halt", "status", "--json", "--data-dir", str(node.data)).records()
    return found


def test_a_friend_joins_with_one_line_and_stays_in_the_swarm(
    node: RunningNode, tmp_path: Path
) -> None:
    (record,) = run(node.home, "invite", "--json", "--data-dir", str(node.data)).records()
    assert record["remarks"] == ["only programs on this machine can reach the addresses in it"]
    flags = ("--port", "0", "--model", "none")
    with RunningNode(tmp_path, tmp_path / "data", record["line"], *flags) as friend:
        friend.wait_for("expert_found")
        assert status(friend)["swarm"] == status(node)["swarm"] == record["swarm_id"]
        asked = ("generate", "abc", "--max-tokens", "3", "--json", "--data-dir", str(friend.data))
        end = run(tmp_path, *asked).records()[-1]
        assert (end["event"], end["reason"]) == ("end", "length")
        friend.process.terminate()
        assert friend.ends() == 0
    with RunningNode(tmp_path, tmp_path / "data", *flags) as again:
        again.wait_for("expert_found")
        assert again.wait_for("starting")["swarm"] == record["swarm"]
