"""The service managers that can run a node: systemd's of one user, and launchd.

A manager is asked by its own command. What that says of an error is one line, and is passed on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from swarmllm.cli.service.units import LABEL, UNIT, launchd_agent, systemd_unit
from swarmllm.errors import LocalError

ANSWER_S: Final = 30.0
SAID_MAX: Final = 300

NO_MANAGER: Final = (
    "so this user has no service manager that runs (as in a container, or after `su`): log in as"
    " this user and try again, or start `swarmllm join` by other means (docs/running.md)"
)

State = Literal["running", "starting", "stopped", "failed"]
STATES: Final[dict[str, State]] = {
    "active": "running",
    "activating": "starting",  # Or waiting until it is started again.
    "failed": "failed",
}


class Manager(Protocol):
    """`file` is what `install` writes."""

    file: Path

    def text(self, command: Sequence[str], swarm: str) -> bytes:
        """The file's content."""

    def start(self) -> str:
        """Have the file read, and the service started now and at each log-in; what else the owner
        may want to do."""

    def state(self) -> State: ...

    def stop(self) -> None:
        """End the service, and forget it; also one that is not known any more."""

    def forget(self) -> None:
        """After the file is gone."""


def manager_of(environment: Mapping[str, str], data_dir: Path) -> Manager:
    """That of this machine. LocalError where there is none."""
    home = Path(environment.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return Launchd(home / "Library" / "LaunchAgents" / f"{LABEL}.plist", data_dir)
    if sys.platform == "linux" and shutil.which("systemctl", path=environment.get("PATH")):
        config = environment.get("XDG_CONFIG_HOME", "")
        folder = Path(config) if os.path.isabs(config) else home / ".config"
        return Systemd(folder / "systemd" / "user" / UNIT)
    raise LocalError(
        "this machine has no service manager that swarmllm knows (systemd on Linux, launchd on"
        " macOS); start `swarmllm join` by the means of your system, or see the Containerfile"
    )


@dataclass(slots=True)
class Systemd:
    file: Path

    def text(self, command: Sequence[str], swarm: str) -> bytes:
        return systemd_unit(command, swarm).encode("utf-8", "surrogateescape")

    def start(self) -> str:
        try:
            self._ask("daemon-reload")
        except LocalError as fault:
            raise LocalError(f"{fault}; {NO_MANAGER}") from fault
        self._ask("enable", "--now", UNIT)
        if _lingers():
            return ""
        return "it runs while you are logged in; to have it run always: loginctl enable-linger"

    def state(self) -> State:
        said = self._ask("show", "--property=ActiveState", "--value", UNIT)
        return STATES.get(said, "stopped")

    def stop(self) -> None:
        self._ask("disable", "--now", UNIT)

    def forget(self) -> None:
        self._ask("daemon-reload")

    def _ask(self, *words: str) -> str:
        return _said("systemctl", "--user", *words)


@dataclass(slots=True)
class Launchd:
    file: Path
    data_dir: Path

    def text(self, command: Sequence[str], swarm: str) -> bytes:
        return launchd_agent(command, self.data_dir / "service.log")

    def start(self) -> str:
        _said("launchctl", "bootstrap", self._domain, str(self.file))
        return ""

    def state(self) -> State:
        said = _said("launchctl", "print", f"{self._domain}/{LABEL}")
        return "running" if "state = running" in said else "stopped"

    def stop(self) -> None:
        _said("launchctl", "bootout", f"{self._domain}/{LABEL}")

    def forget(self) -> None:
        (self.data_dir / "service.log").unlink(missing_ok=True)

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"


def _said(*command: str) -> str:
    """What the manager's command says. LocalError, with its words, if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"the service manager does not answer: {error}") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[:SAID_MAX]
        raise LocalError(f"`{' '.join(command)}` failed: {said or f'code {done.returncode}'}")
    return done.stdout.strip()


def _lingers() -> bool:
    """Whether this user's services run without a log-in; also where nobody can say."""
    try:
        return _said("loginctl", "show-user", str(os.getuid()), "--property=Linger") != "Linger=no"
    except LocalError:
        return True
