"""A quorum that never meets starts the swarm again; its owner's own stop is for one node."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from swarmllm.adapters.halt_folder import HaltFolder
from swarmllm.adapters.record_files import read_sheets, render
from tests.cli.operators.conftest import Desk
from tests.cli.operators.fake_node import FakeNode
from tests.cli.operators.support import contents, last

# --- resume ---------------------------------------------------------------------------------------


def test_signatures_are_gathered_on_machines_that_have_nothing_but_the_file(
    desk: Desk, node: FakeNode, tmp_path: Path
) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", "--reason", "security", *node.flags)
    asked = len(node.asked)
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    asked = len(node.asked)
    for machine, person, missing in (("one", "bob", 1), ("two", "cy", 0)):
        (tmp_path / machine).mkdir()
        shutil.move("proposal", tmp_path / machine / "proposal")
        os.chdir(tmp_path / machine)
        done = desk.ok("resume", "sign", "proposal", "--key", f"../{person}.key", "--json")
        assert last(done, "proposal")["missing"] == missing
        shown = desk.ok("resume", "sign", "proposal", "--key", f"../{person}.key")
        assert "signed already" in shown.err
        os.chdir(tmp_path)
        shutil.move(tmp_path / machine / "proposal", "proposal")
    assert len(node.asked) == asked
    assert node.state.reasons
    done = desk.ok("resume", "publish", "proposal", "--json", *node.flags)
    assert last(done, "published")["type"] == "resume"
    assert node.state.reasons == ()


def test_whoever_signs_is_shown_what_would_be_lifted(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", "--reason", "security", *node.flags)
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    done = desk.ok("resume", "sign", "proposal", "--key", "bob.key")
    # What is about to be signed is told before; what was asked for are the signatures then.
    shown = done.err + done.out
    for word in (
        desk.keys["ann"].id.hex(),
        "security",
        node.state.swarm.hex(),
        "1 missing",
        desk.keys["cy"].id.hex()[:8],
    ):
        assert word in shown


def test_copies_signed_apart_are_published_together(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("resume", "propose", "--out", "one", *node.flags)
    shutil.copy("one", "two")
    desk.ok("resume", "sign", "one", "--key", "ann.key")
    desk.ok("resume", "sign", "two", "--key", "cy.key")
    assert "1 missing" in desk.refused(1, "resume", "publish", "one", *node.flags)
    assert node.state.reasons
    desk.ok("resume", "publish", "one", "two", *node.flags)
    assert node.state.reasons == ()


def test_a_key_without_the_role_resume_signs_nothing(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    before = Path("proposal").read_bytes()
    assert "no role resume" in desk.refused(2, "resume", "sign", "proposal", "--key", "eve.key")
    assert Path("proposal").read_bytes() == before


def test_a_halt_that_is_newer_than_the_proposal_stands(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    desk.ok("resume", "sign", "proposal", "--key", "ann.key", "--key", "bob.key")
    desk.ok("halt", "publish", "--key", "cy.key", *node.flags)
    assert desk.keys["cy"].id.hex() in desk.refused(3, "resume", "publish", "proposal", *node.flags)
    assert [halt.key for halt in node.state.standing] == [desk.keys["cy"].id]


def test_a_proposal_under_a_former_charter_is_refused_by_the_node(
    desk: Desk, node: FakeNode
) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    desk.ok("resume", "sign", "proposal", "--key", "ann.key", "--key", "bob.key")
    desk.ok("charter", "rotate", "c1", "--revert", "1", "--out", "c2", *node.flags)
    desk.ok("charter", "sign", "c2", "--key", "ann.key", "--key", "bob.key")
    desk.ok("halt", "import", "c2", *node.flags)
    assert "propose and sign it again" in desk.refused(
        1, "resume", "publish", "proposal", *node.flags
    )
    assert node.state.standing


def test_without_a_halt_there_is_nothing_toresume(desk: Desk, node: FakeNode) -> None:
    assert "no halt stands" in desk.refused(
        2, "resume", "propose", "--out", "proposal", *node.flags
    )
    assert not Path("proposal").exists()


def test_a_proposal_that_shows_other_halts_than_it_lifts_is_refused(
    desk: Desk, node: FakeNode
) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("halt", "publish", "--key", "cy.key", *node.flags)
    desk.ok("resume", "propose", "--out", "proposal", *node.flags)
    sheets = read_sheets(Path("proposal"))
    # Signers would not see the second halt.
    Path("hiding").write_text(render([sheets[0], sheets[1], sheets[3]]))
    assert "other halts than it shows" in desk.refused(
        1, "resume", "sign", "hiding", "--key", "ann.key"
    )
    Path("bare").write_text(render(sheets[3:]))
    assert "charter 1" in desk.refused(1, "resume", "sign", "bare", "--key", "ann.key")
    assert "no proposal" in desk.refused(1, "resume", "sign", "c1", "--key", "ann.key")


def test_a_proposal_can_be_made_from_exported_records(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("halt", "export", "--out", "records", *node.flags)
    asked = len(node.asked)
    desk.ok("resume", "propose", "--from", "records", "--out", "proposal")
    desk.ok("resume", "sign", "proposal", "--key", "ann.key", "--key", "bob.key")
    assert len(node.asked) == asked
    desk.ok("resume", "publish", "proposal", *node.flags)
    assert node.state.reasons == ()


# --- this node alone ------------------------------------------------------------------------------


def test_stop_and_start_are_for_the_running_node(desk: Desk, node: FakeNode) -> None:
    assert last(desk.ok("stop", "--json", *node.flags), "halt_status")["stopped_here"] is True
    assert node.state.stopped_here
    assert "may work again" in desk.ok("start", *node.flags).err
    assert not node.state.stopped_here


def test_what_is_not_on_disk_is_not_called_done(desk: Desk, node: FakeNode) -> None:
    node.mood = "full"
    assert "would not be stopped after a restart" in desk.refused(1, "stop", *node.flags)
    assert "counts only when it is on disk" in desk.refused(1, "start", *node.flags)


def test_stop_without_a_node_stops_the_next_one(desk: Desk) -> None:
    folder = ("--data-dir", str(desk.folder / "data"))
    assert "next `swarmllm join` will be stopped" in desk.ok("stop", *folder).err
    assert desk.ok("halt", "status", "--json", *folder).records()[0]["stopped_here"] is True
    before = contents(desk.folder / "data")
    desk.ok("stop", *folder)
    assert contents(desk.folder / "data") == before
    desk.ok("start", *folder)
    assert desk.ok("halt", "status", "--json", *folder).records()[0]["halted"] == []


def test_stop_before_the_first_start_keeps_to_the_swarm_that_the_settings_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = desk.ok("charter", "show", "c1", "--json").records()[0]["swarm"]
    for name, value in (("file", str(desk.folder / "c1")), ("id", swarm)):
        monkeypatch.setenv("SWARMLLM_CHARTER", value)
        desk.ok("stop", "--data-dir", name)
        monkeypatch.delenv("SWARMLLM_CHARTER")
        desk.ok("halt", "import", "c1", "--data-dir", name)
        status = desk.ok("halt", "status", "--json", "--data-dir", name).records()[0]
        assert (status["swarm"], status["charter_version"], status["stopped_here"]) == (
            swarm,
            1,
            True,
        )


def test_start_does_not_lift_an_order(desk: Desk, node: FakeNode) -> None:
    desk.ok("halt", "publish", "--key", "ann.key", *node.flags)
    desk.ok("stop", *node.flags)
    assert "resume quorum" in desk.refused(3, "start", *node.flags)
    assert node.state.reasons
    assert not node.state.stopped_here


def test_a_lost_state_is_halted_until_its_owner_answers_for_it(desk: Desk) -> None:
    folder = desk.folder / "data"
    flags = ("--data-dir", str(folder))
    desk.ok("halt", "import", "c1", *flags)
    for name in ("halt-1.state", "halt-2.state"):
        (folder / name).write_bytes(b"junk")
    status = desk.ok("halt", "status", "--json", *flags).records()[0]
    assert status["lost"] is True
    assert "lost" in status["halted"][0]
    desk.ok("start", *flags)
    assert desk.ok("halt", "status", "--json", *flags).records()[0]["halted"] == []


def test_one_corrupt_copy_changes_nothing(desk: Desk) -> None:
    folder = desk.folder / "data"
    flags = ("--data-dir", str(folder))
    desk.ok("stop", *flags)
    whole = (folder / "halt-1.state").read_bytes()
    for name in ("halt-1.state", "halt-2.state"):
        (folder / name).write_bytes(whole[:-1])
        assert desk.ok("halt", "status", "--json", *flags).records()[0]["stopped_here"] is True
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize("command", [("stop",), ("halt", "import", "order")])
def test_a_full_disk_is_one_sentence_and_keeps_the_old_state(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    folder = desk.folder / "data"
    desk.ok("halt", "import", "c1", "--data-dir", str(folder))
    desk.ok("halt", "publish", "--key", "ann.key", "--out", "order", "--data-dir", str(folder))
    before = contents(folder)

    def full(self: HaltFolder, name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HaltFolder, "_write", full)
    code = 1
    done = desk.run(*command, "--data-dir", str(folder))
    assert done.code == code
    assert str(folder) in done.sentence()
    assert contents(folder) == before


@pytest.mark.parametrize(
    "command",
    [
        ("halt", "status"),
        ("halt", "export", "--out", "x"),
        ("resume", "propose", "--out", "x"),
        ("halt", "import", "c1"),
    ],
)
def test_a_data_folder_that_is_a_file_is_named(desk: Desk, command: tuple[str, ...]) -> None:
    Path("file").write_text("")
    assert "file" in desk.refused(1, *command, "--data-dir", "file")
    assert not Path("x").exists()


@pytest.mark.parametrize("command", [("stop",), ("start",), ("halt", "import", "c1")])
def test_a_folder_that_a_starting_node_holds_is_not_touched(
    desk: Desk, command: tuple[str, ...]
) -> None:
    """It holds the lock before it listens: what is written now would not be what it has read."""
    from swarmllm.adapters.datadir import locked

    with locked(desk.folder / "data"):
        before = contents(desk.folder / "data")
        assert str(desk.folder / "data") in desk.refused(
            1, *command, "--data-dir", str(desk.folder / "data")
        )
        assert contents(desk.folder / "data") == before
