"""What an agent costs users of real processes: five nodes on this machine, one of which asks all
the time, while the agent of another works and stands still in turn.

    python -m scripts.agent_load --real

What an agent does is nearly all simulation, in a process of its own at the lowest priority; that
is stopped and goes on. All five nodes share the processors of this machine, so it costs here what
it can cost at most.
"""

from __future__ import annotations

import secrets
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from typing import Final

import psutil
import trio

from swarmllm.adapters.datadir import DataDir, default_folders
from swarmllm.adapters.keyfile import load_or_create_key
from swarmllm.cli.demo_cast import Cast, tiny_cast
from swarmllm.cli.demo_view import known
from swarmllm.cli.demo_voters import Voters
from swarmllm.cli.output import write_stdout
from swarmllm.cli.processes import Fleet, NodeProcess, open_fleet
from swarmllm.core.agent.charter import Grant
from swarmllm.errors import SwarmError
from swarmllm.runtime.local_api.client import asking

START_S: Final = 120.0
TOKENS: Final = 160  # Of an answer.
SETTLE_S: Final = 6.0  # The agent waits for so long after a user's answer.
WINDOW_S: Final = 20.0
LOOK_EVERY_S: Final = 0.1
DOMAINS: Final = ("scheduling", "network", "security", "storage")


@dataclass
class Times:
    """When each token came, one list for each answer."""

    answers: list[list[float]] = field(default_factory=list)

    def gaps_ms(self, windows: Sequence[tuple[float, float]]) -> list[float]:
        """Of the tokens that came within these windows, rising."""
        return sorted(
            1000 * (after - before)
            for times in self.answers
            for before, after in pairwise(times)
            if any(begin <= before and after <= end for begin, end in windows)
        )


def at_share(values: Sequence[float], share: float) -> float:
    """What this share of the values, which rise, lie below."""
    return values[min(len(values) - 1, int(share * len(values)))]


async def measure(pairs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="swarmllm-load-") as name:
        folder, cast = Path(name), tiny_cast()
        async with open_fleet(folder, ("swarmllm", "join")) as fleet:
            asker, agent = await _started(fleet, folder, cast)
            times, windows = Times(), dict[bool, list[tuple[float, float]]]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_users, asker, cast, times)
                nursery.start_soon(_works, agent)
                await trio.sleep(SETTLE_S)
                for number in range(2 * pairs):
                    is_on = number % 2 == 1
                    began_at = trio.current_time()
                    await _window(agent, is_on=is_on)
                    windows.setdefault(is_on, []).append((began_at, trio.current_time()))
                    if is_on:
                        _tell(times, windows, number // 2)
                nursery.cancel_scope.cancel()
            await fleet.leave(fleet.nodes, 15.0)


async def _started(fleet: Fleet, folder: Path, cast: Cast) -> tuple[NodeProcess, NodeProcess]:
    """Node 1, which asks, and node 2, whose agent simulates and suggests."""
    first = folder / "node-2"
    first.mkdir(mode=0o700)
    key = load_or_create_key(DataDir(first).key_file)
    voters = Voters(key.public_key, phase=2, grant=Grant(attempts=1))
    options = {
        "--swarm": f"load-{secrets.token_hex(4)}",
        "--charter": voters.write(folder / "charter"),
        "--cache-dir": default_folders().cache_dir,
        "--listen": "127.0.0.1",
        "--port": 0,
        "--threads": 1,
    }
    flags = ["--no-lan", "--no-api", *(str(word) for one in options.items() for word in one)]
    asker = await fleet.start("node 1", [*flags, "--model", "none"])
    address = str((await asker.wait_for("listening", START_S))["addrs"][0])
    for number, expert in enumerate(cast.experts, start=2):
        more = ["--model", str(expert), "--peer", address, *(["--agent"] if number == 2 else [])]
        await fleet.start(f"node {number}", [*flags, *more])
    for node in fleet.nodes:
        await node.wait_for("ready", START_S)
    with trio.fail_after(START_S):
        while len(known(asker, "expert")) < len(cast.experts):
            await asker.change()
    return asker, fleet.nodes[1]


async def _users(asker: NodeProcess, cast: Cast, times: Times) -> None:
    """One answer after the other."""
    request = {"prompt": cast.first.text, "max_tokens": TOKENS, **cast.sampling}
    while True:
        answer: list[float] = []
        times.answers.append(answer)
        async with asking(asker.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "token":
                    answer.append(trio.current_time())


async def _works(agent: NodeProcess) -> None:
    """One cycle after the other, in all domains."""
    for domain in cycle(DOMAINS):
        with suppress(SwarmError):  # One has begun by itself, or a step took too long.
            async with asking(agent.folder, "agent_run", domain=domain) as records:
                async for record in records:
                    if record["event"] == "agent_step":
                        text = str(record["text"])[:90]
                        write_stdout(f"  {domain}: {record['step']}: {text}\n")
        await trio.sleep(LOOK_EVERY_S)


async def _window(agent: NodeProcess, *, is_on: bool) -> None:
    """Its simulations run, or stand still; also those that begin meanwhile."""
    number = signal.SIGCONT if is_on else signal.SIGSTOP
    with trio.move_on_after(WINDOW_S):
        while True:
            for process in agent.workers():
                with suppress(psutil.Error):
                    if "validate" in process.cmdline():
                        process.send_signal(number)
            await trio.sleep(LOOK_EVERY_S)


def _tell(times: Times, windows: dict[bool, list[tuple[float, float]]], number: int) -> None:
    for is_on in (False, True):
        found = times.gaps_ms(windows[is_on])
        seconds = sum(end - begin for begin, end in windows[is_on])
        if found:
            write_stdout(
                f"{number + 1} pairs, agent {'on ' if is_on else 'off'}: {at_share(found, 0.5):.1f}"
                f" and {at_share(found, 0.99):.1f} ms; {len(found)} tokens in {seconds:.0f} s\n"
            )
