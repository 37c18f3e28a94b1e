"""A charter names its terms of governance by their digest; they lie in a file beside it."""

from __future__ import annotations

import pytest

from swarmllm.cli.operators.charter_terms import hand_over_terms
from swarmllm.cli.settings import config_of
from tests.cli.governance.conftest import ROLES
from tests.cli.governance.governed_node import GovernedNode
from tests.cli.operators.conftest import Desk

CREATE = ("charter", "create", *ROLES, "--halt", "ann.pub", "--out", "new")


def test_what_is_not_said_is_as_in_the_design_and_shown(desk: Desk) -> None:
    desk.ok(*CREATE)
    assert not (desk.folder / "new.terms").exists()
    record = desk.ok("charter", "show", "new", "--json").records()[0]
    terms = record["governance"]
    assert (terms["minor_votes"], terms["review_h"], terms["canary_s"]) == (2, 24, 3_600)
    assert terms["phase_experts"] == [0, 280, 1_000, 5_000]
    assert terms["default"]
    said = desk.ok("charter", "show", "new").out
    assert "2 of 3 votes, then 10 of 1000 nodes try it for 3600 s" in said
    assert "2 of 3 votes and 24 h of review" in said


def test_what_is_said_is_in_the_file_beside_it(desk: Desk) -> None:
    given = ("--agent", "gus.pub", "--review-hours", "48", "--phase-experts", "0,5,6,7")
    more = ("--bounds", "router.hedging_extra=0..9", "--value", "router.wait_cost=1500")
    desk.ok(*CREATE, *given, *more, "--unattended")
    terms = desk.ok("charter", "show", "new", "--json").records()[0]["governance"]
    assert terms["agent"] == [desk.keys["gus"].public_key.hex()]
    assert (terms["review_h"], terms["minor_votes"], terms["unattended"]) == (48, 2, True)
    assert terms["phase_experts"] == [0, 5, 6, 7]
    assert terms["bounds"] == {"router.hedging_extra": [0, 9]}
    assert terms["values"] == {"router.wait_cost": 1500}


def test_a_rotation_keeps_the_terms_and_changes_what_is_named(desk: Desk) -> None:
    flags = ("--state", "c1")
    desk.ok("charter", "rotate", "c1", "--review-hours", "12", "--out", "c2", *flags)
    terms = desk.ok("charter", "show", "c2", "--json").records()[-1]["governance"]
    assert (terms["review_h"], terms["phase"]) == (12, 1)
    assert terms["agent"] == [desk.keys["gus"].public_key.hex()]
    refused = desk.refused(2, "charter", "rotate", "c1", "--out", "c3", *flags)
    assert "nothing would change" in refused


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--minor-votes", "4"), 2, "4 votes for a minor change are more than"),
        (("--agent", "gus.pub", "--agent", "gus.key"), 2, "are the same key"),
        (("--agent", "nobody"), 2, "'nobody' is neither a public key"),
        (("--phase-experts", "1,2"), 2, "is not 4 numbers"),
        (("--bounds", "router.hedging_extra"), 2, "is not of the form KEY=LOW..HIGH"),
        (("--bounds", "router.hedging_extra=3..1"), 2, "cannot be bounded by 3 and 1"),
        (("--bounds", "router.hedging_extra=0..99"), 2, "cannot be bounded by 0 and 99"),
        (("--value", "router.hedging_extra=99"), 1, "router.hedging_extra cannot be 99"),
        (("--value", "router.colour=9"), 2, "no setting 'router.colour'"),
    ],
)
def test_terms_that_make_no_sense_are_refused_and_nothing_is_written(
    desk: Desk, words: tuple[str, ...], code: int, sentence: str
) -> None:
    assert sentence in desk.refused(code, *CREATE, *words)
    assert not (desk.folder / "new").exists()
    assert not (desk.folder / "new.terms").exists()


def test_a_changed_or_foreign_file_of_terms_is_told(desk: Desk) -> None:
    beside = desk.folder / "c1.terms"
    text = beside.read_text()
    beside.write_text(text.replace("Review-Hours: 24", "Review-Hours: 1"))
    said = desk.ok("charter", "show", "c1")
    assert "readable lines do not belong" in said.out.replace("\n", " ")
    desk.ok(*CREATE, "--review-hours", "2")
    beside.write_text((desk.folder / "new.terms").read_text())
    done = desk.ok("charter", "show", "c1", "--json")
    assert done.records()[0]["governance"] is None
    assert "other terms of governance than charter 1 names" in done.sentence()
    beside.write_text("nonsense")
    assert "holds no terms of governance" in desk.ok("charter", "show", "c1", "--json").sentence()


def test_a_node_that_waits_for_its_terms_gets_them_with_the_charter(desk: Desk) -> None:
    charter, beside = desk.folder / "c1", desk.folder / "c1.terms"
    text = beside.read_text()
    beside.unlink()
    with GovernedNode(desk.folder / "data", charter) as node:
        config = config_of(data_dir=str(node.folder))
        hand_over_terms(config, [charter], as_json=False)
        assert node.machine.registry.needs_terms
        beside.write_text(text)
        hand_over_terms(config, [charter], as_json=False)
        assert not node.machine.registry.needs_terms
        assert node.machine.phase == 1


def test_no_file_of_terms_is_overwritten(desk: Desk) -> None:
    (desk.folder / "new.terms").write_text("precious")
    assert "is not overwritten" in desk.refused(1, *CREATE, "--review-hours", "2")
    assert (desk.folder / "new.terms").read_text() == "precious"
