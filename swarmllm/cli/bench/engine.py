"""Tokens per second of the engine through its whole port, at several numbers of sessions, beside
llama.cpp alone on the same batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.measure import SESSIONS, TURN_STEPS, TURNS, measure_engine
from swarmllm.cli.bench.report import Measurement

SHARE_GOAL: Final = 0.95
TURNS_QUICK, STEPS_QUICK = 2, 8


async def measure(
    model: Path, cache_dir: Path, quick: bool, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    """One measurement for each number of sessions; the ceiling is llama.cpp alone with the same
    settings."""
    turns, steps = (TURNS_QUICK, STEPS_QUICK) if quick else (TURNS, TURN_STEPS)
    say(f"engine at {', '.join(map(str, SESSIONS))} sessions, beside llama.cpp alone")
    async for figure in measure_engine(
        model, EngineOptions(cache_dir=str(cache_dir)), SESSIONS, turns, steps
    ):
        details = {
            "llama_cpp_defaults_tokens_per_s": round(figure.defaults_tokens_per_s, 1),
            "median_share_of_turns": round(figure.share, 4),
        }
        ceiling, parameters = figure.alone_tokens_per_s, {"sessions": figure.sessions}
        yield Measurement(
            "engine through its port",
            figure.engine_tokens_per_s,
            "tokens/s",
            ceiling,
            parameters,
            SHARE_GOAL * ceiling,
            details,
        )
        say(f"engine at {figure.sessions} sessions: done")
