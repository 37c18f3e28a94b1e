"""`swarmllm validate`, proposals with its report, and voters who check them; over a node's socket,
with simulations that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmllm.cli.validation import running
from swarmllm.core.ledger.entry import LedgerKind
from swarmllm.core.validation.report import Comparison, read_report
from tests.cli.governance.conftest import cheap, desk, node
from tests.cli.governance.governed_node import GovernedNode, write_report
from tests.cli.operators.conftest import Desk
from tests.core.validation.cases import NOTHING, WORSE
from tests.sims.validation.made_up import by_extra, made_up

__all__ = ["cheap", "desk", "node"]

FILE = "validation-router.hedging_extra-0.json"
PROPOSE = ("propose", "set", "router.hedging_extra", "0", "--why", "honest", "--key", "ann.key")


@pytest.fixture(autouse=True)
def made_up_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PLAY", made_up(by_extra))


def test_a_change_is_validated_proposed_and_verified_by_a_voter(
    desk: Desk, node: GovernedNode
) -> None:
    done = desk.ok("validate", "set", "router.hedging_extra", "0", *node.flags)
    assert "router.hedging_extra: 1 -> 0 (experts)" in done.out
    assert "time from one token to the next" in done.out
    assert "better" in done.out
    assert "nothing was replayed" in done.out
    report = read_report((desk.folder / FILE).read_bytes())
    proposed = desk.ok(*PROPOSE, "--evidence", FILE, "--json", *node.flags).records()[-1]
    assert proposed["tier_name"] == "deploy-minor"
    (entry,) = node.entered
    assert entry.entry.kind is LedgerKind.VALIDATION
    words = ("proposals", "verify", proposed["id"][:8], "--report", FILE, *node.flags)
    said = desk.ok(*words, "--again").out
    assert "repeated here it is the same to the byte" in said
    (record,) = desk.ok(*words, "--json").records()
    assert record["digest"] == report.digest.hex()
    assert record["repeated"] is None
    assert len(node.entered) == 3


def test_validate_and_propose_in_one(desk: Desk, node: GovernedNode) -> None:
    records = desk.ok(*PROPOSE, "--validate", "--json", *node.flags).records()
    assert [record["event"] for record in records] == ["validated", "proposed"]
    assert records[0]["verdict"] == "better"
    assert records[1]["tier_name"] == "deploy-minor"


def test_what_is_not_better_is_shown_and_not_proposed(desk: Desk, node: GovernedNode) -> None:
    words = ("propose", "set", "router.hedging_extra", "3", "--why", "w", "--key", "ann.key")
    done = desk.run(*words, "--validate", *node.flags)
    assert done.code == 2
    assert "does not say that the change is better: worse" in done.err
    assert "less is better): worse" in done.out
    assert not desk.ok("proposals", "--json", *node.flags).records()[0]["proposals"]


def test_the_same_again_is_not_simulated_again(
    desk: Desk, node: GovernedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("validate", "set", "router.hedging_extra", "0", *node.flags)
    desk.ok(*words)
    first = (desk.folder / FILE).read_bytes()
    monkeypatch.setattr(running, "PLAY", None)
    assert "was validated before" in desk.ok(*words).err
    assert (desk.folder / FILE).read_bytes() == first


@pytest.mark.parametrize(
    ("result", "words"),
    [(WORSE, "better: worse"), (NOTHING, "better: no difference")],
)
def test_a_report_that_is_no_evidence_is_refused_in_a_sentence(
    desk: Desk, node: GovernedNode, result: Comparison, words: str
) -> None:
    write_report(node, desk.folder / "report", 0, result)
    assert words in desk.refused(2, *PROPOSE, "--evidence", "report", *node.flags)


def test_a_report_on_something_else_and_what_is_no_report_are_refused(
    desk: Desk, node: GovernedNode
) -> None:
    write_report(node, desk.folder / "report", 3)
    sentence = desk.refused(2, *PROPOSE, "--evidence", "report", *node.flags)
    assert "the report is about router.hedging_extra at 3" in sentence
    for junk, words in ((b"better by 3 %\n", "not JSON"), (b"{}", "validate` writes them")):
        (desk.folder / "junk").write_bytes(junk)
        assert words in desk.refused(2, *PROPOSE, "--evidence", "junk", *node.flags)
    spoilt = (desk.folder / "report").read_bytes().replace(b'"better"', b'"worse"')
    (desk.folder / "junk").write_bytes(spoilt)
    assert "was changed after it was written" in desk.refused(
        2, *PROPOSE, "--evidence", "junk", *node.flags
    )


def test_a_voter_is_told_of_another_file_and_of_figures_that_were_made_up(
    desk: Desk, node: GovernedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ok("validate", "set", "router.hedging_extra", "0", *node.flags)
    id = desk.ok(*PROPOSE, "--evidence", FILE, "--json", *node.flags).records()[-1]["id"]
    write_report(node, desk.folder / "other", 0)
    words = ("proposals", "verify", id[:8], *node.flags, "--report")
    assert "is not the report that proposal" in desk.refused(1, *words, "other")
    monkeypatch.setattr(running, "PLAY", made_up(lambda _: 1.0))
    done = desk.run(*words, FILE, "--again")
    assert done.code == 1
    assert "comes to something else" in done.err
    old = json.loads((desk.folder / FILE).read_bytes()) | {"code": "0" * 16}
    monkeypatch.setattr(running, "code_version", lambda: "f" * 16)
    assert old["code"] != "f" * 16
    assert "another version of the simulator" in desk.run(*words, FILE, "--again").err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("router.colour", "3"), 2, "no setting 'router.colour'"),
        (("router.hedging_extra", "x"), 2, "cannot be 'x'"),
        (("router.hedging_extra", "1"), 2, "is 1 already"),
        (("router.hedging_extra", "0", "--pairs", "9"), 2, "9 pairs are not looked at"),
        (("router.hedging_extra", "0", "--out", "c1"), 1, "is there already"),
    ],
)
def test_bad_input_is_one_sentence(
    desk: Desk, node: GovernedNode, words: tuple[str, ...], code: int, sentence: str
) -> None:
    assert sentence in desk.refused(code, "validate", "set", *words, *node.flags)


def test_a_suggestion_may_name_any_report(desk: Desk, node: GovernedNode) -> None:
    Path("thoughts").write_text("I think so\n")
    desk.ok(*PROPOSE, "--suggest", "--evidence", "thoughts", *node.flags)


def test_one_report_is_enough(desk: Desk, node: GovernedNode) -> None:
    sentence = desk.refused(2, *PROPOSE, "--validate", "--evidence", "x", *node.flags)
    assert "give one" in sentence
