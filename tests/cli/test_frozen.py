"""A node that is suspended keeps nobody waiting without a word, or for ever."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from swarmllm.errors import LocalError
from swarmllm.runtime.local_api.client import Patience, asking
from tests.cli.command import DEADLINE_S, RunningNode, command, environment


@contextmanager
def suspended(node: RunningNode) -> Iterator[int]:
    pid = node.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--json"),
        ("experts",),
        ("generate", "abc", "--max-tokens", "3"),
        ("halt", "status"),
        ("stop",),
    ],
    ids=str,
)
def test_every_command_says_that_it_waits_and_goes_on_when_the_node_does(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with RunningNode(tmp_path, tmp_path / "data", "--port", "0", "--model", "none") as node:
        node.wait_for("ready")
        with suspended(node) as pid:
            asked = subprocess.Popen(
                command(*arguments, "--data-dir", str(node.data)),
                stderr=subprocess.PIPE,
                text=True,
                env=environment(tmp_path),
            )
            assert asked.stderr is not None
            word = asked.stderr.readline()
        assert "Still waiting" in word
        assert str(pid) in word
        with asked:
            asked.send_signal(signal.SIGINT if arguments[0] == "generate" else 0)
            assert asked.wait(DEADLINE_S) == (130 if arguments[0] == "generate" else 0)


@pytest.mark.parametrize(
    "size", [1, 3_000_000], ids=["waiting for the answer", "sending the question"]
)
def test_the_wait_ends_and_names_the_process_and_the_remedy(node: RunningNode, size: int) -> None:
    told: list[str] = []

    async def body() -> None:
        patience = Patience(told.append, word_s=0.1, end_s=0.5)
        with trio.fail_after(30):
            async with asking(node.data, "generate", patience, prompt="x" * size) as records:
                async for _ in records:
                    pass

    with suspended(node) as pid, pytest.raises(LocalError, match=f"kill -CONT {pid}"):
        trio.run(body)
    assert told
    assert all("does not answer" in sentence for sentence in told)
