"""What the HTTP API costs, and what many streams at once do to a node: a real node in this process,
with its engine's worker and its clients in processes of their own.

*Its own time per token* is what the node's thread computes for a token that is streamed over HTTP,
less what it computes for one that `node.generate` gives: processor time of that thread alone, so
that other programs do not count. Both are measured in turns, and the median of the pairs counts.
What a request costs whatever its length is in it, and told beside it. *Lag* is how late a timer
fires that is set again and again while the streams run; an order to halt waits as long as a timer
does. Other programs on the machine make it longer, so a *turn* is told beside it: the processor
time between two looks at sockets and timers, which is what the node itself adds to a lag. *Halt*
is from a signed order at the node to the last byte of the last stream, as its client saw it.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import trio

from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.assembly import Parts, configure, open_node
from swarmllm.cli import collector
from swarmllm.cli.bench.api_load import Seen
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.core.wording import several
from swarmllm.errors import LocalError
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.service import Service

STREAMS: Final = 64  # As many requests as the API takes at once.
CONTEXT: Final = 512
LOOK_EVERY_S: Final = 0.002
OVERHEAD_GOAL_MS: Final = 0.3
LAG_GOAL_MS: Final = 50.0
HALT_GOAL_MS: Final = 1000.0
HALT_AFTER_S: Final = 2.0  # From the first token of all streams.
HALT_TOKENS: Final = 450  # Nearly all that the context holds: none ends before the order.
START_S: Final = 60.0
WARM_UP: Final = 5  # Tokens that are not counted.
# Of a stream in each of the pairs. One stream makes as many tokens as the context holds, since a
# collection of garbage more or less is much beside a hundred of them.
PAIRS, PAIRS_QUICK = 7, 2
OVERHEAD_TOKENS: Final = {1: 400, STREAMS: 40}
CLIENT: Final = "swarmllm.cli.bench.api_load"

Say = Callable[[str], None]


@dataclass(slots=True)
class Bench:
    """The node that is measured."""

    ring: Ring
    node: LocalNode
    service: Service
    port: int
    clients: Clients


class Clients:
    """A process that asks as often as it is told to."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._found = process.stdin, process.stdout

    async def load(self, streams: int, tokens: int) -> list[Seen]:
        await self._orders.send_all(f"{streams} {tokens}\n".encode())
        line = b""
        while not line.endswith(b"\n"):
            more = await self._found.receive_some()
            if not more:
                raise LocalError("the clients of the benchmark ended before they had answered")
            line += more
        return [Seen(**one) for one in json.loads(line)]


class Turns(trio.abc.Instrument):
    """The processor time of each turn of the event loop, in seconds."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self._began_s = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        self.took_s.append(time.thread_time() - self._began_s)

    def after_io_wait(self, timeout: float) -> None:
        self._began_s = time.thread_time()


@dataclass(frozen=True, slots=True)
class Load:
    """How late timers fired while streams were written, and how long turns were."""

    lags_s: list[float]
    turns_s: list[float]


async def measure(
    model: Path, cache_dir: Path, tokens: int, pairs: int, say: Say
) -> AsyncGenerator[Measurement]:
    say("an idle event loop")
    idle = await lags_of(partial(trio.sleep, 1.0))
    async with opened(model, cache_dir, say) as bench:
        await embedded_ms(bench.node, 1, WARM_UP)
        # The server itself is loaded with the first connection.
        await bench.clients.load(1, WARM_UP)
        for streams, count in OVERHEAD_TOKENS.items():
            yield await overhead(bench, streams, min(tokens * 4, count), pairs, say)
        say(f"{STREAMS} answers over HTTP")
        load = await loaded(bench, STREAMS, tokens)
        for share in (50, 99, 100):
            yield lag(share, load.lags_s, idle)
        yield longest_turn(load.turns_s)
        say("a halt while the answers are written")
        yield await halted(bench)


@asynccontextmanager
async def opened(model: Path, cache_dir: Path, say: Say) -> AsyncIterator[Bench]:
    """A node as `swarmllm join` starts it, under a charter of its own, with nobody else."""
    services: list[Service] = []

    def http(service: Service, options: Options) -> AbstractAsyncContextManager[str]:
        services.append(service)
        return serving(service, options, collector.leave_alone)

    async with AsyncExitStack() as stack:
        folder, ring = stack.enter_context(temporary_folder()), Ring()
        options = Options("127.0.0.1", 0, (), (), (), folder / TOKEN_FILE)
        config = configure(
            data_dir=str(folder / "node"),
            cache_dir=str(cache_dir),
            model=str(model),
            charter=str(ring.write(folder / "charter")),
            listen_host="127.0.0.1",
            port=0,
            lan=False,
            offline=True,
            sessions_max=STREAMS,
            context_max=CONTEXT,
        )
        say("starting a node")
        parts = Parts(http=partial(http, options=options))
        node = await stack.enter_async_context(open_node(config, parts=parts))
        if not await node.wait_ready(1, START_S):
            raise LocalError(f"the node of the benchmark was not ready within {START_S:.0f} s")
        collector.leave_alone()
        [service] = services
        port = int(service.http.rpartition(":")[2])
        clients = await stack.enter_async_context(clients_of(port))
        yield Bench(ring, node, service, port, clients)


@asynccontextmanager
async def clients_of(port: int) -> AsyncIterator[Clients]:
    words = [sys.executable, "-P", "-m", CLIENT, str(port)]
    process = await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    clients = Clients(process)
    try:
        yield clients
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


# --- answers --------------------------------------------------------------------------------------


async def embedded_ms(node: LocalNode, streams: int, tokens: int) -> float:
    """Milliseconds that the node's thread computes for a token of the embedding API."""
    made = 0

    async def read(seed: int) -> None:
        nonlocal made
        answer = node.generate(
            "It was a dark night, and the old man",
            **{"k": 1, "extra": 0, "max_tokens": tokens, "seed": seed, "temperature": 1.0},  # type: ignore[arg-type]
        )
        async for _ in answer:
            made += 1

    began_s = time.thread_time()
    async with trio.open_nursery() as nursery:
        for seed in range(streams):
            nursery.start_soon(read, seed)
    return 1000 * (time.thread_time() - began_s) / made


async def http_ms(bench: Bench, streams: int, tokens: int) -> tuple[float, list[Seen]]:
    """The same for one that is streamed over HTTP, and what the clients saw."""
    began_s = time.thread_time()
    found = await bench.clients.load(streams, tokens)
    took_s = time.thread_time() - began_s
    check(found)
    return 1000 * took_s / sum(one.events for one in found), found


async def loaded(bench: Bench, streams: int, tokens: int) -> Load:
    """What it does to the event loop."""
    found: list[Seen] = []

    async def read() -> None:
        found.extend(await bench.clients.load(streams, tokens))

    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    lags_s = await lags_of(read)
    trio.lowlevel.remove_instrument(turns)
    check(found)
    return Load(lags_s, turns.took_s)


def check(found: Sequence[Seen]) -> None:
    if not all(one.is_done for one in found):
        raise LocalError("a stream of the benchmark broke off; run it again")


async def lags_of(work: Callable[[], Awaitable[None]]) -> list[float]:
    """How late timers were, in seconds, while this was done."""
    lags: list[float] = []

    async def look() -> None:
        while True:
            due_at = trio.current_time() + LOOK_EVERY_S
            await trio.sleep_until(due_at)
            lags.append(trio.current_time() - due_at)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await work()
        nursery.cancel_scope.cancel()
    return lags


async def halted(bench: Bench) -> Measurement:
    """From the order to the last byte of the last stream."""
    found: list[Seen] = []
    began_at = 0.0

    async def order() -> None:
        nonlocal began_at
        while bench.node.view().answers_open < STREAMS:  # noqa: ASYNC110  It has no event.
            await trio.sleep(0.05)
        await trio.sleep(HALT_AFTER_S)
        _, record = bench.ring.halt()
        began_at = time.monotonic()
        question = {"records": [record.hex()], "wait_s": 0}
        async with bench.service.call("halt_publish", question) as records:
            async for _ in records:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(order)
        found = await bench.clients.load(STREAMS, HALT_TOKENS)
    if not all(one.is_halted for one in found):
        raise LocalError("a stream of the benchmark ended otherwise than by the halt; run it again")
    took = [1000 * (one.last_at - began_at) for one in found]
    details = {"median_ms": round(float(np.median(took)), 2), "first_ms": round(min(took), 2)}
    return Measurement(
        *("halt: to the last byte of the last stream", max(took), "ms", min(took)),
        {"streams": STREAMS},
        HALT_GOAL_MS,
        details,
    )


# --- figures --------------------------------------------------------------------------------------


async def overhead(bench: Bench, streams: int, tokens: int, pairs: int, say: Say) -> Measurement:
    """The median of pairs, with the least and the most of them."""
    bare: list[float] = []
    over: list[float] = []
    requests: list[float] = []
    found: list[Seen] = []
    for pair in range(pairs):
        say(f"{several(streams, 'answer')} with and without HTTP, pair {pair + 1} of {pairs}")
        for is_http in (True, False) if pair % 2 else (False, True):
            if is_http:
                took_ms, found = await http_ms(bench, streams, tokens)
                over.append(took_ms)
            else:
                bare.append(await embedded_ms(bench.node, streams, tokens))
        whole_ms, seen = await http_ms(bench, streams, 1)
        events = sum(one.events for one in seen) / streams
        requests.append(whole_ms * events - await embedded_ms(bench.node, streams, 1))
    gaps = [a - b for a, b in zip(over, bare, strict=True)]
    made, took_s = sum(s.events for s in found), max(s.last_at for s in found) - found[0].began_at
    size = sum(s.size_bytes for s in found) // made
    details = {
        "least_ms": round(min(gaps), 3),
        "most_ms": round(max(gaps), 3),
        "http_ms": round(statistics.median(over), 3),
        "embedded_ms": round(statistics.median(bare), 3),
        "request_ms": round(statistics.median(requests), 3),
        "tokens": made * pairs,
        "tokens_per_s": round(made / took_s, 1),
        "bytes_per_token": size,
    }
    return Measurement(
        *("API's own time per token", statistics.median(gaps), "ms", least_ms(size)),
        {"streams": streams},
        OVERHEAD_GOAL_MS,
        details,
    )


def least_ms(size: int) -> float:
    """What the kernel alone takes to carry the bytes of a token through a socket."""
    rounds = 2000
    here, there = socket.socketpair()
    with here, there:
        began_s = time.thread_time()
        for _ in range(rounds):
            here.send(bytes(size))
            there.recv(size)
        return 1000 * (time.thread_time() - began_s) / rounds


def lag(share: int, lags_s: Sequence[float], idle_s: Sequence[float]) -> Measurement:
    name = "max" if share == 100 else f"p{share}"
    return Measurement(
        "event loop's lag",
        1000 * float(np.percentile(lags_s, share)),
        "ms",
        1000 * float(np.percentile(idle_s, share)),
        {"streams": STREAMS, "of timers": name},
        LAG_GOAL_MS if share == 100 else None,
        {"timers": len(lags_s)},
    )


def longest_turn(turns_s: Sequence[float]) -> Measurement:
    """Beside a turn that does nothing but look."""
    busy = [one for one in turns_s if one > 0] or [0.0]
    details = {
        "median_ms": round(1000 * float(np.median(busy)), 3),
        "p99_ms": round(1000 * float(np.percentile(busy, 99)), 3),
        "turns": len(turns_s),
    }
    return Measurement(
        *("longest turn of the event loop", 1000 * max(busy), "ms", 1000 * min(busy)),
        {"streams": STREAMS},
        LAG_GOAL_MS,
        details,
    )
