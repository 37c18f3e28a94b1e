#!/usr/bin/env python3
"""How far a node's reach goes, in figures: real nodes behind real NAT on one machine
(`tests/reach/lab.py`), from joining to the first token directly and through a relay, what a relay
adds to a round trip, how soon a node is back after a change of address or a sleep, and what a relay
pays for those that it serves.

    scripts/reach.py [--runs 3] [--load] [--out docs/evidence/reach.md]

Needs root, `ip` and `nft`. One run takes a minute and a half; `--load` (`relay_load`) four minutes
more.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import trio

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.relay_load import section  # noqa: E402
from swarmllm.cli.processes import NodeProcess  # noqa: E402
from swarmllm.runtime.local_api.client import ask, asking  # noqa: E402
from swarmllm.testing.gguf_fixture import write_model  # noqa: E402
from tests.reach.lab import MISSING, Lab, open_lab  # noqa: E402

START_S: Final = 120.0
SLEPT_S: Final = 20.0  # Longer than a connection lives without a sign of life.
LOOK_EVERY_S: Final = 0.02

Figures = dict[str, list[float]]


@asynccontextmanager
async def opened(*hosts: str) -> AsyncIterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="swarmllm-reach-") as folder:
        async with open_lab(Path(folder), *hosts) as lab:
            yield lab


async def started(lab: Lab, host: str, *arguments: str) -> NodeProcess:
    node = await lab.join(host, *arguments)
    await node.wait_for("ready", START_S)
    return node


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 90.0) -> float:
    """How long it took; infinite if it did not come to hold."""
    began = trio.current_time()
    with trio.move_on_after(within_s):
        while not await holds():  # noqa: ASYNC110  Nodes tell nobody.
            await trio.sleep(LOOK_EVERY_S)
        return trio.current_time() - began
    return float("inf")


async def knows(node: NodeProcess, other: NodeProcess) -> bool:
    return other.peer in (await ask(node.folder, "status"))["peers"]


async def status(node: NodeProcess) -> dict[str, Any]:
    return await ask(node.folder, "status")


async def first_token(node: NodeProcess) -> float:
    """From the question to the first token."""
    began = trio.current_time()
    request = {"prompt": "The quick brown fox", "max_tokens": 2, "temperature": 0.0}
    with trio.fail_after(START_S):
        async with asking(node.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "token":
                    return trio.current_time() - began
    return float("inf")


async def expert_seen(node: NodeProcess, peer: str) -> dict[str, Any] | None:
    found = (await ask(node.folder, "experts"))["experts"]
    return next((one for one in found if one["peer"] == peer and one["connected"]), None)


async def joined(lab: Lab, host: str, expert: NodeProcess) -> tuple[float, ...]:
    """A node without a model: seconds from the start of its process until it is ready, from then
    until it is connected to the expert, and from a question to the first token."""
    began = trio.current_time()
    node = await started(lab, host, "--model", "none", "--peer", lab.addr("relay"))
    ready_s = trio.current_time() - began
    met_s = await until(lambda: knows(node, expert))
    token_s = await first_token(node)
    return ready_s, met_s, token_s


async def ping_of(node: NodeProcess, peer: str) -> float:
    """The shortest of some seconds."""
    best = float("inf")
    with trio.move_on_after(9):
        while True:
            seen = await expert_seen(node, peer)
            if seen is not None and seen["ping_ms"] is not None:
                best = min(best, float(seen["ping_ms"]))
            await trio.sleep(0.5)
    return best


async def direct(model: Path, figures: Figures) -> None:
    """The expert is on a public host."""
    async with opened("relay", "home-a") as lab:
        relay = await started(lab, "relay", "--model", str(model))
        ready_s, met_s, token_s = await joined(lab, "home-a", relay)
        home = lab.nodes["home-a"]
        add(figures, "direct: process start to ready, s", ready_s)
        add(figures, "direct: ready to connected to the expert, s", met_s)
        add(figures, "direct: question to first token, s", token_s)
        add(figures, "direct: ping, ms", await ping_of(home, relay.peer))
        lab.renumber("home-a", 77)
        add(
            figures,
            "another address: until the old connection is known to be dead, s",
            await until(lambda: is_without(home, relay)),
        )
        add(
            figures,
            "another address: until connected again, s",
            await until(lambda: knows(home, relay)),
        )
        home.send(signal.SIGSTOP)
        await trio.sleep(SLEPT_S)
        home.send(signal.SIGCONT)
        began = trio.current_time()
        await first_token(home)
        add(
            figures,
            f"asleep for {SLEPT_S:.0f} s: from waking to a first token, s",
            trio.current_time() - began,
        )


async def is_without(node: NodeProcess, other: NodeProcess) -> bool:
    return not await knows(node, other)


async def relayed(model: Path, figures: Figures) -> None:
    """The expert is behind a NAT, and so is who asks."""
    async with opened("relay", "home-a", "home-b") as lab:
        relay = await started(lab, "relay", "--model", "none", "--relay")
        home_b = await started(lab, "home-b", "--model", str(model), "--peer", lab.addr("relay"))
        began = trio.current_time()
        await until(lambda: has_circuit(home_b))
        add(figures, "relayed: ready to a place at the relay, s", trio.current_time() - began)
        before = load_of(relay)
        ready_s, met_s, token_s = await joined(lab, "home-a", home_b)
        add(figures, "relayed: process start to ready, s", ready_s)
        add(figures, "relayed: ready to connected to the expert, s", met_s)
        add(figures, "relayed: question to first token, s", token_s)
        home = lab.nodes["home-a"]
        add(figures, "relayed: ping, ms", await ping_of(home, home_b.peer))
        spent = load_of(relay)
        add(
            figures, "relay: CPU for the circuit, the answer and the pings, s", spent[0] - before[0]
        )
        add(figures, "relay: memory, MiB", spent[1])


async def has_circuit(node: NodeProcess) -> bool:
    return any("p2p-circuit" in addr for addr in (await status(node))["addrs"])


def load_of(node: NodeProcess) -> tuple[float, float]:
    process = psutil.Process(node.pid)
    times = process.cpu_times()
    return times.user + times.system, process.memory_info().rss / 2**20


def add(figures: Figures, name: str, value: float) -> None:
    figures.setdefault(name, []).append(value)
    print(f"{name}: {value:.3f}", file=sys.stderr, flush=True)


def page(figures: Figures, runs: int, load_of_relay: list[str]) -> str:
    """As a document."""
    load = os.getloadavg()[0]
    rows = [
        f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |"
        for name, values in figures.items()
    ]
    return "\n".join(
        [
            "# Reach, measured",
            "",
            f"`scripts/reach.py --runs {runs}{' --load' if load_of_relay else ''}`,"
            f" {datetime.now(UTC):%Y-%m-%d %H:%M} UTC,"
            f" {os.cpu_count()} cores ({platform.machine()}), load average {load:.1f} at the end.",
            "Real nodes as processes in network namespaces with nftables masquerade, all on one"
            " machine: no distance, so what is measured is this program and its handshakes.",
            "",
            "| | median | least | most |",
            "|---|---|---|---|",
            *rows,
            "",
            *load_of_relay,
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--load", action="store_true", help="what a relay pays, too")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    if MISSING:
        print(MISSING, file=sys.stderr)
        return 1
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="swarmllm-reach-model-") as folder:
        model = write_model(Path(folder) / "replica.gguf")
        for _ in range(given.runs):
            trio.run(direct, model, figures)
            trio.run(relayed, model, figures)
    text = page(figures, given.runs, [*section(), ""] if given.load else [])
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
