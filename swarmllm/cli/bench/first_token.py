"""Time to the first token between real node processes, by the length of the prompt.

Before its first token an answer has to send the prompt and to have it read by all experts that are
weighed; so the least is one round trip and what the remote engines take for such a prompt without
any network: both are measured in the same run. (The requester's own expert reads it while it
travels.) These engines read it at the same time, on the cores that they share in the swarm too, and
say the same of it, a list and the log-probabilities of the last `EVIDENCE_MAX` tokens. Prompts are
token ids, so that their lengths are exact, and all are different, so that nobody has read any of
them before.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

import trio

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.models.library import bring
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.bench.report import Measurement
from swarmllm.cli.bench.speculation import open_swarm
from swarmllm.cli.bench.steps import ENTRIES, KEY
from swarmllm.cli.bench.transport import ANSWER_S, round_trip
from swarmllm.cli.processes import NodeProcess
from swarmllm.core.decoding.ensemble import EVIDENCE_MAX
from swarmllm.errors import LocalError
from swarmllm.messages import NO_HALT_DIGEST, Score, Scores
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import asking
from swarmllm.runtime.model_reference import DemoExpert
from swarmllm.testing.proxy import Link
from swarmllm.wire import context

EXPERTS: Final = ("prose", "prose-small", "code", "ops")  # The first is the requester's own.
LENGTHS: Final = (16, 256, 1023)
"""With the token that begins every text. The demo experts take no more than 1,024, and the answer
has one."""
ANSWERS, ANSWERS_QUICK = 9, 3
ONE_WAY_MS: Final = 100.0
GOAL: Final = 1.1  # Times what is possible.
CONTEXT_MAX: Final = 1024
IDS: Final = (256, 100_000)  # Ordinary tokens of the demo experts' vocabulary.


async def measure(
    quick: bool, config: Config, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    """One measurement for each length."""
    models = [
        (
            await bring(
                DemoExpert(name),
                config.cache_dir,
                may_fetch=not config.offline,
                show=lambda *_: say("making the models ready"),
            )
        ).path
        for name in EXPERTS
    ]
    count = ANSWERS_QUICK if quick else ANSWERS
    rng = random.Random(1)
    say("prompts, by the engines alone")
    alone = await _alone(models[1:], count, config.cache_dir, rng)
    link = Link(delay_s=ONE_WAY_MS / 1000)
    rtt_s = await round_trip(link)
    with temporary_folder() as folder:
        async with open_swarm(folder, link, models, config.cache_dir, say) as requester:
            await _first_token(requester, prompt_of(LENGTHS[0], rng))  # Connections are warm then.
            for length in LENGTHS:
                say(f"prompts of {length} tokens")
                found = [
                    await _first_token(requester, prompt_of(length, rng)) for _ in range(count)
                ]
                yield row(length, found, rtt_s, alone[length])


def prompt_of(length: int, rng: random.Random) -> tuple[int, ...]:
    """Without the token that begins every text."""
    return tuple(rng.randrange(*IDS) for _ in range(length - 1))


def row(
    length: int, found: Sequence[tuple[float, float]], rtt_s: float, alone_s: float
) -> Measurement:
    """`found`: seconds until the first token, and of its round, of each answer."""
    least = rtt_s + alone_s
    return Measurement(
        "time to the first token",
        1000 * median(whole for whole, _ in found),
        "ms",
        1000 * least,
        {"k": len(EXPERTS), "one_way_ms": ONE_WAY_MS, "prompt_tokens": length},
        1000 * GOAL * least,
        {
            "round_ms": round(1000 * median(one for _, one in found), 1),
            "best_ms": round(1000 * min(whole for whole, _ in found), 1),
            "round_trip_ms": round(1000 * rtt_s, 1),
            "engines_ms": round(1000 * alone_s, 1),
            "answers": len(found),
        },
    )


async def _first_token(requester: NodeProcess, prompt: Sequence[int]) -> tuple[float, float]:
    """Seconds until it comes, and how long its round took."""
    request = {
        "prompt_ids": list(prompt),
        "k": len(EXPERTS),
        "extra": 0,
        "max_tokens": 1,
        "temperature": 0.0,
    }
    began = trio.current_time()
    with trio.move_on_after(ANSWER_S):
        async with asking(requester.folder, "generate", **request) as answer:
            async for record in answer:
                if record["event"] == "token":
                    took_s = trio.current_time() - began
                    rounds = [use["rtt_ms"] for use in record["experts"]]
                    return took_s, max(rounds) / 1000
    raise LocalError(
        f"no first token came within {ANSWER_S:.0f} s of a prompt of {len(prompt)}"
        f" tokens{requester.last_words()}"
    )


async def _alone(
    models: Sequence[Path], count: int, cache_dir: Path, rng: random.Random
) -> dict[int, float]:
    """Median seconds until all engines, asked at once, have read a prompt of each length."""
    options = EngineOptions(
        context_max=CONTEXT_MAX, sessions_max=1, threads=1, cache_dir=str(cache_dir)
    )
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(LlamaEngine(model, options)) for model in models]
        found: dict[int, float] = {}
        for length in LENGTHS:
            took = []
            for number in range(count + 1):  # The first one warms up.
                prompt = (IDS[0], *prompt_of(length, rng))
                began = trio.current_time()
                async with trio.open_nursery() as nursery:
                    for engine in engines:
                        nursery.start_soon(_read, engine, prompt)
                took += [trio.current_time() - began] * (number > 0)
            found[length] = median(took)
        return found


async def _read(engine: LlamaEngine, prompt: tuple[int, ...]) -> None:
    last = len(prompt) - 1
    weighed = tuple(range(max(0, last - EVIDENCE_MAX), last))
    reply = await engine.score(
        KEY,
        Score(1, 0, 0, 0, context.EMPTY, prompt, (last,), weighed, ENTRIES, 0, NO_HALT_DIGEST),
    )
    if not isinstance(reply, Scores):
        raise LocalError(
            f"the engine answered {type(reply).__name__} where it should have read {len(prompt)}"
            " tokens; run the benchmark again"
        )
