"""Three people with key files, a charter that all of them signed, and commands run in this
process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
import typer.main
import typer.testing
from typer.testing import CliRunner

from swarmllm.adapters import operator_keys
from swarmllm.adapters.operator_keys import OperatorKey, new_key
from swarmllm.cli.app import app
from tests.cli.command import Finished
from tests.cli.operators.fake_node import FakeNode

PASSPHRASE = "correct horse battery"


@pytest.fixture(scope="session", autouse=True)
def cheap() -> Iterator[None]:
    """Guessing is made cheap here, and only here: `test_keys` pays the real price once."""
    real = operator_keys.SCRYPT_COST
    operator_keys.SCRYPT_COST = 16  # type: ignore[misc]  # Final for everybody else.
    yield
    operator_keys.SCRYPT_COST = real  # type: ignore[misc]


@pytest.fixture(scope="session", autouse=True)
def built_once() -> Iterator[None]:
    """Typer builds the tree of all commands anew for each that is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(typer.main.get_command))
        yield


class Desk:
    """A folder with everybody's keys, and what types commands in it. Files are named as in the
    folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.keys: dict[str, OperatorKey] = {}
        (folder / "pass").write_text(PASSPHRASE + "\n")
        (folder / "pass").chmod(0o600)
        monkeypatch.setenv("SWARMLLM_PASSPHRASE_FILE", str(folder / "pass"))
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.chdir(folder)

    def run(self, *arguments: str) -> Finished:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.stderr, done.stderr
        return Finished(done.exit_code, done.stdout, done.stderr)

    def ok(self, *arguments: str) -> Finished:
        done = self.run(*arguments)
        assert done.code == 0, done
        return done

    def refused(self, code: int, *arguments: str) -> str:
        """The one sentence with which a command that must fail does so."""
        done = self.run(*arguments)
        assert done.code == code, done
        return done.sentence()

    def make(self, *names: str) -> None:
        for name in names:
            self.keys[name] = new_key(self.folder / f"{name}.key", name, PASSPHRASE)

    def charter(self, out: str = "c1") -> None:
        """Any two of ann, bob and cy may rotate and resume; ann and cy may halt. Signed by ann and
        bob."""
        roles = [
            f"--{role}={name}.pub" for role in ("root", "resume") for name in ("ann", "bob", "cy")
        ]
        self.ok("charter", "create", *roles, "--halt", "ann.pub", "--halt", "cy.pub", "--out", out)
        self.ok("charter", "sign", out, "--key", "ann.key", "--key", "bob.key")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    found = Desk(tmp_path, monkeypatch)
    found.make("ann", "bob", "cy", "eve")
    found.charter()
    return found


@pytest.fixture
def node(desk: Desk) -> Iterator[FakeNode]:
    with FakeNode(desk.folder / "data", desk.folder / "c1") as running:
        yield running
