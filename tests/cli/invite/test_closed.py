"""A closed swarm in processes of their own: who was invited asks, and who was not is sent away with
a reason."""

from __future__ import annotations

from pathlib import Path

from swarmllm.adapters.datadir import DataDir
from swarmllm.adapters.keyfile import load_or_create_key
from swarmllm.messages.membership import Membership, Pass
from swarmllm.wire.codec import encode
from swarmllm.wire.signed import sign_record
from tests.cli.command import RunningNode, run

CLOSED = "it hung up: its swarm is closed, and we have shown no membership that counts"
QUIET = ("--port", "0", "--model", "none", "--no-api")


def old_pass(founder: RunningNode, swarm: str, folder: Path) -> Path:
    """A membership of the node in `folder`, by the root key, that ran out long ago."""
    folder.mkdir(mode=0o700)
    root = load_or_create_key(DataDir(founder.data).key_file)
    member = load_or_create_key(DataDir(folder).key_file).public_key
    record = Membership(bytes.fromhex(swarm), member, 1, 1, 2)
    path = folder.with_suffix(".pass")
    path.write_bytes(encode(Pass(sign_record(record, [(root.public_key, root.sign)]), b"")))
    return path


def test_members_answer_each_other_and_strangers_are_sent_away(tmp_path: Path, model: Path) -> None:
    serves = ("--port", "0", "--model", str(model), "--context", "256", "--no-api", "--closed")
    with RunningNode(tmp_path, tmp_path / "founder", *serves) as founder:
        address = founder.wait_for("ready")["invite"]
        (invite,) = run(tmp_path, "invite", "--json", "--data-dir", str(founder.data)).records()
        assert (invite["closed"], invite["uses"]) == (True, 1)
        late = tmp_path / "late"
        own = old_pass(founder, invite["swarm_id"], late)
        known = ("--closed", "--membership", str(own), "--charter", invite["swarm_id"])
        with (
            RunningNode(tmp_path, tmp_path / "stranger", "--peer", address, *QUIET) as stranger,
            RunningNode(tmp_path, late, "--peer", address, *known, *QUIET) as member_once,
            RunningNode(tmp_path, tmp_path / "friend", invite["line"], *QUIET) as friend,
        ):
            friend.wait_for("expert_found")
            asked = ("generate", "abc", "--max-tokens", "3", "--json", "--data-dir")
            end = run(tmp_path, *asked, str(friend.data)).records()[-1]
            assert (end["event"], end["reason"]) == ("end", "length")
            assert stranger.wait_for("peer_lost")["reason"] == CLOSED
            assert member_once.wait_for("ready")
            shown = run(tmp_path, "status", "--json", "--data-dir", str(late)).records()[0]
            assert "its membership has run out" in shown["troubles"]
            own = shown["membership"]
            assert (own["ends_ms"], own["may_invite"]) == (0, False)
        heard = {r["peer"] for r in founder.records if r["event"] == "peer_found"}
        assert heard == {friend.wait_for("ready")["peer"]}
        for outsider in (stranger, member_once):
            assert outsider.found("expert_found") is None
