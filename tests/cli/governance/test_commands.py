"""What voters type: proposals, votes, withdrawals, phases and tiers, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from swarmllm.core.settings.table import EXTRA
from tests.cli.governance.governed_node import GovernedNode, write_report
from tests.cli.operators.conftest import Desk

SET = ("propose", "set", "router.hedging_extra", "3", "--why", "honest")


def propose(desk: Desk, node: GovernedNode, *words: str, by: str = "ann") -> dict[str, Any]:
    """The record of a proposal that was taken."""
    done = desk.ok(*words, "--key", f"{by}.key", "--json", *node.flags)
    return done.records()[-1]


def minor(desk: Desk, node: GovernedNode, value: int = 3, by: str = "ann") -> str:
    words = ("propose", "set", "router.hedging_extra", str(value), "--why", "honest")
    write_report(node, desk.folder / "report", value)
    return str(propose(desk, node, *words, "--evidence", "report", by=by)["id"])


def vote(desk: Desk, node: GovernedNode, id: str, by: str, say: str = "yes") -> None:
    desk.ok("vote", id[:8], say, "--key", f"{by}.key", *node.flags)


def shown(desk: Desk, node: GovernedNode, id: str) -> dict[str, Any]:
    return desk.ok("proposals", "show", id[:12], "--json", *node.flags).records()[0]


# --- proposals and votes --------------------------------------------------------------------------


def test_a_minor_change_takes_a_report_and_two_of_three_votes(
    desk: Desk, node: GovernedNode
) -> None:
    id = minor(desk, node)
    vote(desk, node, id, "ann")
    assert shown(desk, node, id)["state"] == "open"
    assert node.settings.get(EXTRA) == EXTRA.default
    vote(desk, node, id, "bob")
    assert shown(desk, node, id)["state"] == "enacted"
    assert node.settings.get(EXTRA) == 3
    said = desk.ok("proposals", *node.flags).out
    assert id[:16] in said
    assert "enacted" in said
    assert "honest" in desk.ok("proposals", "show", id[:6], *node.flags).out


def test_without_a_report_the_same_is_a_major_change_and_the_author_is_told(
    desk: Desk, node: GovernedNode
) -> None:
    done = desk.ok(*SET, "--tier", "3", "--key", "ann.key", *node.flags)
    assert "deploy-major, because no validation report" in done.err
    assert "24 h of review" in done.err
    (one,) = desk.ok("proposals", "--json", *node.flags).records()[0]["proposals"]
    assert (one["tier"], one["asked"], one["escalated"]) == (4, 3, True)
    for voter in ("ann", "bob", "cy"):
        vote(desk, node, one["id"], voter)
    assert "review" in shown(desk, node, one["id"])["waits"]
    assert node.settings.get(EXTRA) == EXTRA.default
    node.wait(24 * 3_600)
    assert node.settings.get(EXTRA) == 3


def test_a_suggestion_is_shown_and_cannot_be_voted_on(desk: Desk, node: GovernedNode) -> None:
    id = str(propose(desk, node, *SET, "--suggest", by="gus")["id"])
    assert shown(desk, node, id)["needs"] is None
    refused = desk.refused(2, "vote", id, "yes", "--key", "ann.key", *node.flags)
    assert refused == f"proposal {id[:16]} is a suggestion; nobody votes on it"


@pytest.mark.parametrize(
    ("words", "text", "tier"),
    [
        (("bounds", "router.hedging_extra", "0", "9"), "from 0 to 9", 4),
        (("phase", "0"), "go back to phase 0", 3),
        (("feature", "agent", "on", "--suggest"), "switch the feature agent on", 1),
        (("model", "hf:a/b:Q4", "ab" * 32), "make hf:a/b:Q4 (abab", 4),
    ],
)
def test_every_kind_of_action_can_be_proposed_and_has_its_own_tier(
    desk: Desk, node: GovernedNode, words: tuple[str, ...], text: str, tier: int
) -> None:
    made = propose(desk, node, "propose", *words, "--why", "w")
    assert text in made["text"]
    assert made["tier"] == tier


def test_a_change_is_reverted_by_its_id(desk: Desk, node: GovernedNode) -> None:
    id = minor(desk, node)
    for voter in ("ann", "bob"):
        vote(desk, node, id, voter)
    revert = propose(desk, node, "propose", "revert", id[:8], "--why", "worse")
    for voter in ("ann", "cy"):
        vote(desk, node, str(revert["id"]), voter)
    assert node.settings.get(EXTRA) == EXTRA.default
    assert "a revert took it back" in desk.ok("phase", *node.flags).out


def test_its_author_withdraws_a_proposal(desk: Desk, node: GovernedNode) -> None:
    id = minor(desk, node)
    desk.ok("withdraw", id[:8], "--key", "ann.key", *node.flags)
    assert shown(desk, node, id)["state"] == "withdrawn"
    refused = desk.refused(2, "vote", id, "yes", "--key", "bob.key", *node.flags)
    assert refused == f"proposal {id[:16]} was withdrawn"


def test_in_a_private_swarm_the_node_signs_and_nothing_waits(desk: Desk) -> None:
    with GovernedNode(desk.folder / "alone", None) as node:
        made = desk.ok(*SET, "--json", *node.flags).records()[-1]
        assert made["signed_by"] == "this node"
        desk.ok("vote", made["id"][:8], "yes", *node.flags)
        assert node.settings.get(EXTRA) == 3


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("propose", "set", "router.colour", "3", "--why", "w"), 2, "no setting 'router.colour'"),
        (("propose", "set", "router.hedging_extra", "x", "--why", "w"), 2, "cannot be 'x'"),
        (("propose", "set", "router.hedging_extra", "65", "--why", "w"), 2, "from 0 to 64"),
        (("propose", "set", "router.hedging_extra", "9" * 40, "--why", "w"), 2, "cannot be"),
        (("propose", "set", "router.hedging_extra", "3"), 2, "say it with --why"),
        (("propose", "set", "router.hedging_extra", "3", "--why", "é" * 257), 2, "has 514 bytes"),
        ((*SET, "--evidence", "nothing"), 1, "cannot read the report"),
        (("propose", "bounds", "router.hedging_extra", "3", "2", "--why", "w"), 2, "hold no value"),
        (("propose", "phase", "5", "--why", "w"), 2, "there is no phase 5"),
        (("propose", "phase", "1", "--why", "w"), 2, "phase 1 is in force already"),
        (("propose", "phase", "2", "--why", "w"), 2, "phase 2 needs 280 experts"),
        (("propose", "feature", "agent", "maybe", "--why", "w"), 2, "on or off, not 'maybe'"),
        (("propose", "feature", "x" * 129, "on", "--why", "w"), 2, "has 129 bytes"),
        (("propose", "feature", "agent", "on", "--why", "w"), 2, "no feature that votes could"),
        (("propose", "model", "hf:a/b:Q4", "12", "--why", "w"), 2, "'12' is no SHA-256"),
        (("propose", "model", "./m.gguf", "12", "--why", "w"), 2, "'./m.gguf' is not a model that"),
        (("propose", "model", "hf:a/b", "12", "--why", "w"), 2, "'hf:a/b' is not hf:OWNER"),
        (("propose", "revert", "abc", "--why", "w"), 2, "no proposal 'abc'"),
        (("vote", "abc", "yes"), 2, "no proposal 'abc'"),
        (("vote", "x y", "yes"), 2, "'x y' is no id of a proposal"),
        (("vote", "a" * 65, "yes"), 2, "is no id of a proposal"),
        (("vote", "abc", "maybe"), 2, "a vote is yes or no, not 'maybe'"),
        (("withdraw", "abc"), 2, "no proposal 'abc'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_that_names_it(
    desk: Desk, node: GovernedNode, words: tuple[str, ...], code: int, sentence: str
) -> None:
    assert sentence in desk.refused(code, *words, "--key", "ann.key", *node.flags)
    assert desk.ok("proposals", "--json", *node.flags).records()[0]["proposals"] == []


def test_whoever_has_no_say_is_told_before_typing_a_passphrase(
    desk: Desk, node: GovernedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = minor(desk, node)
    monkeypatch.setenv("SWARMLLM_PASSPHRASE_FILE", "not-there")
    eve = desk.keys["eve"].id.hex()
    refused = desk.refused(2, *SET, "--key", "eve.key", *node.flags)
    assert refused.startswith(f"key {eve} is neither a voter nor an agent")
    assert eve in desk.refused(2, "vote", id, "yes", "--key", "eve.key", *node.flags)
    assert eve in desk.refused(2, "withdraw", id, "--key", "eve.key", *node.flags)
    gus = desk.refused(2, "vote", id, "yes", "--key", "gus.key", *node.flags)
    assert f"key {desk.keys['gus'].id.hex()} is no voter" in gus


def test_votes_are_final(desk: Desk, node: GovernedNode) -> None:
    id = minor(desk, node)
    vote(desk, node, id, "ann", "no")
    refused = desk.refused(2, "vote", id, "yes", "--key", "ann.key", *node.flags)
    assert "has voted on proposal" in refused
    assert shown(desk, node, id)["no"] == [desk.keys["ann"].id.hex()]


def test_a_fifth_open_proposal_of_one_author_is_refused(desk: Desk, node: GovernedNode) -> None:
    for value in (0, 2, 3, 2):
        minor(desk, node, value)
    words = ("propose", "set", "router.hedging_extra", "4", "--why", "w", "--key", "ann.key")
    assert "has 4 open proposals already" in desk.refused(2, *words, *node.flags)
    minor(desk, node, 4, by="bob")


def test_a_halted_node_signs_nothing(desk: Desk, node: GovernedNode) -> None:
    id = minor(desk, node)
    node.switch.halted = ("halted by key 0038d5ac (reason: maintenance)",)
    for words in (SET, ("vote", id, "yes")):
        refused = desk.refused(3, *words, "--key", "ann.key", *node.flags)
        assert refused == "governance is suspended: halted by key 0038d5ac (reason: maintenance)"
    assert "Nothing is put into force here now: halted" in desk.ok("tiers", *node.flags).out


@pytest.mark.parametrize("mood", ["lies", "old"])
def test_nothing_is_signed_on_a_nodes_word(desk: Desk, node: GovernedNode, mood: str) -> None:
    node.mood = mood
    refused = desk.refused(1, *SET, "--key", "ann.key", *node.flags)
    assert ("drafted another proposal" if mood == "lies" else "does not understand") in refused
    node.mood = ""
    assert desk.ok("proposals", "--json", *node.flags).records()[0]["proposals"] == []


@pytest.mark.parametrize(
    "words",
    [SET, ("vote", "ab", "yes"), ("proposals",), ("proposals", "show", "ab"), ("phase",)],
    ids=str,
)
def test_without_a_node_a_sentence_says_how_to_start_one(
    desk: Desk, words: tuple[str, ...]
) -> None:
    refused = desk.refused(1, *words, "--data-dir", "nowhere")
    assert "no node runs on" in refused
    assert "swarmllm join" in refused


def test_a_wrong_passphrase_and_no_key_file_are_told(
    desk: Desk, node: GovernedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot read the key file" in desk.refused(1, *SET, "--key", "no.key", *node.flags)
    (desk.folder / "pass").write_text("something else\n")
    assert "does not open the key" in desk.refused(1, *SET, "--key", "ann.key", *node.flags)


def test_a_node_that_has_just_woken_takes_what_was_signed_a_moment_later(
    desk: Desk, node: GovernedNode
) -> None:
    """It takes no records while it asks for orders that it may have missed."""
    act, asleep = node.act, [True, True]
    node.act = lambda event: None if asleep and asleep.pop() else act(event)  # type: ignore[method-assign]
    id = minor(desk, node)
    assert asleep == []
    assert shown(desk, node, id)["state"] == "open"


FULL = "cannot write the store: the disk is full; free some space and try again"


def test_what_the_node_could_not_write_down_is_said_and_counts_all_the_same(
    desk: Desk, node: GovernedNode
) -> None:
    """It has been passed on by then, so it is taken; whoever signed it knows that it could be
    lost."""
    id = minor(desk, node)
    node.disk_fault = FULL
    for words in (("vote", id[:8], "yes"), SET):
        refused = desk.refused(1, *words, "--key", "ann.key", "--json", *node.flags)
        assert "keeps trying to write it down" in refused
        assert refused.endswith(FULL)
    assert shown(desk, node, id)["yes"] == [desk.keys["ann"].id.hex()]
    node.disk_fault = ""
    node.wait(2.0)
    assert "votes are final" in desk.refused(
        2, "vote", id[:8], "no", "--key", "ann.key", *node.flags
    )
    vote(desk, node, id, "bob")
    assert node.settings.get(EXTRA) == 3


def test_files_that_the_node_could_not_write_down_are_told_too(
    desk: Desk, node: GovernedNode
) -> None:
    id = minor(desk, node)
    desk.ok("proposals", "export", "--out", "all", *node.flags)
    with GovernedNode(desk.folder / "other", desk.folder / "c1") as other:
        other.disk_fault = FULL
        done = desk.run("proposals", "import", "all", "--json", *other.flags)
        assert (done.code, done.records()[-1]["durable"]) == (1, False)
        assert done.sentence().endswith(FULL)
        assert shown(desk, other, id)["state"] == "open"


def test_a_voter_whose_halt_key_was_taken_out_is_told_that_he_has_no_vote(desk: Desk) -> None:
    """HALT-6 retires a key for good; the electorate that a majority is counted from stays."""
    rotate = ("charter", "rotate", "c1", "--halt", "bob.pub", "--state", "c1", "--out", "c2")
    warned = desk.ok(*rotate).err
    ann = desk.keys["ann"].id.hex()
    assert f"Key {ann} halts no more and is retired by that" in warned
    desk.ok("charter", "sign", "c2", "--key", "bob.key", "--key", "cy.key")
    with GovernedNode(desk.folder / "data", desk.folder / "c2") as node:
        assert "3, of whom 2 can vote" in desk.ok("tiers", *node.flags).out
        id = str(propose(desk, node, *SET, by="bob")["id"])
        for words in (("vote", id[:8], "yes"), SET):
            refused = desk.refused(2, *words, "--key", "ann.key", *node.flags)
            assert refused.startswith(f"key {ann} was taken out as a halt key, for good")
        vote(desk, node, id, "bob")
        assert shown(desk, node, id)["state"] == "open"
        vote(desk, node, id, "cy")
        assert shown(desk, node, id)["state"] == "passed"


# --- phase and tiers ------------------------------------------------------------------------------


def test_phases_say_what_is_missing_and_are_closed_by_a_minor_vote(
    desk: Desk, node: GovernedNode
) -> None:
    record = desk.ok("phase", "--json", *node.flags).records()[0]
    assert record["phase"] == 1
    missing = [one["missing"] for one in record["phases"]]
    assert missing[1] == "phase 2 needs 280 experts, and this node knows 0"
    id = str(propose(desk, node, "phase", "propose", "0", "--why", "enough")["id"])
    for voter in ("ann", "bob"):
        vote(desk, node, id, voter)
    assert desk.ok("phase", "--json", *node.flags).records()[0]["phase"] == 0


def test_tiers_say_what_each_needs_here_and_now(desk: Desk, node: GovernedNode) -> None:
    record = desk.ok("tiers", "--json", *node.flags).records()[0]
    tiers = {one["name"]: one for one in record["tiers"]}
    assert tiers["deploy-minor"]["gate"] == "a validation report, and 2 of 3 voters"
    assert "24 h of review" in tiers["deploy-major"]["gate"]
    assert tiers["suggest"]["agent"] == "open to it in phase 1"
    assert tiers["deploy-minor"]["agent"] == "closed to it in phase 1; open from phase 3 on"
    assert {one["missing"] for one in record["tiers"]} == {""}
    said = desk.ok("tiers", *node.flags).out
    assert "deploy-major" in said
    assert "possible" in said


def test_a_charter_without_voters_says_so(desk: Desk) -> None:
    desk.charter("quiet")
    with GovernedNode(desk.folder / "quiet-node", desk.folder / "quiet") as node:
        said = desk.ok("tiers", *node.flags).out
        assert "charter 1 has no voters" in said
        assert "charter 1 has no voters" in desk.refused(2, *SET, *node.flags)


def test_a_charter_whose_terms_have_not_come_says_so(desk: Desk) -> None:
    (desk.folder / "c1.terms").unlink()
    with GovernedNode(desk.folder / "data2", desk.folder / "c1") as node:
        said = desk.ok("phase", *node.flags).out
        assert "terms of governance that charter 1 names have not come yet" in said
