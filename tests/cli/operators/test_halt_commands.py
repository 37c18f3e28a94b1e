"""One key stops the swarm, files carry what was signed, and nothing else changes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from swarmllm.adapters.record_files import read_sheets, render, sheet_of
from swarmllm.messages import HALT_REASONS, Halt, Resume
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import key_id, sign_record
from tests.cli.operators.conftest import PASSPHRASE, Desk
from tests.cli.operators.fake_node import FakeNode
from tests.cli.operators.support import contents, last

# --- halt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", HALT_REASONS.values())
def test_one_halt_key_stops_the_swarm(desk: Desk, node: FakeNode, reason: str) -> None:
    done = desk.ok("halt", "publish", "--key", "ann.key", "--reason", reason, "--json", *node.flags)
    assert [record["event"] for record in done.records()] == [
        "imported",
        "ack",
        "ack",
        "ack",
        "end",
        "published",
    ]
    published = last(done, "published")
    assert published["signed_by"] == [{"name": "ann", "key_id": desk.keys["ann"].id.hex()}]
    assert (published["acknowledged"], published["peers"], published["ms"]) == (3, 3, 30.0)
    assert [halt.seq for halt in node.state.standing] == [published["seq"]]
    assert (
        desk.ok("halt", "status", "--json", *node.flags).records()[0]["standing"][0]["reason"]
        == reason
    )


def test_people_read_who_signed_and_who_acknowledged_and_when(desk: Desk, node: FakeNode) -> None:
    node.silent_peers = 1
    done = desk.ok("halt", "publish", "--key", "cy.key", "--reason", "security", *node.flags)
    assert done.out == ""
    for word in (
        "cy",
        desk.keys["cy"].id.hex(),
        "security",
        "2 of 3 connected peers",
        "20 ms",
        "asked again",
    ):
        assert word in done.err
    status = desk.ok("halt", "status", *node.flags)
    for word in (
        desk.keys["cy"].id.hex(),
        "security",
        "3 connected, 2 with the same state",
        "peer3",
        "resume propose",
    ):
        assert word in status.out


def test_every_halt_has_a_higher_number(desk: Desk, node: FakeNode) -> None:
    seqs = [
        last(desk.ok("halt", "publish", "--key", "ann.key", "--json", *node.flags), "published")[
            "seq"
        ]
        for _ in range(3)
    ]
    assert seqs == sorted(set(seqs))  # type: ignore[type-var]


def test_a_key_that_may_not_halt_is_told_before_its_passphrase_is_asked(
    desk: Desk, node: FakeNode
) -> None:
    Path("pass").unlink()
    assert "may not halt" in desk.refused(2, "halt", "publish", "--key", "bob.key", *node.flags)
    assert node.state.reasons == ()


def test_an_unknown_reason_is_refused(desk: Desk, node: FakeNode) -> None:
    assert "drill" in desk.refused(
        2, "halt", "publish", "--key", "ann.key", "--reason", "because", *node.flags
    )
    assert node.asked == []


@pytest.mark.parametrize(
    ("mood", "says"),
    [("dies", "publish it again"), ("garbage", "no JSON"), ("short", "same swarmllm")],
)
def test_a_node_that_answers_badly_is_one_sentence(
    desk: Desk, node: FakeNode, mood: str, says: str
) -> None:
    node.mood = mood
    done = desk.run("halt", "publish", "--key", "ann.key", *node.flags)
    assert done.code in {1, 2}
    assert says in done.sentence()


def test_without_a_node_an_order_can_be_written_and_carried(desk: Desk) -> None:
    """On a machine without any node, and then by hand to another one."""
    alone = ("--data-dir", str(desk.folder / "alone"))
    assert "swarmllm join" in desk.refused(1, "halt", "publish", "--key", "ann.key", *alone)
    assert "--out" in desk.refused(
        1, "halt", "publish", "--key", "ann.key", "--state", "c1", *alone
    )
    desk.ok("halt", "publish", "--key", "ann.key", "--state", "c1", "--out", "order", *alone)
    with FakeNode(desk.folder / "data", desk.folder / "c1") as node:
        desk.ok("halt", "import", "order", *node.flags)
        assert [halt.key for halt in node.state.standing] == [desk.keys["ann"].id]
    assert not (desk.folder / "alone").exists()


# --- import and export ----------------------------------------------------------------------------


def test_export_and_import_carry_a_whole_state(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    assert (
        last(desk.ok("halt", "export", "--out", "records", "--json", *node.flags), "exported")[
            "records"
        ]
        == 2
    )
    with FakeNode(desk.folder / "other", desk.folder / "c1") as other:
        assert other.state.reasons == ()
        desk.ok("halt", "import", "records", *other.flags)
        assert other.state.digest == node.state.digest
        # A replay changes nothing.
        assert "known already" in desk.ok("halt", "import", "records", *other.flags).err
        assert other.state.digest == node.state.digest


def test_import_without_a_node_goes_to_the_data_folder(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("halt", "export", "--out", "records", *node.flags)
    _, halt = read_sheets(Path("records"))
    Path("halt").write_text(render([halt]))
    folder = ("--data-dir", str(desk.folder / "later"))
    # The order's file first: charters are applied before all else.
    desk.ok("halt", "import", "halt", "c1", *folder)
    status = desk.ok("halt", "status", "--json", *folder).records()[0]
    assert status["running"] is False
    assert status["digest"] == node.state.digest.hex()
    assert status["halted"]
    before = contents(desk.folder / "later")
    desk.ok("halt", "import", "records", *folder)
    assert contents(desk.folder / "later") == before


def test_records_of_another_swarm_are_refused_and_change_nothing(
    desk: Desk, node: FakeNode
) -> None:
    desk.charter("other")
    desk.ok(
        "halt",
        "publish",
        "--key",
        "ann.key",
        "--state",
        "other",
        "--out",
        "order",
        "--data-dir",
        "alone",
    )
    assert "another charter 1" in desk.refused(1, "halt", "import", "order", *node.flags)
    assert node.state.reasons == ()
    Path("bare").write_text(render(read_sheets(Path("order"))[1:]))
    done = desk.run("halt", "import", "bare", *node.flags)
    assert done.code == 1
    assert "for swarm" in done.err
    folder = desk.folder / "mine"
    desk.ok("halt", "import", "c1", "--data-dir", str(folder))
    before = contents(folder)
    assert "another charter 1" in desk.refused(
        1, "halt", "import", "order", "--data-dir", str(folder)
    )
    assert contents(folder) == before


def test_forged_records_are_refused(desk: Desk, node: FakeNode) -> None:
    """By a key without the role, and a RESUME with one signature of two: written well, and worth
    nothing."""
    eve, ann = desk.keys["eve"], desk.keys["ann"]
    halt = Halt(node.state.swarm, eve.id, 7, 1, 0)
    Path("forged").write_text(
        render([sheet_of(sign_record(halt, [(eve.public_key, eve.unseal(PASSPHRASE))]))])
    )
    done = desk.run("halt", "import", "forged", *node.flags)
    assert done.code == 1
    assert f"key {eve.id.hex()} may not halt" in done.err
    desk.ok("halt", "publish", "--key", "cy.key", *node.flags)
    before = node.state
    resume = Resume(node.state.swarm, 1, marks_of(node.state.highs), 0)
    Path("forged").write_text(
        render([sheet_of(sign_record(resume, [(ann.public_key, ann.unseal(PASSPHRASE))]))])
    )
    done = desk.run("halt", "import", "forged", "--json", *node.flags)
    assert done.code == 1
    assert "1 of 2" in done.err
    assert node.state == before
    assert last(done, "imported")["outcomes"] == [
        {"outcome": "refused", "reason": "RESUME with 1 of 2 signatures"}
    ]


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-30], lambda b: b.replace(b"A", b"B", 1), lambda b: b"", lambda b: b * 500],
)
def test_a_spoilt_file_changes_nothing(
    desk: Desk, node: FakeNode, spoil: Callable[[bytes], bytes]
) -> None:
    desk.ok(
        "halt",
        "publish",
        "--key",
        "ann.key",
        "--state",
        "c1",
        "--out",
        "order",
        "--data-dir",
        "alone",
    )
    Path("order").write_bytes(spoil(Path("order").read_bytes()))
    assert "order" in desk.refused(1, "halt", "import", "c1", "order", *node.flags)
    assert node.asked == []  # No record counts before all files are read.


def test_an_unsigned_record_is_not_imported(desk: Desk, node: FakeNode) -> None:
    desk.ok("charter", "rotate", "c1", "--revert", "1", "--out", "c2", *node.flags)
    assert "no signature yet" in desk.refused(1, "halt", "import", "c2", *node.flags)


def test_a_node_that_tells_of_fewer_records_than_given_is_noticed(
    desk: Desk, node: FakeNode
) -> None:
    node.mood = "halves"
    assert "same swarmllm" in desk.refused(1, "halt", "import", "c1", *node.flags)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["keys", "charter", "halt", "resume"])
def test_a_group_alone_shows_its_help(desk: Desk, group: str) -> None:
    assert f"{group} [OPTIONS] COMMAND" in desk.ok(group).out


def test_a_halt_keys_id_is_the_one_in_records(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    assert node.state.standing[0].key == key_id(desk.keys["ann"].public_key)
