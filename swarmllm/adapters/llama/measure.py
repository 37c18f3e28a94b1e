"""How fast the engine decodes through its whole port, beside llama.cpp alone doing the same
batches: the difference is what we cost.

"Alone" is a process that does nothing but llama_decode over the same shapes with logits for every
row, which is what llama.cpp's own batched benchmark (llama-batched-bench) times in its generation
phase: decode and synchronise, no sampling, no reading of logits. The port does everything a
requester sees: the order over the pipe, batching, a list of 256 entries from all logits, the reply,
and the next order only after it. The machine may be busy with other things, so both take short
turns, and the median of the turns' ratios counts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgpack
import trio

from swarmllm.adapters.llama.engine import LlamaEngine, environment
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.lease import Lease
from swarmllm.core.values import SessionKey
from swarmllm.errors import LocalError
from swarmllm.messages import NO_CONTROL, PeerId, Score, Scores
from swarmllm.wire import context

SESSIONS: Final = (1, 8, 16)
PROMPT: Final = 64  # Tokens that each session holds before it is timed.
TURNS: Final = 5
TURN_STEPS: Final = 24
ENTRIES: Final = 256


@dataclass(frozen=True, slots=True)
class EngineFigure:
    """Decode tokens/s of all `sessions` together: through the port, llama.cpp alone with the
    engine's settings, and llama.cpp alone with its own defaults (what being reproducible costs
    shows in the difference). `share` is engine / alone, the median over turns."""

    sessions: int
    engine_tokens_per_s: float
    alone_tokens_per_s: float
    defaults_tokens_per_s: float
    share: float


async def measure_engine(
    model: Path,
    options: EngineOptions | None = None,
    sessions: Sequence[int] = SESSIONS,
    turns: int = TURNS,
    steps: int = TURN_STEPS,
) -> AsyncIterator[EngineFigure]:
    """One figure for each number of sessions. LocalError if the model cannot be loaded or memory is
    short."""
    most = max(sessions)
    chosen = replace(options or EngineOptions(), sessions_max=most, sessions_exact=True)
    chosen = replace(chosen, context_max=min(chosen.context_max, PROMPT + turns * steps + 1))
    async with LlamaEngine(model, chosen) as engine:
        with (
            _Alone(model, chosen) as alone,
            _Alone(model, replace(chosen, reproducible=False)) as defaults,
        ):
            for count in sessions:
                yield await _figure(engine, alone, defaults, count, turns, steps)


async def _figure(
    engine: LlamaEngine, alone: _Alone, defaults: _Alone, count: int, turns: int, steps: int
) -> EngineFigure:
    port: list[float] = []
    bare: list[float] = []
    plain: list[float] = []
    texts = [[(7 * n + 13 * i) % 251 for i in range(PROMPT)] for n in range(count)]
    hashes = [context.digests(text)[-1] for text in texts]
    for n, text in enumerate(texts):
        reply = await engine.score(
            SessionKey(PeerId("bench"), n), _round(n, 0, context.EMPTY, text, ())
        )
        if not isinstance(reply, Scores):
            raise LocalError(
                f"the engine answered a prompt of {PROMPT} tokens with {type(reply).__name__}:"
                " see the log"
            )
    await trio.to_thread.run_sync(alone.run, count, 2)  # Not counted: its prompt.
    await trio.to_thread.run_sync(defaults.run, count, 2)
    for _ in range(turns):
        bare.append(count * steps / await trio.to_thread.run_sync(alone.run, count, steps))
        plain.append(count * steps / await trio.to_thread.run_sync(defaults.run, count, steps))
        begun = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for n in range(count):
                nursery.start_soon(_answer, engine, n, texts, hashes, steps)
        port.append(count * steps / (time.perf_counter() - begun))
    for n in range(count):
        engine.close(SessionKey(PeerId("bench"), n))
    median = statistics.median
    share = median(p / b for p, b in zip(port, bare, strict=True))
    return EngineFigure(count, median(port), median(bare), median(plain), share)


def _round(
    session: int, base: int, digest: bytes, tokens: Sequence[int], answer: tuple[int, ...]
) -> Score:
    return Score(session, 0, 0, base, digest, tuple(tokens), answer, (), ENTRIES, 0, NO_CONTROL)


async def _answer(
    engine: LlamaEngine, session: int, texts: list[list[int]], hashes: list[bytes], steps: int
) -> None:
    """One requester: each token only after the list for the one before."""
    text = texts[session]
    for _ in range(steps):
        token = (text[-1] * 31 + len(text)) % 251
        reply = await engine.score(
            SessionKey(PeerId("bench"), session),
            _round(session, len(text), hashes[session], (token,), (0,)),
        )
        if not isinstance(reply, Scores):
            raise LocalError(
                f"the engine answered a decode step with {type(reply).__name__}: see the log"
            )
        text.append(token)
        hashes[session] = context.extend(hashes[session], token)


# --- llama.cpp alone ------------------------------------------------------------------------------


class _Alone:
    """A process that decodes batches and does nothing else. Synchronous: one line in, one line
    out."""

    def __init__(self, model: Path, options: EngineOptions) -> None:
        self._start = msgpack.packb([str(model), options.packed()]).hex()
        self._options = options

    def __enter__(self) -> _Alone:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "swarmllm.adapters.llama.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(self._options),
        )
        self._exchange(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, sessions: int, steps: int) -> float:
        """Seconds for so many steps of one token in each of so many sessions."""
        return float(self._exchange(f"{sessions} {steps}"))

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
    from swarmllm.core.serving.rows import Rows

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
    held: dict[int, int] = {}

    def step(count: int) -> None:
        rows = Rows(
            [(7 * s + 13 * held[s]) % 251 for s in range(count)],
            [held[s] for s in range(count)],
            [*range(count)],
            [True] * count,
        )
        model.decode(rows)
        for s in range(count):
            held[s] += 1

    for line in sys.stdin:
        count, steps = map(int, line.split())
        if set(held) != set(range(count)) or held[0] + steps > options.context_max:
            held = _prefill(model, count)
        begun = time.perf_counter()
        for _ in range(steps):
            step(count)
        print(time.perf_counter() - begun, flush=True)


def _prefill(model: Any, count: int) -> dict[int, int]:
    from swarmllm.core.serving.rows import Rows

    for s in range(count):
        model.forget(s, 0)
        model.decode(
            Rows(
                [(7 * s + 13 * i) % 251 for i in range(PROMPT)],
                [*range(PROMPT)],
                [s] * PROMPT,
                [False] * PROMPT,
            )
        )
    return dict.fromkeys(range(count), PROMPT)


if __name__ == "__main__":
    main()
