"""`swarmllm service` with a service manager that only notes what it is asked: what is installed,
what is left, and what is refused."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from swarmllm.cli.app import app
from swarmllm.cli.service.managers import Systemd
from swarmllm.errors import LocalError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


class Machine:
    """A home folder, and a systemctl that succeeds unless it is told to fail."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.log, self.bin = folder, folder / "asked", folder / "bin"
        self.bin.mkdir()
        self.unit = folder / ".config" / "systemd" / "user" / "swarmllm.service"
        for name, value in {"HOME": str(folder), "PATH": f"{self.bin}:/usr/bin:/bin"}.items():
            patch.setenv(name, value)
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        self.answers("echo active")
        (self.bin / "loginctl").write_text("#!/bin/sh\necho Linger=no\n")
        (self.bin / "loginctl").chmod(0o755)

    def answers(self, how: str) -> None:
        program = self.bin / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(self.log))}\n{how}\n')
        program.chmod(0o755)

    def run(self, words: str) -> Result:
        return CliRunner().invoke(app, ["service", *shlex.split(words)])

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_service_is_installed_looked_at_and_removed_without_a_trace(machine: Machine) -> None:
    done = machine.run("install --hours 22-07 --max-share 50% --no-lan --tiny --data-dir 'my data'")
    assert done.exit_code == 0, done.output
    assert "loginctl enable-linger" in done.output
    unit = machine.unit.read_text()
    data = Path.cwd() / "my data"
    for words in ('"--hours" "22:00-07:00"', '"--max-share" "50%%"', '"--no-lan"', '"--tiny"'):
        assert words in unit
    assert f'"--data-dir" "{data}"' in unit
    assert machine.unit.stat().st_mode & 0o077 == 0
    assert machine.asked == ["--user daemon-reload", "--user enable --now swarmllm.service"]
    done = machine.run("status")
    assert (done.exit_code, "the service is running" in done.output) == (0, True)
    done = machine.run("remove")
    assert done.exit_code == 0, done.output
    assert machine.asked[-2:] == ["--user disable --now swarmllm.service", "--user daemon-reload"]
    assert list(machine.unit.parent.iterdir()) == []


def test_a_dry_run_shows_the_file_and_changes_nothing(machine: Machine) -> None:
    done = machine.run("install --dry-run --yield-to-owner")
    assert done.exit_code == 0
    assert "ExecStart=" in done.output
    assert '"--yield-to-owner"' in done.output
    assert not machine.unit.parent.exists()
    assert machine.asked == []
    assert '"event":"service_file"' in machine.run("install --dry-run --json").output


def test_options_that_make_no_sense_install_nothing(machine: Machine) -> None:
    done = machine.run("install --hours 25-07")
    assert done.exit_code == 2
    assert "--hours" in done.output
    assert not machine.unit.exists()


def test_where_the_manager_fails_nothing_stays_installed_and_its_words_are_told(
    machine: Machine,
) -> None:
    machine.answers("echo 'Failed to connect to bus: No medium found' >&2; exit 1")
    done = machine.run("install")
    assert done.exit_code == 1
    assert "No medium found" in done.output
    assert "log in as this user" in done.output
    assert not machine.unit.exists()


def test_an_installed_service_is_started_anew_with_its_new_options(machine: Machine) -> None:
    machine.run("install --hours 22-07")
    assert machine.run("install --max-share 50%").exit_code == 0
    assert '"--max-share" "50%%"' in machine.unit.read_text()
    assert "--hours" not in machine.unit.read_text()
    assert machine.asked[2:] == [
        *("--user disable --now swarmllm.service", "--user daemon-reload"),
        "--user enable --now swarmllm.service",
    ]


@pytest.mark.parametrize("how", ["refused", "interrupted"])
@pytest.mark.parametrize("installed", [True, False])
def test_whatever_ends_an_install_the_service_is_as_it_was(
    how: str, installed: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second install that failed, over ssh without a bus, took the first one's file away."""
    if installed:
        machine.run("install --hours 22-07")
    before = machine.unit.read_text() if installed else None
    start = Systemd.start

    def fails(of: Systemd) -> str:
        monkeypatch.setattr(Systemd, "start", start)
        raise LocalError("no bus") if how == "refused" else KeyboardInterrupt

    monkeypatch.setattr(Systemd, "start", fails)
    assert machine.run("install --max-share 50%").exit_code != 0
    assert (machine.unit.read_text() if machine.unit.exists() else None) == before
    if installed:
        assert machine.asked[-1] == "--user enable --now swarmllm.service"
    elif how == "interrupted":
        assert machine.asked[-1] == "--user disable --now swarmllm.service"


def test_a_key_of_the_http_api_is_written_as_its_hash(machine: Machine) -> None:
    assert machine.run("install --api-key a-long-secret-of-mine").exit_code == 0
    unit = machine.unit.read_text()
    assert "a-long-secret-of-mine" not in unit
    assert '"--api-key" "sha256:' in unit


@pytest.mark.parametrize("words", ["status", "remove"])
def test_without_a_service_one_sentence_says_so(words: str, machine: Machine) -> None:
    done = machine.run(words)
    assert done.exit_code == 1
    assert "no service is installed" in done.output


@pytest.mark.parametrize("words", ["install", "remove"])
def test_somebody_elses_file_of_that_name_is_left_alone(words: str, machine: Machine) -> None:
    machine.unit.parent.mkdir(parents=True)
    machine.unit.write_text("[Service]\nExecStart=/bin/true\n")
    done = machine.run(words)
    assert done.exit_code == 2
    assert "move it away" in done.output
    assert machine.unit.read_text().startswith("[Service]")


def test_a_machine_without_a_known_manager_is_told_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    done = machine.run("install")
    assert done.exit_code == 1
    assert "no service manager that swarmllm knows" in done.output


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("active", "running"),
        ("activating", "starting"),
        ("failed", "failed"),
        ("inactive", "stopped"),
    ],
)
def test_the_state_is_told_in_a_word(said: str, state: str, machine: Machine) -> None:
    machine.run("install")
    machine.answers(f"echo {said}")
    assert f'"state":"{state}"' in machine.run("status --json").output
