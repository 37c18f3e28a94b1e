"""Nodes that join from homes, an office, and IPv6 alone: who meets whom, and what it says of how it
is reached."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmllm.cli.processes import NodeProcess
from swarmllm.core.peers.relayed import CIRCUIT
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.testing.gguf_fixture import write_model
from tests import ROOT
from tests.reach.lab import MISSING, PLACES, Lab, open_lab

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

START_S = 120.0  # Processes of five nodes on a busy machine with two cores.
# A second where nothing else runs; a peer that only the DHT tells of takes half a minute there.
MEET_S = 20.0
TOKENS = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "replica.gguf")


@asynccontextmanager
async def opened(*hosts: str) -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="swarmllm-lab-") as folder:
        async with open_lab(Path(folder), *hosts) as lab:
            yield lab


async def peers_of(node: NodeProcess) -> set[str]:
    return set((await ask(node.folder, "status"))["peers"])


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = MEET_S) -> None:
    """Nodes tell nobody when something comes to hold there."""
    with trio.fail_after(within_s):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(0.1)


async def _knows(node: NodeProcess, others: tuple[NodeProcess, ...]) -> bool:
    return {other.peer for other in others} <= await peers_of(node)


async def is_reached(node: NodeProcess, kind: str) -> bool:
    """Whether it says so of itself."""
    return bool((await ask(node.folder, "status"))["reach"]["kind"] == kind)


async def is_at(node: NodeProcess, host: str) -> bool:
    addrs = (await ask(node.folder, "status"))["addrs"]
    return any(f"/ip4/{host}/" in addr for addr in addrs)


async def meet(node: NodeProcess, *others: NodeProcess) -> None:
    """Until the node is connected to all the others."""
    await until(lambda: _knows(node, others))


async def started(lab: Lab, host: str, *arguments: str) -> NodeProcess:
    node = await lab.join(host, *arguments)
    await node.wait_for("ready", START_S)
    return node


async def all_started(lab: Lab, **arguments: tuple[str, ...]) -> list[NodeProcess]:
    """Several at the same time; hosts with `_` in place of `-`."""
    nodes = [await lab.join(host.replace("_", "-"), *told) for host, told in arguments.items()]
    for node in nodes:
        await node.wait_for("ready", START_S)
    return nodes


async def write(node: NodeProcess) -> dict[str, Any]:
    """A short answer's end."""
    request = {"prompt": "The quick brown fox", "max_tokens": TOKENS, "temperature": 0.0}
    with trio.fail_after(START_S):
        async with asking(node.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "end":
                    return record
    raise AssertionError("the answer has no end")


def test_a_home_joins_by_the_address_of_a_public_node_writes_and_moves_to_another_network(
    model: Path,
) -> None:
    async def main() -> None:
        async with opened("relay", "home-a") as lab:
            relay = await lab.join("relay", "--model", str(model))
            await relay.wait_for("ready", START_S)
            home = await lab.join("home-a", "--model", "none", "--peer", lab.addr("relay"))
            await home.wait_for("ready", START_S)
            await meet(home, relay)
            assert (await write(home))["tokens"] == TOKENS
            await until(lambda: is_reached(home, "nat"))
            lab.renumber("home-a", 77)
            await until(lambda: is_at(home, "192.168.1.77"))
            await meet(home, relay)
            assert (await write(home))["tokens"] == TOKENS

    trio.run(main)


def test_ipv6_alone_is_enough_and_a_port_that_the_router_forwards_counts_and_is_given_back() -> (
    None
):
    async def main() -> None:
        async with opened("relay", "spare", "home-a", "six") as lab:
            async with router_of(lab, "home-a"):
                relay = await started(lab, "relay", "--model", "none")
                six, home = await all_started(
                    lab,
                    six=("--model", "none", "--peer", lab.addr("relay", 6)),
                    home_a=("--model", "none", "--peer", lab.addr("relay")),
                )
                await started(
                    *(lab, "spare", "--model", "none"),
                    *("--peer", lab.addr("relay"), "--peer", lab.addr("home-a")),
                )
                await meet(relay, six, home)
                # Two peers of different networks came in there.
                await until(lambda: is_reached(home, "mapped"))
                await until(lambda: is_at(home, PLACES["home-a"].outside4))
                home.send(signal.SIGTERM)
                await home.process.wait()
                rules = lab.run("nat-home-a", "nft", "list", "chain", "ip", "nat", "in")
                assert "dnat" not in rules

    trio.run(main)


@asynccontextmanager
async def router_of(lab: Lab, host: str) -> AsyncIterator[None]:
    """A home's router that forwards ports when it is asked to."""
    place = PLACES[host]
    process = await trio.lowlevel.open_process(
        [
            *("ip", "netns", "exec", lab.space(f"nat-{host}"), sys.executable, "-m"),
            *("tests.reach.router", place.lan, place.outside4),
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.receive_some(16)).startswith(b"up")
        yield
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


def test_two_homes_and_an_office_with_an_invite_alone_meet_through_relays_of_which_one_dies(
    model: Path,
) -> None:
    async def main() -> None:
        async with opened("relay", "spare", "home-a", "home-b", "office") as lab:
            relay = await started(lab, "relay", "--model", "none", "--relay")
            first = ("--peer", lab.addr("relay"))
            spare = await started(lab, "spare", "--model", "none", "--relay", *first)
            public = (*first, "--peer", lab.addr("spare"))
            expert, home = await all_started(
                lab, home_b=("--model", str(model), *public), home_a=("--model", "none", *public)
            )
            await until(lambda: is_reached(expert, "nat"))
            await until(lambda: has_circuits(expert, 2))
            invite = await ask(expert.folder, "invite")
            # Its router makes a hole impossible, so that all of it goes through a relay.
            office = await started(lab, "office", "--model", "none", str(invite["line"]))
            for asker in (home, office):
                await meet(asker, expert)
                assert (await write(asker))["tokens"] == TOKENS
            assert "behind a NAT, reached through" in (await reach_of(expert))["says"]
            lent = [(await ask(one.folder, "status"))["relay"] for one in (relay, spare)]
            assert sum(one["circuits"] for one in lent) >= 1
            assert sum(one["carried_bytes"] for one in lent) > 5_000
            relay.send(signal.SIGKILL)
            for asker in (home, office):
                await meet(asker, spare)
                assert (await write(asker))["tokens"] == TOKENS

    trio.run(main)


async def reach_of(node: NodeProcess) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(node.folder, "status"))["reach"]
    return found


async def has_circuits(node: NodeProcess, count: int) -> bool:
    addrs = (await ask(node.folder, "status"))["addrs"]
    return sum(CIRCUIT in addr for addr in addrs) >= count


async def invite_of(node: NodeProcess) -> dict[str, Any]:
    """Once the node is reached through a relay."""
    await until(lambda: has_circuits(node, 1))
    return await ask(node.folder, "invite")
