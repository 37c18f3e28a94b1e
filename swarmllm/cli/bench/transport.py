"""Tokens per second between real node processes, at several distances and numbers of experts.

Every node announces only the address of a proxy in front of it, so whoever dials whom, all bytes
cross one proxy and take the one-way delay in each direction. The ceiling of strict mode is 1 /
(round trip + one decode step): both are measured in the same run, the round trip as an echo over
plain TCP through a proxy of the same kind, the step as K engines on this machine that decode at the
same time without any network. On one machine everything shares its cores: the processor time that
all processes take for a token, divided by the cores, is as long as a token can be short, so it is
measured too.
"""

from __future__ import annotations

import math
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import psutil
import trio

from swarmllm.adapters.limits import cores
from swarmllm.adapters.llama.engine import WORKER
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.bench.steps import step_seconds
from swarmllm.cli.demo_view import known
from swarmllm.cli.processes import Fleet, NodeProcess, open_fleet
from swarmllm.cli.rounds import uses
from swarmllm.errors import LocalError
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.service.record import Record
from swarmllm.testing.proxy import Link, open_proxy

START_S: Final = 90.0
ANSWER_S: Final = 120.0
ECHOES: Final = 20
WARM_UP: Final = 6  # Tokens: prompts are taken in and round trips learnt.
SECONDS_PER_CASE: Final = 8.0
TOKENS_MIN, TOKENS_MAX = 24, 128
PROMPT: Final = "It was a dark night, and the old man"
BYTES_GOAL: Final = 500.0
RATIO_GOAL: Final = 0.95
ENTRIES: Final = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """`delays_ms` are one-way."""

    delays_ms: Sequence[float]
    experts: Sequence[int]
    tokens_max: int


FULL: Final = Plan((0.0, 25.0, 100.0), (1, 2, 4), TOKENS_MAX)
QUICK: Final = Plan((0.0, 25.0), (1, 4), TOKENS_MIN)


@dataclass(frozen=True, slots=True)
class _Swarm:
    requester: NodeProcess
    experts: Sequence[NodeProcess]

    def processor_s(self) -> tuple[float, float]:
        """Seconds of processor time so far: of the engines, and of everything else (nodes, their
        tokenizers, proxies, and this process, which asks)."""
        engines = others = 0.0
        nodes = [psutil.Process(node.pid) for node in (self.requester, *self.experts)]
        below = [process for node in nodes for process in node.children(recursive=True)]
        for process in (psutil.Process(), *nodes, *below):
            times = process.cpu_times()
            if WORKER in process.cmdline():
                engines += times.user + times.system
            else:
                others += times.user + times.system
        return engines, others


@dataclass(frozen=True, slots=True)
class _Found:
    speed: Measurement
    burden: Measurement
    sizes: Sequence[float]


def id_set_bytes(entries: int, vocabulary: int) -> float:
    """The least a set of `entries` ids out of `vocabulary` can take: log2 of their number, in
    bytes."""
    nats = (
        math.lgamma(vocabulary + 1)
        - math.lgamma(entries + 1)
        - math.lgamma(vocabulary - entries + 1)
    )
    return nats / math.log(2) / 8


async def measure(
    plan: Plan, model: Path, cache_dir: Path, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    """Speed for every delay and K, then what each took of the processor, and the bytes of all those
    rounds."""
    steps: dict[int, float] = {}
    vocabulary = 0
    for k in plan.experts:
        say(f"decode step of {k} engines at once")
        steps[k], vocabulary = await step_seconds(k, model, cache_dir)
    sizes: list[float] = []
    burdens: list[Measurement] = []
    for delay_ms in plan.delays_ms:
        for found in await _at_distance(plan, delay_ms, model, cache_dir, steps, say):
            sizes += found.sizes
            burdens.append(found.burden)
            yield found.speed
    for burden in burdens:
        yield burden
    parameters = {"entries": ENTRIES, "vocabulary": vocabulary}
    mean, floor = sum(sizes) / len(sizes), id_set_bytes(ENTRIES, vocabulary)
    yield Measurement(
        "bytes per expert and token",
        mean,
        "bytes",
        floor,
        parameters,
        BYTES_GOAL,
        {"replies": len(sizes)},
    )


async def _at_distance(
    plan: Plan,
    delay_ms: float,
    model: Path,
    cache_dir: Path,
    steps: dict[int, float],
    say: Callable[[str], None],
) -> list[_Found]:
    """A swarm of its own for each distance, so that nothing learnt at another one helps or
    hurts."""
    link = Link(delay_s=delay_ms / 1000)
    say(f"{delay_ms:.0f} ms: round trip")
    rtt_s = await round_trip(link)
    with temporary_folder() as folder:
        async with _swarm(folder, max(plan.experts), link, model, cache_dir, say) as swarm:
            return [
                await _case(swarm, k, delay_ms, rtt_s, steps[k], plan.tokens_max, say)
                for k in plan.experts
            ]


async def _case(
    swarm: _Swarm,
    k: int,
    delay_ms: float,
    rtt_s: float,
    step_s: float,
    tokens_max: int,
    say: Callable[[str], None],
) -> _Found:
    ceiling = 1 / (rtt_s + step_s)
    say(f"{delay_ms:.0f} ms, K={k}: warming up")
    await _generate(swarm.requester, k, WARM_UP)
    tokens = int(min(tokens_max, max(TOKENS_MIN, SECONDS_PER_CASE * ceiling)))
    say(f"{delay_ms:.0f} ms, K={k}: {tokens} tokens")
    before = swarm.processor_s()
    times, records = await _generate(swarm.requester, k, tokens)
    used = [after - begun for after, begun in zip(swarm.processor_s(), before, strict=True)]
    parameters = {"k": k, "one_way_ms": delay_ms}
    details = {
        "round_trip_ms": round(rtt_s * 1000, 2),
        "step_ms": round(step_s * 1000, 2),
        "tokens": len(records),
        "full_rounds": sum(len(uses(r)) == k for r in records),
    }
    speed = Measurement(
        "speed of strict mode",
        (len(times) - 1) / (times[-1] - times[0]),
        "tokens/s",
        ceiling,
        parameters,
        RATIO_GOAL * ceiling,
        details,
    )
    sizes = [u["bytes"] for r in records for u in uses(r)]
    return _Found(speed, _burden(used, len(records), parameters), sizes)


def _burden(used: Sequence[float], tokens: int, parameters: Mapping[str, object]) -> Measurement:
    """`used`: seconds of the engines, and of everything else; the least is the engines' share."""
    engines_ms, others_ms = (1000 * seconds / tokens for seconds in used)
    total_ms = engines_ms + others_ms
    # What the cores would allow if none of them ever waited.
    details = {"cores": cores(), "cores_allow_tokens_per_s": round(1000 * cores() / total_ms, 1)}
    return Measurement(
        "processor time of a token", total_ms, "ms", engines_ms, parameters, None, details
    )


async def round_trip(link: Link) -> float:
    """Seconds: the median echo of a small message over plain TCP through a proxy with this link."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with open_proxy("127.0.0.1", listeners[0].socket.getsockname()[1], link) as proxy:
            async with await trio.open_tcp_stream(proxy.host, proxy.port) as stream:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                took = []
                for _ in range(ECHOES):
                    began = trio.current_time()
                    await stream.send_all(bytes(64))
                    await stream.receive_some(64)
                    took.append(trio.current_time() - began)
        nursery.cancel_scope.cancel()
    return median(took)


@asynccontextmanager
async def _swarm(
    folder: Path, experts: int, link: Link, model: Path, cache_dir: Path, say: Callable[[str], None]
) -> AsyncIterator[_Swarm]:
    """`experts` nodes with the model and one pure requester that knows them all."""
    async with AsyncExitStack() as stack:
        common = [
            "--swarm",
            f"bench-{secrets.token_hex(4)}",
            "--cache-dir",
            str(cache_dir),
            "--no-lan",
            "--listen",
            "127.0.0.1",
            "--threads",
            "1",
        ]
        fleet = await stack.enter_async_context(open_fleet(folder))
        nodes = [
            await start_behind_proxy(
                *(fleet, stack, f"expert {i}", link, [*common, "--model", str(model)])
            )
            for i in range(1, experts + 1)
        ]
        addresses: list[str] = []
        for i, node in enumerate(nodes, start=1):
            say(f"{link.delay_s * 1000:.0f} ms: starting expert {i} of {experts}")
            ready = await node.wait_for("listening", START_S)
            addresses += [argument for addr in ready["addrs"] for argument in ("--peer", addr)]
        requester = await start_behind_proxy(
            fleet, stack, "requester", link, [*common, "--model", "none", *addresses]
        )
        await requester.wait_for("ready", START_S)
        say(f"{link.delay_s * 1000:.0f} ms: waiting until all know each other")
        with trio.move_on_after(START_S):
            while len(known(requester, "expert")) < experts:
                await requester.change()
        if len(known(requester, "expert")) < experts:
            raise LocalError(
                f"the requester found {len(known(requester, 'expert'))} of {experts} experts within"
                f" {START_S:.0f} s{requester.last_words()}"
            )
        yield _Swarm(requester, nodes)


async def start_behind_proxy(
    fleet: Fleet, stack: AsyncExitStack, name: str, link: Link, arguments: Sequence[str]
) -> NodeProcess:
    """A node behind a proxy of its own, which is the only address that others are told."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        # Free a moment ago; the node says so if somebody was quicker.
        port: int = probe.getsockname()[1]
    proxy = await stack.enter_async_context(open_proxy("127.0.0.1", port, link))
    return await fleet.start(
        name, [*arguments, "--port", str(port), "--announce", f"/ip4/127.0.0.1/tcp/{proxy.port}"]
    )


async def _generate(
    requester: NodeProcess, k: int, tokens: int
) -> tuple[list[float], list[Record]]:
    """(arrival, record) of every token of one greedy answer with exactly K experts asked."""
    request = {
        "prompt": PROMPT,
        "k": k,
        "extra": 0,
        "max_tokens": tokens,
        "temperature": 0.0,
        "seed": 1,
        "speculation": "off",
    }
    times: list[float] = []
    records: list[Record] = []
    with trio.move_on_after(ANSWER_S):
        async with asking(requester.folder, "generate", **request) as answer:
            async for record in answer:
                if record["event"] == "token":
                    times.append(trio.current_time())
                    records.append(record)
    if len(times) < 2:
        raise LocalError(
            f"the requester made {len(times)} of {tokens} tokens within {ANSWER_S:.0f}"
            f" s{requester.last_words()}"
        )
    return times, records
