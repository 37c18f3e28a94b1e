"""A node that is suspended keeps nobody waiting without a word, or for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from swarmllm.errors import LocalError
from swarmllm.runtime.local_api.client import Conversation, Patience, asking
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
    assert all("it has said nothing for" in sentence for sentence in told)


class Script:
    """The node's end of a conversation, which says each line when its time has come."""

    def __init__(self, *says: tuple[float, str]) -> None:
        self._says = iter(says)
        self.socket = SimpleNamespace(getsockopt=self._refuse)

    @staticmethod
    def _refuse(*_: object) -> bytes:
        raise OSError

    async def receive_some(self, _: int) -> bytes:
        at_s, event = next(self._says, (0.0, ""))
        await trio.sleep_until(at_s)
        return json.dumps({"event": event, "text": "why"}).encode() + b"\n" if event else b""


def test_what_a_node_tells_of_a_wait_does_not_begin_it_anew() -> None:
    told: list[str] = []
    times = ((2, "alive"), (4, "alive"), (7, "notice"), (9, "alive"), (11, "alive"))
    more = ((12, "token"), (14, "alive"), (16, "alive"), (17, "end"))

    async def body() -> None:
        began = trio.current_time()
        script = Script(*((began + at, event) for at, event in (*times, *more)))
        patience = Patience(told.append, word_s=4.0)
        async for _ in Conversation(script, "the node", patience):  # type: ignore[arg-type]
            pass

    trio.run(body, clock=MockClock(autojump_threshold=0))
    assert [sentence.removeprefix("Still waiting for the node ") for sentence in told] == [
        f"({seconds} s); it is at work." for seconds in (4, 11, 4)
    ]
