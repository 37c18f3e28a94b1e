"""A charter is what enough people signed, and each one follows the one before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swarmllm.adapters.record_files import read_sheets, render
from tests.cli.operators.conftest import Desk
from tests.cli.operators.fake_node import FakeNode
from tests.cli.operators.support import TERMS, resume

# --- the charter ----------------------------------------------------------------------------------


def test_a_charter_holds_once_the_threshold_has_signed(desk: Desk) -> None:
    desk.ok(
        "charter",
        "create",
        *(f"--{role}=ann.pub" for role in ("root", "halt", "resume")),
        "--root",
        "bob.key",
        "--root",
        desk.keys["cy"].public_key.hex(),
        "--resume",
        "bob.pub",
        "--expires",
        "2030-12-31",
        "--out",
        "new",
    )
    unsigned = desk.run("charter", "verify", "new")
    assert unsigned.code == 1
    assert "the charter does not hold" in unsigned.err
    first = desk.ok("charter", "sign", "new", "--key", "ann.key", "--json")
    (signatures,) = first.records()[0]["signatures"]
    assert (signatures["missing"], signatures["needed"]) == (1, 2)
    done = desk.run("charter", "verify", "new", "--json")
    assert done.code == 1
    assert done.records()[0]["missing"] == 1
    short = desk.run("charter", "verify", "new").out
    assert short.startswith("charter 1: does not hold yet, since signatures are missing\n")
    assert "1 of 2 signatures of the root keys" in short
    signed = desk.ok("charter", "sign", "new", "--key", "cy.key")
    assert len(signed.out.splitlines()) == 4  # Its name, its swarm, its keys, its signatures.
    assert "root 3 (2 together), halt 1, resume 2 (2 together)" in signed.out
    assert "charter show new" in signed.err
    assert desk.ok("charter", "verify", "new", "--json").records()[0]["ok"] is True
    shown = desk.ok("charter", "show", "new", "--json").records()[0]
    assert shown["expires"] == 1_924_905_600
    assert shown["swarm"] == shown["hash"]


def test_copies_signed_on_several_machines_count_together(desk: Desk) -> None:
    desk.ok(
        "charter",
        "create",
        *(f"--{r}={n}.pub" for r in ("root", "halt", "resume") for n in ("ann", "bob")),
        "--out",
        "new",
    )
    shutil.copy("new", "copy")
    desk.ok("charter", "sign", "new", "--key", "ann.key")
    desk.ok("charter", "sign", "copy", "--key", "bob.key")
    assert desk.run("charter", "verify", "copy").code == 1
    desk.ok("charter", "verify", "new", "copy")
    desk.ok("charter", "sign", "new", "--merge", "copy")
    desk.ok("charter", "verify", "new")


def test_signing_twice_changes_nothing(desk: Desk) -> None:
    before = Path("c1").read_bytes()
    assert "signed already" in desk.ok("charter", "sign", "c1", "--key", "ann.key").err
    assert Path("c1").read_bytes() == before


def test_a_key_without_the_role_signs_nothing(desk: Desk) -> None:
    before = Path("c1").read_bytes()
    assert desk.keys["eve"].id.hex() in desk.refused(2, "charter", "sign", "c1", "--key", "eve.key")
    assert Path("c1").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--root", "ann.pub", "--halt", "ann.pub"), "--resume"),
        (("--root", "ann.pub", "--halt", "ann.pub", "--resume", "ann.pub"), "threshold 2 of 1"),
        ((*TERMS, "--halt", "ann.key"), "the same key"),
        ((*TERMS, "--halt", "nobody"), "nobody"),
        ((*TERMS, "--halt", "00ff"), "00ff"),
        ((*TERMS, "--beacon-ttl", "60"), "beacon"),
        ((*TERMS, "--expires", "tomorrow"), "tomorrow"),
        ((*TERMS, "--expires", "2030-02-31"), "2030-02-31"),
        ((*TERMS, "--expires", "9999999-01-01"), "9999999"),
        (
            (*TERMS, *(word for i in range(17) for word in ("--voter", f"{i:064x}"))),
            "17 voter keys",
        ),
    ],
)
def test_what_cannot_be_a_charter_is_code_2_and_no_file(
    desk: Desk, arguments: tuple[str, ...], names: str
) -> None:
    assert names in desk.refused(2, "charter", "create", *arguments, "--out", "new")
    assert not Path("new").exists()


def test_a_charter_file_is_never_overwritten(desk: Desk) -> None:
    before = Path("c1").read_bytes()
    assert "c1" in desk.refused(1, "charter", "create", *TERMS, "--out", "c1")
    assert Path("c1").read_bytes() == before


# --- rotation -------------------------------------------------------------------------------------


def test_a_rotation_keeps_what_was_lifted_and_lifts_for_good_what_goes(
    desk: Desk, node: FakeNode
) -> None:
    for name in ("ann", "cy"):
        desk.ok("halt", "publish", "--key", f"{name}.key", *node.flags)
    resume(desk, node)
    assert node.state.reasons == ()
    desk.ok(
        "charter",
        "rotate",
        "c1",
        "--halt",
        "ann.pub",
        "--halt",
        "eve.pub",
        "--out",
        "c2",
        *node.flags,
    )
    desk.ok("charter", "sign", "c2", "--key", "ann.key", "--key", "bob.key")
    desk.ok("charter", "verify", "c2", "--after", "c1")
    desk.ok("halt", "import", "c2", *node.flags)
    assert node.state.version == 2
    assert node.state.reasons == ()  # Nothing that was lifted stands again.
    assert "may not halt" in desk.refused(2, "halt", "publish", "--key", "cy.key", *node.flags)
    desk.ok("halt", "publish", "--key", "eve.key", *node.flags)
    assert node.state.reasons


def test_a_rotation_takes_the_lifts_from_exported_records(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    resume(desk, node)
    desk.ok("halt", "export", "--out", "records", *node.flags)
    desk.ok("charter", "rotate", "c1", "--revert", "5", "--state", "records", "--out", "c2")
    lift_base = desk.ok("charter", "show", "c2", "--json").records()[-1]["lift_base"]
    assert lift_base == {key.hex(): seq for key, seq in node.state.lifts.items()}


def test_a_rotation_needs_both_quorums(desk: Desk, node: FakeNode) -> None:
    desk.make("dan", "fay")
    desk.ok(
        "charter",
        "rotate",
        "c1",
        "--root",
        "dan.pub",
        "--root",
        "fay.pub",
        "--out",
        "c2",
        *node.flags,
    )
    desk.ok("charter", "sign", "c2", "--key", "dan.key", "--key", "fay.key")
    done = desk.run("charter", "verify", "c2", "--json")
    assert done.code == 1
    assert [s["missing"] for s in done.records()[1]["signatures"]] == [2, 0]
    assert desk.run("halt", "import", "c2", *node.flags).code == 1
    assert node.state.version == 1
    desk.ok("charter", "sign", "c2", "--key", "ann.key", "--key", "cy.key")
    desk.ok("charter", "verify", "c2")
    desk.ok("halt", "import", "c2", *node.flags)
    assert node.state.version == 2


def test_a_rotation_of_another_charter_than_the_one_in_force_is_refused(
    desk: Desk, node: FakeNode
) -> None:
    desk.charter("other")
    assert "in force" in desk.refused(
        1, "charter", "rotate", "other", "--revert", "5", "--out", "c2", *node.flags
    )
    assert "nothing would change" in desk.refused(
        2, "charter", "rotate", "c1", "--out", "c2", *node.flags
    )
    desk.ok("charter", "create", *TERMS, "--out", "unsigned")
    assert "no signature" in desk.refused(
        1, "charter", "rotate", "unsigned", "--revert", "5", "--out", "c2", *node.flags
    )
    assert not Path("c2").exists()


def test_verify_finds_a_break_in_the_chain(desk: Desk, node: FakeNode) -> None:
    desk.ok("charter", "rotate", "c1", "--revert", "5", "--out", "c2", *node.flags)
    desk.ok("charter", "sign", "c2", "--key", "ann.key", "--key", "bob.key")
    Path("alone").write_text(render(read_sheets(Path("c2"))[1:]))
    assert "--after" in desk.run("charter", "verify", "alone").out
    desk.ok("charter", "verify", "alone", "--after", "c1")
    desk.charter("other")
    done = desk.run("charter", "verify", "alone", "--after", "other")
    assert done.code == 1
    assert "not chained" in done.out
    assert "different records" in desk.refused(1, "charter", "verify", "c1", "other")
