"""Strangers never take the descriptors that the node needs for itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.libp2p import NetworkLimits
from swarmllm.adapters.libp2p.descriptors import NEEDED, RESERVED, fitting
from swarmllm.errors import LocalError

CHILD = """
import resource, sys, trio
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.adapters.libp2p import NetworkLimits, open_network
from tests.adapters.libp2p.support import options

async def main():
    limits = NetworkLimits(half_open_max=400)
    async with open_network(options(ephemeral_key(), limits=limits)) as network:
        print(network.addrs[0].split("/")[4], flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        files = [open("/dev/null") for _ in range(64)]
        print(len(files), flush=True)

trio.run(main)
"""


@given(st.integers(0, 5000), st.integers(0, 300))
def test_what_the_network_may_open_leaves_the_reserve(descriptors: int, in_use: int) -> None:
    if descriptors - in_use - RESERVED < NEEDED:
        with pytest.raises(LocalError, match="ulimit"):
            fitting(NetworkLimits(), descriptors, in_use)
        return
    limits = fitting(NetworkLimits(), descriptors, in_use)
    assert (
        limits.connections_max + limits.half_open_max + limits.dial_sockets_max + RESERVED + in_use
        <= descriptors
    )
    assert min(limits.connections_max, limits.half_open_max, limits.dial_sockets_max) >= 4


def test_a_node_with_few_descriptors_can_open_its_own_files_under_a_flood_of_strangers() -> None:
    with ExitStack() as stack:
        child = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert child.stdin is not None
        assert child.stdout is not None
        port = int(child.stdout.readline())
        for number in range(300):
            sock = stack.enter_context(socket.socket())
            sock.bind((f"127.0.0.{2 + number % 50}", 0))
            sock.connect(("127.0.0.1", port))
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "64\n"
