"""Signing where no node runs: proposals are carried there in a file, looked at, signed, and carried
back; nobody signs, and no node takes, what does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.adapters.governance_file import (
    FILE_BYTES_MAX,
    GovernanceFile,
    read_governance,
    render_governance,
)
from swarmllm.core.settings.table import EXTRA
from swarmllm.errors import LocalError
from tests.cli.command import RunningNode
from tests.cli.governance.governed_node import GovernedNode
from tests.cli.governance.test_commands import SET, minor, shown, vote
from tests.cli.operators.conftest import Desk

AWAY = ("--state", "today", "--data-dir", "nowhere")


@pytest.fixture
def id(desk: Desk, node: GovernedNode) -> str:
    """A proposal of ann's, exported to the file `today`."""
    found = minor(desk, node)
    vote(desk, node, found, "ann")
    desk.ok("proposals", "export", "--out", "today", *node.flags)
    return found


def test_a_vote_is_signed_away_from_any_node_and_handed_in_later(
    desk: Desk, node: GovernedNode, id: str
) -> None:
    seen = desk.ok("proposals", "show", id[:8], "--json", *AWAY).records()[0]
    assert (seen["id"], seen["yes"]) == (id, [desk.keys["ann"].id.hex()])
    assert id[:16] in desk.ok("proposals", *AWAY).out
    done = desk.ok("vote", id[:8], "yes", "--key", "bob.key", "--out", "bobs", *AWAY)
    assert "router.hedging_extra to 3" in done.err
    assert "Written to" in done.err
    assert shown(desk, node, id)["state"] == "open"
    taken = desk.ok("proposals", "import", "bobs", *node.flags).err
    assert f"VOTE yes of key {desk.keys['bob'].id.hex()[:16]} on proposal {id[:16]}: taken" in taken
    assert node.settings.get(EXTRA) == 3
    again = desk.ok("proposals", "import", "bobs", "--json", *node.flags).records()[-1]
    assert {one["outcome"] for one in again["outcomes"]} == {"known"}


def test_proposals_and_withdrawals_are_signed_away_from_any_node_too(
    desk: Desk, node: GovernedNode, id: str
) -> None:
    made = desk.ok(*SET, "--key", "bob.key", "--out", "new", "--json", *AWAY).records()[-1]
    assert (made["peers"], made["same"]) == (0, None)
    assert Path(made["file"]).name == "new"
    desk.ok("proposals", "import", "new", *node.flags)
    assert shown(desk, node, made["id"])["author"] == desk.keys["bob"].id.hex()
    desk.ok("withdraw", id[:8], "--key", "ann.key", "--out", "gone", *AWAY)
    desk.ok("proposals", "import", "gone", *node.flags)
    assert shown(desk, node, id)["state"] == "withdrawn"


def test_a_running_node_writes_what_was_signed_to_a_file_as_well(
    desk: Desk, node: GovernedNode, id: str
) -> None:
    desk.ok("vote", id[:8], "no", "--key", "cy.key", "--out", "cys", *node.flags)
    assert shown(desk, node, id)["no"] == [desk.keys["cy"].id.hex()]
    with GovernedNode(desk.folder / "other", desk.folder / "c1") as other:
        desk.ok("proposals", "import", "cys", *other.flags)
        assert shown(desk, other, id)["no"] == [desk.keys["cy"].id.hex()]
        assert shown(desk, other, id)["yes"] == [desk.keys["ann"].id.hex()]


def test_some_proposals_are_exported_by_their_ids(desk: Desk, node: GovernedNode, id: str) -> None:
    other = minor(desk, node, 2, by="bob")
    done = desk.ok("proposals", "export", other[:8], "--out", "one", "--json", *node.flags)
    assert done.records()[0]["proposals"] == 1
    file = read_governance(desk.folder / "one")
    assert len(file.records) == 2, "its terms, and the proposal"
    assert "no proposal 'abcd'" in desk.refused(
        2, "proposals", "export", "abcd", "--out", "two", *node.flags
    )
    assert not (desk.folder / "two").exists()


REFUSED = (
    (("vote", "ID", "yes", "--key", "eve.key", "--out", "x"), 2, "is no voter of charter 1"),
    (("vote", "ID", "no", "--key", "ann.key", "--out", "x"), 2, "votes are final"),
    (("vote", "abc1234", "yes", "--key", "bob.key", "--out", "x"), 2, "no proposal 'abc1234'"),
    (("vote", "ID", "yes", "--key", "bob.key"), 2, "with --out FILE, or hand it to nodes with"),
    (("vote", "ID", "yes", "--out", "x"), 2, "name yours with --key"),
    (("vote", "ID", "yes", "--key", "bob.key", "--out", "today"), 1, "is not overwritten"),
    (("phase", "propose", "2", "--key", "bob.key", "--why", "w", "--out", "x"), 2, "a running"),
)


def test_what_would_be_refused_is_refused_on_paper_too_and_nothing_is_written(
    desk: Desk, id: str
) -> None:
    for words, code, sentence in REFUSED:
        given = [id[:8] if word == "ID" else word for word in words]
        assert sentence in desk.refused(code, *given, *AWAY), words
        assert not (desk.folder / "x").exists()


def test_a_halted_swarm_is_halted_on_paper_too(desk: Desk, node: GovernedNode, id: str) -> None:
    assert id
    desk.ok("halt", "publish", "--key", "ann.key", "--state", "c1", "--out", "halts")
    text = (desk.folder / "today").read_text()
    at = text.index("-----BEGIN SWARMLLM TERMS")
    (desk.folder / "today").write_text((desk.folder / "halts").read_text() + text[at:])
    words = ("vote", id[:8], "yes", "--key", "bob.key", "--out", "x")
    assert "governance is suspended" in desk.refused(3, *words, *AWAY)


def test_a_file_is_taken_whole_or_not_at_all(desk: Desk, node: GovernedNode, id: str) -> None:
    text = (desk.folder / "today").read_text()
    vote_at = text.rindex("-----BEGIN")
    spoilt = {
        "does not begin with": "x" + text,
        "is cut short": text[:-60],
        "readable lines do not belong": text.replace("Vote: yes", "Vote: no"),
        "not the proposal before it": text[: text.index("-----BEGIN SWARMLLM GOV")]
        + text[vote_at:],
        "larger than 16777216 bytes": "x" * (FILE_BYTES_MAX + 1),
        "is empty": "",
    }
    for sentence, changed in spoilt.items():
        (desk.folder / "bad").write_text(changed)
        words = ("proposals", "import", "bad", *node.flags)
        assert sentence in desk.refused(1, *words), sentence
    (desk.folder / "bad").write_bytes(text.replace("\n", "\r\n").encode()[:-2])
    desk.ok("proposals", "import", "bad", *node.flags)
    letters = text[vote_at:].split("\n\n")[1]
    (desk.folder / "bad").write_text(text.replace(letters[:8], letters[:7] + "!"))
    with pytest.raises(LocalError, match="no valid record 2 of governance"):
        read_governance(desk.folder / "bad")


def test_another_swarms_file_and_one_without_proposals_are_named(
    desk: Desk, node: GovernedNode, id: str
) -> None:
    assert id
    with GovernedNode(desk.folder / "alone", None) as alone:
        refused = desk.refused(1, "proposals", "import", "today", *alone.flags)
        assert refused.startswith("today has another charter 1 than swarm")
    (desk.folder / "c2").write_text((desk.folder / "c1").read_text())
    assert desk.refused(1, "proposals", "import", "c2", *node.flags) == (
        "c2 holds no proposals, so there is nothing to hand in"
    )


def test_a_forged_vote_in_a_file_is_named_and_counts_nothing(
    desk: Desk, node: GovernedNode, id: str
) -> None:
    """Its lines are in order, so only the signature tells."""
    file = read_governance(desk.folder / "today")
    proposal, vote_record = file.cases[0]
    forged = vote_record[:-1] + bytes((vote_record[-1] ^ 1,))
    bad = GovernanceFile(file.halts, file.terms, ((proposal, forged),))
    (desk.folder / "bad").write_text(render_governance(bad), encoding="latin-1")
    refused = desk.refused(1, "proposals", "import", "bad", *node.flags)
    assert "bad has a record that does not count: " in refused
    assert shown(desk, node, id)["yes"] == [desk.keys["ann"].id.hex()]


@pytest.mark.slow
def test_through_a_peer_without_a_node_of_ones_own(desk: Desk, tmp_path: Path) -> None:
    """A voter needs a key, the charter and an address."""
    flags = ("--data-dir", str(tmp_path / "data"))
    charter = ("--charter", str(tmp_path / "c1"))
    with RunningNode(
        tmp_path / "home", tmp_path / "data", "--port", "0", "--model", "none", *charter
    ) as node:
        invite = str(node.wait_for("ready")["invite"])
        away = ("--peer", invite, "--state", "c1", "--data-dir", str(tmp_path / "away"))
        words = (*SET, "--evidence", "report", "--key", "ann.key", "--json")
        made = desk.ok(*words, *away).records()[-1]
        assert (made["peers"], made["same"]) == (1, 1)
        desk.ok("vote", made["id"][:8], "yes", "--key", "ann.key", *away)
        done = desk.ok("vote", made["id"][:8], "yes", "--key", "bob.key", *away)
        assert "1 of 1 connected peer has it." in done.err
        one = desk.ok("proposals", "show", made["id"], "--json", *flags).records()[0]
        assert one["state"] == "enacted"
        desk.ok("proposals", "export", "--out", "all", *away[:2], *flags)
        assert len(read_governance(desk.folder / "all").cases[0]) == 3
