"""A client in JavaScript, written from `protocols/` alone: what the documents say is enough to join
a swarm, and nothing that a client does harms others. Where Node.js or its packages are missing
these tests are skipped, but never in CI."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests import ROOT
from tests.adapters.libp2p.test_relay import behind_relays, figures_of
from tests.interop.swarm import Swarm, open_swarm

HERE = ROOT / "tests/interop"
DEADLINE_S = 240.0
SOAK_S = 7
NODE_MIN = 20
STEPS = [
    "identify",
    "ping",
    "halt state",
    "capacity",
    "dht",
    "tokenizer",
    "answer",
    "more",
    "halt",
    "resume",
]


def missing() -> str:
    """Why the programs cannot run here; empty: they can."""
    node = shutil.which("node")
    if node is None:
        return "Node.js is not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < NODE_MIN:
        return f"Node.js {version.strip()} is older than {NODE_MIN}"
    if not (HERE / "node_modules/libp2p/package.json").exists():
        return "the packages of tests/interop are not installed: npm ci --prefix tests/interop"
    return ""


@pytest.fixture(scope="module", autouse=True)
def _ready() -> None:
    if reason := missing():
        assert not os.environ.get("CI"), f"CI has to run this: {reason}"
        pytest.skip(reason)


def test_every_example_of_the_documents_is_read_as_they_say() -> None:
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "vectors.test.mjs"],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > 250, done.stdout


def test_its_library_and_ours_meet_through_a_relay_of_ours() -> None:  # RELAY-2, RELAY-4
    """One peer of it has a place there, another one reaches that, and a node that hides there."""

    async def main() -> None:
        async with behind_relays() as (_, hidden, relay):
            addrs = [one.network.addrs[0] for one in (relay, hidden)]
            command = ["node", str(HERE / "relay.mjs"), *addrs]
            with trio.fail_after(DEADLINE_S):
                done = await trio.run_process(command, capture_stdout=True, check=False)
            found: dict[str, Any] = json.loads(done.stdout)
            assert found["met"] == found["sheltered"]
            assert found["node"] == hidden.peer
            assert found["limited"]
            assert found["nonce"] == found["asked"]
            assert figures_of(relay)["circuits_opened"] >= 2
            assert figures_of(relay)["requests_refused"] == 0

    trio.run(main)


async def steps(swarm: Swarm, role: str) -> list[dict[str, Any]]:
    """What the client reports of each step; the orders that it waits for are given."""
    other = ("--other", swarm.nodes[1].peer, "--role", role, "--halts")
    command = ["node", str(HERE / "client.mjs"), *swarm.flags, *other]
    found: list[dict[str, Any]] = []
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        with trio.fail_after(DEADLINE_S):
            order, halt = swarm.ring.halt()
            orders = {"halt": halt, "resume": swarm.ring.resume(order)}
            pending = b""
            async for chunk in process.stdout:
                *lines, pending = (pending + chunk).split(b"\n")
                for record in map(json.loads, lines):
                    found.append(record)
                    if record.get("event") == "waiting":
                        await swarm.publish(orders[record["for"]])
            await process.wait()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    return found


async def soak(swarm: Swarm, seconds: int) -> dict[str, Any]:
    command = ["node", str(HERE / "soak.mjs"), *swarm.flags, "--seconds", str(seconds)]
    with trio.fail_after(seconds + DEADLINE_S):
        done = await trio.run_process(command, capture_stdout=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_a_swarm(folder: Path, body: Callable[[Swarm], Any]) -> None:
    async def main() -> None:
        async with open_swarm(folder) as swarm:
            await body(swarm)
            assert [node.process.returncode for node in swarm.nodes] == [None, None]

    trio.run(main)


@pytest.mark.slow
def test_a_client_by_the_documents_joins_answers_is_halted_and_harms_nobody(tmp_path: Path) -> None:
    async def body(swarm: Swarm) -> None:
        for role in ("smaller", "larger"):  # Who has the smaller id opens the halt stream.
            records = await steps(swarm, role)
            failed = [record for record in records if record.get("ok") is False]
            assert failed == []
            assert [record["step"] for record in records if "step" in record] == STEPS
        found = await soak(swarm, int(os.environ.get("INTEROP_SOAK_S", SOAK_S)))
        assert found["faults"] == []
        assert found["steady"]["answers"] > SOAK_S
        assert found["came_back"]["smaller"]["times"] > 2
        assert found["came_back"]["larger"]["times"] > 2
        assert found["noise"]["rounds"] > 0

    in_a_swarm(tmp_path, body)
