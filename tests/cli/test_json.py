"""`--json` of every command: standard output holds JSON lines and nothing else, whether it succeeds
or fails; what failed is told by the exit code and one sentence on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

from swarmllm.cli.app import app
from tests.cli.command import Finished
from tests.cli.governance.conftest import built_once, cheap, desk
from tests.cli.governance.governed_node import GovernedNode
from tests.cli.ledger.test_ledger_commands import folder
from tests.cli.operators.conftest import Desk

__all__ = ["built_once", "cheap", "desk", "folder"]

FAIL: Final[dict[str, str]] = {
    "join": "join --model absent.gguf --listen everywhere",
    "generate": "generate text -k 0",
    "status": "status",
    "doctor": "doctor --model absent.gguf",
    "demo": "demo --k 0",
    "eval": "eval --documents 0",
    "stop": "stop --data-dir c1",
    "start": "start --data-dir c1",
    "verify": "verify nothing",
    "vote": "vote ab maybe",
    "withdraw": "withdraw ab",
    "tiers": "tiers",
    "models list": "models list --nonsense",
    "models show": "models show llama3-demo:no-such-expert",
    "models pull": "models pull hf:no-repository",
    "models remove": "models remove none",
    "bench": "bench --only weather",
    "bench halt": "bench halt --nodes 0",
    "bench world": "bench world --nodes 0",
    "bench ledger": "bench ledger --entries 0",
    "settings": "settings --nonsense",
    "settings show": "settings show router.colour",
    "keys new": "keys new ann",
    "keys show": "keys show nobody.key",
    "charter create": "charter create --out new",
    "charter show": "charter show nothing",
    "charter sign": "charter sign nothing --key ann.key",
    "charter rotate": "charter rotate nothing --out new",
    "charter verify": "charter verify nothing",
    "members sign": "members sign nobody --charter c1 --key ann.key --out new",
    "halt publish": "halt publish --key nobody.key",
    "halt status": "halt status",
    "halt import": "halt import nothing",
    "halt export": "halt export --out c1",
    "halt drill": "halt drill --nodes 0",
    "resume propose": "resume propose --out c1",
    "resume sign": "resume sign nothing --key ann.key",
    "resume publish": "resume publish nothing",
    "invite": "invite",
    "invite show": "invite show nothing",
    "ledger show": "ledger show nothing",
    "ledger verify": "ledger verify nothing",
    "ledger prove": "ledger prove 1",
    "ledger export": "ledger export --out new",
    "ledger alarms": "ledger alarms",
    "ledger acknowledge": "ledger acknowledge ab",
    "ledger witnesses": "ledger witnesses nothing",
    "agent status": "agent status",
    "agent run": "agent run",
    "agent tasks": "agent tasks",
    "agent submit": "agent submit nothing",
    "audits": "audits",
    "experts": "experts",
    "experts register": "experts register",
    "experts withdraw": "experts withdraw",
    "service install": "service install --hours 25-07",
    "service status": "service status",
    "service remove": "service remove",
    "propose set": "propose set router.colour 3 --why w",
    "propose bounds": "propose bounds router.hedging_extra 3 2 --why w",
    "propose phase": "propose phase 9 --why w",
    "propose feature": "propose feature agent maybe --why w",
    "propose model": "propose model ./m.gguf 12 --why w",
    "propose revert": "propose revert zz --why w",
    "proposals": "proposals --state nothing",
    "proposals export": "proposals export --out c1",
    "proposals import": "proposals import nothing",
    "proposals show": "proposals show zz",
    "proposals verify": "proposals verify zz --report nothing",
    "phase": "phase",
    "phase propose": "phase propose 9 --why w",
    "validate set": "validate set router.colour 3",
}
"""By command: what fails in a folder with keys and a charter, where no node runs."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all commands that take `--json`."""
    if any("--json" in parameter.opts for parameter in command.params):
        yield " ".join(path)
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def test_every_command_that_takes_it_is_here() -> None:
    assert set(FAIL) == set(commands(typer.main.get_command(app)))


def test_what_fails_leaves_json_or_nothing_on_standard_output(desk: Desk) -> None:
    for name, words in FAIL.items():
        done = desk.run(*words.split(), "--json")
        assert done.code in {1, 2}, (name, done)
        records_of(name, done)
        assert done.err.strip(), name
        if done.code == 1:
            done.sentence()


FILES: Final = (
    "keys new dan",
    "keys show ann.key",
    "charter show c1",
    "charter create --root ann.pub --root bob.pub --halt ann.pub --resume-threshold 1"
    " --resume ann.pub --out new",
    "charter sign new --key ann.key --key bob.key",
    "charter verify new",
    "charter rotate new --state new --review-hours 2 --out next --voter ann.pub",
    "halt publish --key ann.key --state c1 --out halts",
    "settings",
    "settings show router.hedging_extra",
    "models list",
)
GOVERNED: Final = (
    "tiers",
    "phase",
    "phase propose 0 --why w --key ann.key",
    "propose set router.hedging_extra 3 --why w --key ann.key",
    "propose bounds router.hedging_extra 0 9 --why w --key bob.key",
    "propose model hf:a/b:Q4 DIGEST --why w --key bob.key",
    "propose feature agent on --why w --suggest --key cy.key",
    "proposals",
    "proposals show ID",
    "vote ID yes --key bob.key",
    "withdraw ID --key ann.key",
    "proposals export --out all",
    "proposals import all",
    "proposals --state all",
)
LEDGER: Final = (
    "ledger show FOLDER",
    "ledger verify FOLDER",
    "ledger prove 1 FOLDER",
    "ledger export --data-dir FOLDER --out log",
    "ledger witnesses FOLDER",
    "ledger alarms --data-dir FOLDER",
)


@pytest.fixture
def node(desk: Desk) -> Iterator[GovernedNode]:
    with GovernedNode(desk.folder / "node", desk.folder / "c1") as running:
        yield running


def test_what_succeeds_prints_json_and_nothing_else(
    desk: Desk, node: GovernedNode, folder: Path
) -> None:
    id = ""
    for words in (*FILES, *GOVERNED, *LEDGER):
        flags = node.flags if words in GOVERNED and "--state" not in words else ()
        said = words.replace("ID", id).replace("FOLDER", str(folder)).replace("DIGEST", "ab" * 32)
        records = records_of(words, desk.ok(*said.split(), "--json", *flags))
        assert records, words
        if words.startswith("propose set"):
            id = records[-1]["id"]


def records_of(name: str, done: Finished) -> list[dict[str, Any]]:
    """Every line is a record with the name of its event and its time."""
    for record in (records := done.records()):
        assert isinstance(record["event"], str), (name, record)
        assert isinstance(record["time"], float), (name, record)
    return records
