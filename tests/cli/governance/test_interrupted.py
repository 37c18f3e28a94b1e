"""Commands that are interrupted, or killed, in the middle: the right exit code, no traceback, no
file that is half written, and a node that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarmllm.adapters.governance_file import read_governance
from swarmllm.adapters.ledger import SqliteLedger
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.messages import OwnerCommand
from swarmllm.runtime.ledger_performer import leaf_of
from swarmllm.runtime.ports import LedgerWrites
from swarmllm.wire.codec import encode
from tests.cli.command import DEADLINE_S, command, environment
from tests.cli.governance.governed_node import GovernedNode
from tests.cli.governance.test_commands import SET, shown
from tests.cli.operators.conftest import Desk

pytestmark = pytest.mark.slow

ENTRIES = 20_000


class SlowNode(GovernedNode):
    """Of a swarm of its own, where it signs itself. Says when it is asked `slow`, and answers when
    the test lets it."""

    slow = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, None)
        self.asked_for, self.may_answer = threading.Event(), threading.Event()

    def lines(self, question: dict[str, Any]) -> Iterator[bytes]:
        is_slow = question["op"] == self.slow
        answers = list(super().lines(question))  # It has acted on it by now.
        if is_slow:
            self.asked_for.set()
            assert self.may_answer.wait(DEADLINE_S)
            return
        yield from answers


@pytest.fixture
def node(desk: Desk) -> Iterator[SlowNode]:
    with SlowNode(desk.folder / "data") as running:
        yield running


def interrupted(
    desk: Desk, words: tuple[str, ...], number: signal.Signals, is_due: Callable[[int], bool]
) -> tuple[int, str]:
    """Exit code and standard error of a command that gets this signal once `is_due`, which is told
    its process id, says so."""
    process = subprocess.Popen(
        command(*words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=desk.folder,
        env=environment(desk.folder),
    )
    with process:
        until = time.monotonic() + DEADLINE_S
        while not is_due(process.pid) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(number)
        _, said = process.communicate(timeout=DEADLINE_S)
    return process.returncode, said


def leftovers(folder: Path) -> list[str]:
    """What no command should leave behind."""
    return [path.name for path in folder.rglob("*") if path.name.startswith((".", "tmp"))]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_whoever_is_interrupted_while_it_is_handed_in_has_it_in_the_file(
    desk: Desk, node: SlowNode, number: signal.Signals, code: int
) -> None:
    """The node has it by then, and goes on; the file is whole, so that it can be handed in again,
    which changes nothing."""
    id = desk.ok(*SET, "--json", *node.flags).records()[-1]["id"]
    node.slow = "submit"
    words = ("vote", id, "yes", "--out", "ours", *node.flags)
    found, said = interrupted(desk, words, number, lambda _: node.asked_for.is_set())
    node.may_answer.set()
    assert found == code, said
    assert "Traceback" not in said
    assert leftovers(desk.folder) == []
    assert len(read_governance(desk.folder / "ours").cases[0]) == 2
    node.slow = ""
    assert shown(desk, node, id)["state"] == "enacted"
    again = desk.ok("proposals", "import", "ours", "--json", *node.flags).records()[-1]
    assert {one["outcome"] for one in again["outcomes"]} == {"known"}


def test_whoever_is_interrupted_before_it_is_signed_has_signed_nothing(
    desk: Desk, node: SlowNode
) -> None:
    node.slow = "propose"
    words = (*SET, "--out", "ours", *node.flags)
    found, said = interrupted(desk, words, signal.SIGINT, lambda _: node.asked_for.is_set())
    node.may_answer.set()
    assert (found, "Traceback" in said) == (130, False), said
    assert not (desk.folder / "ours").exists()
    node.slow = ""
    assert desk.ok("proposals", "--json", *node.flags).records()[0]["proposals"] == []


def test_a_validation_that_is_interrupted_writes_no_report(desk: Desk, node: SlowNode) -> None:
    started = node.folder / "validations"
    words = ("validate", "set", "router.hedging_extra", "2", "--out", "found", *node.flags)
    found, said = interrupted(
        desk, words, signal.SIGINT, lambda _: started.exists() and any(started.iterdir())
    )
    assert (found, "Traceback" in said) == (130, False), said
    assert not (desk.folder / "found").exists()
    assert list(started.rglob("report.json")) == []
    assert leftovers(desk.folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_ledger_whose_verification_ends_early_is_as_it_was(
    desk: Desk, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    file = folder / "ledger.sqlite"
    leaf = leaf_of(LedgerEntry(LedgerKind.COMMAND, encode(OwnerCommand("stop"))), 1)
    with closing(SqliteLedger(file)) as ledger:
        ledger.write(LedgerWrites((leaf,) * ENTRIES))
    before = file.read_bytes()

    def reads_it(process: int) -> bool:
        try:
            opened = os.listdir(f"/proc/{process}/fd")
            return any(os.readlink(f"/proc/{process}/fd/{one}") == str(file) for one in opened)
        except OSError:
            return False  # Closed meanwhile, or the process has ended.

    found, said = interrupted(desk, ("ledger", "verify", str(folder)), number, reads_it)
    assert found in {130, -9, 0}, said  # 0: it was quicker than the signal.
    assert "Traceback" not in said
    assert file.read_bytes() == before
    assert f"entries    {ENTRIES}" in desk.ok("ledger", "verify", str(folder)).out
