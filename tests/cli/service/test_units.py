"""The files of the service managers: systemd finds no fault in the unit, whatever the paths are
called, and what a manager would start is exactly what was asked for."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.service.units import LABEL, UNIT, launchd_agent, systemd_unit, systemd_word
from swarmllm.errors import UsageError

DATA = '/home/ann/my "data" 100%/$HOME\\x'
ODD = ["/usr/bin/env", "join", "--data-dir", DATA, "--hours", "22-07"]
printable = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x7f"))


def unquoted(line: str) -> list[str]:
    """A command line as systemd.service(5) has it read: quotes, backslashes, %% and $$."""
    words, rest = [], line
    while rest:
        assert rest[0] == '"'
        word, at = "", 1
        while rest[at] != '"':
            at += rest[at] in "\\%$"
            word += rest[at]
            at += 1
        words.append(word)
        rest = rest[at + 1 :].lstrip(" ")
    return words


@given(st.lists(printable, min_size=1))
def test_what_is_started_is_what_was_asked_for(words: list[str]) -> None:
    assert unquoted(" ".join(map(systemd_word, words))) == words


@pytest.mark.parametrize("character", ["\n", "\0", "\t", "\x7f"])
def test_what_no_line_can_hold_is_refused(character: str) -> None:
    with pytest.raises(UsageError, match="a character that no line of a unit can hold"):
        systemd_word(f"/home/{character}/data")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT
    unit.write_text(systemd_unit(ODD, "private"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    faults = [line for line in done.stderr.splitlines() if UNIT in line]
    assert (done.returncode, faults) == (0, []), done.stderr


def test_a_node_that_fails_is_started_again_and_one_with_wrong_options_is_not() -> None:
    unit = systemd_unit(["/bin/true"], "private").splitlines()
    assert {"Restart=on-failure", "RestartPreventExitStatus=2", "Nice=10"} <= set(unit)


def test_launchd_gets_the_words_as_they_are() -> None:
    agent = plistlib.loads(launchd_agent(ODD, Path("/data/service.log")))
    assert agent["ProgramArguments"] == ODD
    assert (agent["Label"], agent["Nice"], agent["RunAtLoad"]) == (LABEL, 10, True)
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
