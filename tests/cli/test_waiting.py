"""Nothing that a person starts is silent for long, and every wait can be told from a standstill."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from swarmllm.cli.output import shell_word
from swarmllm.cli.waiting import Silence
from swarmllm.errors import LocalError
from swarmllm.runtime.local_api.client import NoNodeError, ask
from swarmllm.runtime.local_api.socket_path import NAME
from tests.cli.command import RunningNode, run
from tests.cli.test_frozen import suspended


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node of its own, since it obeys the `stop` that it finds when it goes on."""
    home = tmp_path_factory.mktemp("home")
    with RunningNode(home, home / "data", "--port", "0", "--model", "none") as running:
        running.wait_for("ready")
        yield running


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--json"),
        ("generate", "abc"),
        ("generate", "abc", "--json"),
        ("halt", "status"),
        ("stop",),
    ],
    ids=" ".join,
)
def test_a_command_against_a_frozen_node_ends_and_names_the_remedy(
    tmp_path: Path, frozen: RunningNode, arguments: tuple[str, ...]
) -> None:
    with suspended(frozen) as pid:
        done = run(
            tmp_path,
            *arguments,
            "--data-dir",
            str(frozen.data),
            deadline_s=40,
            SWARMLLM_PATIENCE_S="0.5",
        )
    assert done.code == 1, done
    assert f"kill -CONT {pid}" in done.sentence()
    assert done.out == ""


def test_a_step_without_a_word_is_told_and_one_with_words_is_not() -> None:
    told: list[str] = []
    spoke = threading.Event()

    def tell(sentence: str) -> None:
        told.append(sentence)
        spoke.set()

    with Silence("the first step", tell, every_s=0.05) as silence:
        assert spoke.wait(10)
        assert "the first step" in told[0]
        silence.at("the second step")
        spoke.clear()
        assert spoke.wait(10)
        with silence.covered():
            spoke.clear()  # What moves on the screen is a word itself.
            assert not spoke.wait(0.3)
        assert spoke.wait(10)
        silence.end()
        spoke.clear()
    assert "the second step" in told[-1]


def test_a_node_that_has_no_socket_yet_is_said_to_be_starting(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LocalError, match=r"process 4711\) is just starting") as found:
            trio.run(ask, tmp_path, "status")
        assert not isinstance(found.value, NoNodeError)
        for arguments in (("status",), ("generate", "abc", "--json"), ("halt", "status")):
            done = run(tmp_path, *arguments, "--data-dir", str(tmp_path))
            assert (done.code, "starting or stopping" in done.sentence()) == (1, True), done
            assert "4711" in done.sentence()
    with pytest.raises(NoNodeError):
        trio.run(ask, tmp_path, "status")


def test_the_socket_of_another_user_is_refused(
    node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(
        LocalError, match=f"{NAME} belongs to user {owner}, not to user {owner + 1}"
    ):
        trio.run(ask, node.data, "status")


@pytest.mark.parametrize(
    "name",
    [b"plain", b"two words", b"it's", b"caf\xe9 '\\$(x)`", "caf\u00e9".encode(), b"a\nb\x1b[2J"],
)
def test_a_folder_is_named_so_that_it_can_be_pasted(name: bytes) -> None:
    word = shell_word(os.fsdecode(name))
    assert word.isprintable()
    assert (
        subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
        == name
    )


def test_a_peer_is_found_by_its_name(tmp_path: Path) -> None:
    flags = ("--port", "0", "--model", "none")
    with RunningNode(tmp_path, tmp_path / "a", *flags) as first:
        ready = first.wait_for("ready")
        _, _, _, _, port, _, peer = ready["invite"].split("/")
        with RunningNode(
            tmp_path, tmp_path / "b", *flags, "--peer", f"/dns4/localhost/tcp/{port}/p2p/{peer}"
        ) as second:
            assert second.wait_for("peer_found")["peer"] == peer
