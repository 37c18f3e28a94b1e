"""Measurements that no other command makes, for the page of evidence and for docs/performance.md:
each prints one JSON object a line.

    python -m scripts.evidence_probes lan [RUNS]      # how soon three processes know each other
    python -m scripts.evidence_probes yield [RUNS]    # how soon an owner has the machine back
"""

from __future__ import annotations

import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import trio

from swarmllm.adapters.llama.engine import WORKER
from swarmllm.cli.output import print_record
from swarmllm.cli.processes import Fleet, NodeProcess, open_fleet
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.record import Record

START_S: Final = 120.0
PATIENCE_S: Final = 180.0
NODES: Final = 3
BEHIND: Final = ("nice", "-n", "5")  # Not counted as the owner's work, by those who yield to it.
AT: Final = 20  # The token at which the owner comes back.
TOKENS: Final = 500
SAMPLE_S: Final = 0.01
WATCH_S: Final = 2.0
BURN: Final = (sys.executable, "-c", "while True: pass")


# --- a swarm on one network -----------------------------------------------------------------------


async def lan(runs: int) -> None:
    """Seconds from the moment that the last of three processes listens until each knows the two
    others, found by multicast alone (on loopback, where every machine has it)."""
    found = []
    for _ in range(runs):
        found.append(await _meeting())
        print_record({"event": "lan", "nodes": NODES, "seconds": round(found[-1], 3)})
    _sum_up("lan_summary", found)


async def _meeting() -> float:
    swarm = f"lan-{secrets.token_hex(4)}"
    where = ("--listen", "127.0.0.1", "--port", "0")
    arguments = ("--model", "none", "--swarm", swarm, "--no-api", *where)
    with tempfile.TemporaryDirectory(prefix="swarmllm-lan-") as folder:
        async with open_fleet(Path(folder)) as fleet:
            nodes = [await fleet.start(f"node {n}", arguments) for n in range(NODES)]
            listening = [await node.wait_for("listening", START_S) for node in nodes]
            for node in nodes:
                await node.wait_for("ready", START_S)
            met = [await _knows_all(node, nodes) for node in nodes]
    return max(0.0, max(met) - max(float(record["time"]) for record in listening))


async def _knows_all(node: NodeProcess, nodes: Sequence[NodeProcess]) -> float:
    """When it had found the last of the others, in Unix time."""
    others = {other.peer for other in nodes} - {node.peer}
    times = [
        await node.wait_for("peer_found", START_S, partial(_is_of, peer=peer))
        for peer in sorted(others)
    ]
    return max(float(record["time"]) for record in times)


def _is_of(record: Record, peer: str) -> bool:
    return bool(record["peer"] == peer)


# --- the owner's machine --------------------------------------------------------------------------


async def yielding(runs: int) -> None:
    """An answer by two holders of one model, in the middle of which two programs want both cores of
    the first one's machine: how soon it pauses, how soon its worker computes nothing any more, and
    whether the text is that of an answer that nobody disturbed."""
    swarm = f"yield-{secrets.token_hex(4)}"
    common = ("--swarm", swarm, "--no-lan", "--listen", "127.0.0.1", "--port", "0", "--no-api")
    model = ("--model", "llama3-demo:prose", "--threads", "1", "--reproducible")
    with tempfile.TemporaryDirectory(prefix="swarmllm-yield-") as folder:
        async with open_fleet(Path(folder)) as fleet:
            lender = await fleet.start("lender", (*common, *model, "--yield-to-owner"))
            first = await _peer_option(lender)
            asker = await fleet.start("asker", (*common, "--model", "none", *first), BEHIND)
            # Nobody dials a loopback address that another node has told of.
            both = (*first, *await _peer_option(asker))
            await fleet.start("other", (*common, *model, *both), BEHIND)
            for node in fleet.nodes:
                await node.wait_for("ready", START_S)
            pauses, quiets = await _returns(fleet, lender, asker, runs)
    _sum_up("yield_summary", pauses, quiet=quiets)


async def _peer_option(node: NodeProcess) -> tuple[str, str]:
    return "--peer", (await node.wait_for("listening", START_S))["addrs"][0]


async def _returns(
    fleet: Fleet, lender: NodeProcess, asker: NodeProcess, runs: int
) -> tuple[list[float], list[float]]:
    pauses, quiets = [], []
    await _serving(lender, asker)
    alone = await _written(asker, lambda: None)
    for _ in range(runs):
        await _serving(lender, asker)
        owner = _Owner(_worker_of(lender))
        try:
            async with trio.open_nursery() as nursery:
                text = await _written(asker, partial(nursery.start_soon, owner.work))
        finally:
            owner.leave()
        paused = await lender.wait_for(
            "serving_paused", PATIENCE_S, partial(_is_later, at=owner.came_at)
        )
        pauses.append(float(paused["time"]) - owner.came_at)
        quiets.append(owner.quiet_s)
        told = {"pause_s": round(pauses[-1], 3), "worker_quiet_s": round(quiets[-1], 3)}
        is_whole = text == alone
        print_record({"event": "yield", **told, "text_unchanged": is_whole, "tokens": TOKENS})
    return pauses, quiets


def _is_later(record: Record, at: float) -> bool:
    return float(record["time"]) >= at


class _Owner:
    """Two programs that want all they can get, and a look at when the worker last computed."""

    def __init__(self, worker: psutil.Process) -> None:
        self._worker = worker
        self._programs: list[subprocess.Popen[bytes]] = []
        self.came_at = self.quiet_s = 0.0

    async def work(self) -> None:
        self.came_at, begun = time.time(), time.monotonic()
        self._programs = [subprocess.Popen(BURN) for _ in range(2)]  # noqa: ASYNC220  Milliseconds.
        used = self._used()
        while time.monotonic() - begun < WATCH_S:
            await trio.sleep(SAMPLE_S)
            before, used = used, self._used()
            if used > before:
                self.quiet_s = time.monotonic() - begun

    def _used(self) -> float:
        times = self._worker.cpu_times()
        return float(times.user + times.system)

    def leave(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()


def _worker_of(node: NodeProcess) -> psutil.Process:
    (worker,) = (process for process in node.workers() if WORKER in process.cmdline())
    return worker


async def _serving(lender: NodeProcess, asker: NodeProcess) -> None:
    """Until the lender serves and the asker can ask both."""
    with trio.fail_after(PATIENCE_S):
        while True:
            paused = (await ask(lender.folder, "status"))["paused"]
            experts = (await ask(asker.folder, "experts"))["experts"]
            usable = [one for one in experts if one["connected"] and one["sessions_max"]]
            if not paused and len(usable) == 2:
                return
            await trio.sleep(0.5)


async def _written(asker: NodeProcess, act: Callable[[], None]) -> str:
    """One greedy answer of both holders; `act` is called once in its middle."""
    request = {"prompt": "The quick brown fox", "k": 2, "extra": 0, "speculation": "off"}
    request |= {"max_tokens": TOKENS, "temperature": 0.0}
    with trio.fail_after(PATIENCE_S):
        async with asking(asker.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "token" and record["index"] == AT:
                    act()
                elif record["event"] == "end":
                    assert record["reason"] in {"length", "eos"}, record
                    return str(record["text"])
    raise AssertionError("an answer without an end")


# --- all ------------------------------------------------------------------------------------------


def _sum_up(event: str, seconds: Sequence[float], **more: Sequence[float]) -> None:
    told: dict[str, Any] = {"runs": len(seconds), **_spread(seconds)}
    told |= {
        f"{name}_{key}": value
        for name, all_ in more.items()
        for key, value in _spread(all_).items()
    }
    print_record({"event": event, **told})


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"median_s": round(statistics.median(seconds), 3), "worst_s": round(max(seconds), 3)}


def main(words: Sequence[str]) -> None:
    match words:
        case ["lan", *runs]:
            trio.run(lan, int(runs[0]) if runs else 20)
        case ["yield", *runs]:
            trio.run(yielding, int(runs[0]) if runs else 5)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
