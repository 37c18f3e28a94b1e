"""How fast the engine computes through its whole port, beside llama.cpp alone doing the same
batches: the difference is what we cost.

"Alone" is a process that does nothing but llama_decode over the same shapes with logits for every
row, which is what llama.cpp's own batched benchmark (llama-batched-bench) times in its generation
phase: decode and synchronise, no sampling, no reading of logits; with llama.cpp's own defaults, in
an environment that we leave as it is. The port does everything a requester sees: the order over the
pipe, batching, a list of 256 entries from all logits, the reply, and the next order only after it.
The machine may be busy with other things, so both take short turns, and the median of the turns'
ratios counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgpack
import trio

from swarmllm.adapters.llama.engine import LlamaEngine, environment
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.lease import Lease
from swarmllm.core.values import SessionKey
from swarmllm.errors import LocalError
from swarmllm.messages import NO_HALT_DIGEST, PeerId, Score, Scores
from swarmllm.wire import context

SESSIONS: Final = (1, 8, 16)
DRAFTS: Final = (4, 8, 14)  # Positions that are verified at once.
PROMPT: Final = 64  # Tokens that each session holds before it is timed.
TURNS: Final = 5
TURN_STEPS: Final = 24
ENTRIES: Final = 256


@dataclass(frozen=True, slots=True)
class DecodeFigure:
    """Decode tokens/s of all `sessions` together: through the port, and llama.cpp alone. `share` is
    engine / alone, `reproducible_share` llama.cpp alone with the settings under which answers are
    the same to the bit / alone; both the median over turns."""

    sessions: int
    engine_tokens_per_s: float
    alone_tokens_per_s: float
    share: float
    reproducible_share: float


@dataclass(frozen=True, slots=True)
class DraftFigure:
    """Milliseconds until the lists of so many drafted positions of one session are there, through
    the port and for llama.cpp alone, and each as a multiple of one decode step of its own; the
    median over turns."""

    positions: int
    engine_ms: float
    alone_ms: float
    engine_steps: float
    alone_steps: float


async def measure_engine(
    model: Path,
    options: EngineOptions | None = None,
    turns: int = TURNS,
    steps: int = TURN_STEPS,
) -> AsyncIterator[DecodeFigure | DraftFigure]:
    """A figure for each number of `SESSIONS`, then for each of `DRAFTS`. LocalError if the model
    cannot be loaded or memory is short."""
    wanted = replace(options or EngineOptions(), sessions_max=max(SESSIONS), sessions_exact=True)
    wanted = replace(
        wanted, context_max=min(wanted.context_max, PROMPT + turns * steps + max(DRAFTS))
    )
    async with LlamaEngine(model, wanted) as engine:
        asker = _Asker(engine)
        exact = replace(wanted, reproducible=True)
        with _Alone(model, wanted, dict(os.environ)) as alone:
            with _Alone(model, exact, environment(exact)) as slower:
                for count in SESSIONS:
                    yield await _decode_figure(asker, alone, slower, count, turns, steps)
            for positions in DRAFTS:
                yield await _draft_figure(asker, alone, positions, turns, steps)


async def _decode_figure(
    asker: _Asker, alone: _Alone, slower: _Alone, count: int, turns: int, steps: int
) -> DecodeFigure:
    await asker.begin(count)
    bare, exact, port = [], [], []
    for side in (alone, slower):
        await side.run(count, 2, 1)  # Not counted: its prompt.
    for _ in range(turns):
        bare.append(count * steps / await alone.run(count, steps, 1))
        exact.append(count * steps / await slower.run(count, steps, 1))
        port.append(count * steps / await asker.decode(steps))
    asker.end()
    share, price = _ratio(port, bare), _ratio(exact, bare)
    return DecodeFigure(count, median(port), median(bare), share, price)


async def _draft_figure(
    asker: _Asker, alone: _Alone, positions: int, turns: int, steps: int
) -> DraftFigure:
    await asker.begin(1)
    await alone.run(1, 2, positions)
    port, port_step, bare, bare_step = [], [], [], []
    for _ in range(turns):
        bare_step.append(await alone.run(1, steps, 1) / steps)
        bare.append(await alone.run(1, steps, positions) / steps)
        port_step.append(await asker.decode(steps) / steps)
        port.append(await asker.verify(steps, positions) / steps)
    asker.end()
    multiples = _ratio(port, port_step), _ratio(bare, bare_step)
    return DraftFigure(positions, 1000 * median(port), 1000 * median(bare), *multiples)


def _ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return median(value / other for value, other in zip(values, others, strict=True))


# --- through the port ---


class _Asker:
    """So many requesters of one engine, each of whom asks for the next list after the last."""

    def __init__(self, engine: LlamaEngine) -> None:
        self._engine = engine
        self._texts: list[list[int]] = []
        self._hashes: list[bytes] = []

    async def begin(self, count: int) -> None:
        self._texts = [[(7 * n + 13 * i) % 251 for i in range(PROMPT)] for n in range(count)]
        self._hashes = [context.digests(text)[-1] for text in self._texts]
        for n, text in enumerate(self._texts):
            await self._ask(n, 0, context.EMPTY, text, ())

    def end(self) -> None:
        for n in range(len(self._texts)):
            self._engine.close(SessionKey(PeerId("bench"), n))

    async def decode(self, steps: int) -> float:
        """Seconds until every session has so many tokens more."""
        begun = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for n in range(len(self._texts)):
                nursery.start_soon(self._continue, n, steps)
        return time.perf_counter() - begun

    async def _continue(self, n: int, steps: int) -> None:
        text = self._texts[n]
        for _ in range(steps):
            token = (text[-1] * 31 + len(text)) % 251
            await self._ask(n, len(text), self._hashes[n], (token,), (0,))
            text.append(token)
            self._hashes[n] = context.extend(self._hashes[n], token)

    async def verify(self, steps: int, positions: int) -> float:
        """Seconds until session 0 has had so many drafts of so many positions answered, each of
        them rejected: the text stays as it is."""
        base, digest = len(self._texts[0]), self._hashes[0]
        begun = time.perf_counter()
        for step in range(steps):
            draft = [(step + 31 * i) % 251 for i in range(positions)]
            await self._ask(0, base, digest, draft, range(positions))
        return time.perf_counter() - begun

    async def _ask(
        self, n: int, base: int, digest: bytes, tokens: Sequence[int], answer: Sequence[int]
    ) -> None:
        wanted = (tuple(tokens), tuple(answer), (), ENTRIES, 0, NO_HALT_DIGEST)
        reply = await self._engine.score(
            SessionKey(PeerId("bench"), n), Score(n, 0, 0, base, digest, *wanted)
        )
        if not isinstance(reply, Scores) or len(reply.lists) != len(answer):
            raise LocalError(
                f"the engine answered {len(tokens)} tokens with {type(reply).__name__}: see the log"
            )


# --- llama.cpp alone ------------------------------------------------------------------------------


class _Alone:
    """A process that decodes batches and does nothing else. Synchronous: one line in, one line
    out."""

    def __init__(self, model: Path, options: EngineOptions, environ: dict[str, str]) -> None:
        self._start = msgpack.packb([str(model), options.packed()]).hex()
        self._environ = environ

    def __enter__(self) -> _Alone:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "swarmllm.adapters.llama.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environ,
        )
        self._exchange(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    async def run(self, sessions: int, steps: int, rows: int) -> float:
        """Seconds for so many steps of `rows` tokens in each of so many sessions. More than one are
        forgotten after each step, like a rejected draft."""
        line = f"{sessions} {steps} {rows}"
        return float(await trio.to_thread.run_sync(self._exchange, line))

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise LocalError(
                f"the process that measures llama.cpp alone ended with code {self._process.wait()}:"
                " is the model too large?"
            )
        return answer


def main() -> None:
    """The other side of `_Alone`."""
    from swarmllm.adapters.llama import llama_api
    from swarmllm.adapters.llama.gguf_file import read_model_file

    path, fields = msgpack.unpackb(bytes.fromhex(input()))
    options = EngineOptions.unpacked(fields)
    llama_api.capture_log()
    lease = Lease.create()
    model = llama_api.LlamaModel(
        Path(path),
        read_model_file(Path(path)),
        options,
        options.context_max,
        options.sessions_max,
        lease.abort_address,
    )
    print("ready", flush=True)
    held, count = 0, 0
    for line in sys.stdin:
        wanted, steps, rows = map(int, line.split())
        if wanted != count or held + steps + rows > options.context_max:
            count, held = wanted, _prefill(model, wanted)
        begun = time.perf_counter()
        for _ in range(steps):
            _step(model, count, held, rows)
            held += rows == 1
        print(time.perf_counter() - begun, flush=True)


def _step(model: Any, count: int, held: int, size: int) -> None:
    from swarmllm.core.serving.rows import Rows

    rows = Rows()
    for s in range(count):
        for position in range(held, held + size):
            rows.add((7 * s + 13 * position) % 251, position, s, True)
    is_lone = len(rows.tokens) < model.rows_min
    if is_lone:
        rows.add(0, held + 1, 0, True)  # Company, as in `core.serving.rows`.
    model.decode(rows)
    if size > 1 or is_lone:
        for s in range(count):
            model.forget(s, held + (size == 1))


def _prefill(model: Any, count: int) -> int:
    """Give each session its prompt; how many tokens they hold then."""
    from swarmllm.core.serving.rows import Rows

    tokens, positions, none = [*range(PROMPT)], [*range(PROMPT)], [False] * PROMPT
    for s in range(count):
        model.forget(s, 0)
        model.decode(Rows([(7 * s + 13 * i) % 251 for i in tokens], positions, [s] * PROMPT, none))
    return PROMPT


if __name__ == "__main__":
    main()
