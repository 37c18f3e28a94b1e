"""A node that may open few files, as on macOS, obeys its owner whoever else connects to it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p.links import libp2p_id
from swarmllm.adapters.llama.engine import WORKER
from swarmllm.messages import PeerId
from tests.adapters.libp2p.support import raw_peer
from tests.cli.command import RunningNode, run
from tests.cli.conftest import SWARM

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="sets the limits of a running process"
)
DESCRIPTORS = 256
HALF_OPEN, COMPLETE = 300, 40


async def crowd(port: int, peer: PeerId, owner: Callable[[], None]) -> None:
    """Run `owner` while strangers hold half-open sockets and complete connections."""

    async def one(task_status: Any) -> None:
        async with raw_peer(key=ephemeral_key()) as raw:
            await raw.switch.dial_addr(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"), libp2p_id(peer))
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(COMPLETE):
            await nursery.start(one)
        with ExitStack() as stack:
            for number in range(HALF_OPEN):
                sock = stack.enter_context(socket.socket())
                sock.bind((f"127.0.0.{2 + number % 50}", 0))
                sock.connect(("127.0.0.1", port))
            await trio.to_thread.run_sync(owner)
        nursery.cancel_scope.cancel()


def workers(pid: int) -> list[int]:
    """The processes with the model; that with the tokenizer is no such."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [
        c
        for c in children
        if WORKER.encode() in Path(f"/proc/{c}/cmdline").read_bytes().split(b"\0")
    ]


@pytest.mark.slow
def test_the_owner_is_obeyed_and_a_dead_worker_replaced_while_strangers_hold_all_they_can(
    tmp_path: Path, model: Path
) -> None:
    with RunningNode(
        tmp_path,
        tmp_path / "data",
        "--port",
        "0",
        "--swarm",
        SWARM,
        "--model",
        str(model),
        "--context",
        "256",
    ) as node:
        # Before it counts its descriptors: importing everything takes longer.
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        ready = node.wait_for("ready")

        def owner() -> None:
            at = ("--data-dir", str(node.data))
            (status,) = run(tmp_path, "status", "--json", *at).records()
            assert status["state"] == "running"
            for order in ("stop", "start"):
                done = run(tmp_path, order, *at)
                assert done.code == 0, done
            (worker,) = workers(node.process.pid)
            os.kill(worker, signal.SIGKILL)
            done = run(tmp_path, "generate", "abc", "--max-tokens", "4", *at)
            assert done.code == 0, done
            assert workers(node.process.pid) != [worker]
            assert node.process.poll() is None

        trio.run(crowd, int(ready["invite"].split("/")[4]), PeerId(ready["peer"]), owner)
