"""How long one decode step takes when K engines decode at the same time, without any network: the
other half of strict mode's ceiling."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

import trio

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.core.values import SessionKey
from swarmllm.errors import LocalError
from swarmllm.messages import NO_HALT_DIGEST, PeerId, Score, Scores
from swarmllm.wire import context

STEPS: Final = 60
WARM_UP: Final = 5
ENTRIES: Final = 256
FIRST: Final = tuple(range(100, 110))  # A prompt as long as the one that the swarm is asked with.
KEY: Final = SessionKey(PeerId("bench"), 1)


async def step_seconds(k: int, model: Path, cache_dir: Path) -> tuple[float, int]:
    """Median seconds until all of K engines, asked at once for one more token, have answered with
    their lists; and the size of the model's vocabulary."""
    options = EngineOptions(context_max=512, sessions_max=1, threads=1, cache_dir=str(cache_dir))
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(LlamaEngine(model, options)) for _ in range(k)]
        tokens, took = list(FIRST), []
        digests = context.digests(tokens)
        base = 0
        for step in range(STEPS + WARM_UP):
            request = Score(
                1,
                step,
                0,
                base,
                digests[base],
                tuple(tokens[base:]),
                (len(tokens) - base - 1,),
                (),
                ENTRIES,
                0,
                NO_HALT_DIGEST,
            )
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for engine in engines:
                    nursery.start_soon(_score, engine, request)
            took.append(trio.current_time() - began)
            base = len(tokens)
            tokens.append(100 + step)
            digests.append(context.extend(digests[-1], tokens[-1]))
        return median(took[WARM_UP:]), engines[0].card.vocab_size


async def _score(engine: LlamaEngine, request: Score) -> None:
    reply = await engine.score(KEY, request)
    if not isinstance(reply, Scores):
        raise LocalError(
            f"the engine answered {type(reply).__name__} where it should have scored one token;"
            " run the benchmark again"
        )
