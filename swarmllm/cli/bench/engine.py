"""How fast the engine is through its whole port, at several numbers of sessions and of drafted
positions, beside llama.cpp alone on the same batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.measure import (
    TURN_STEPS,
    TURNS,
    DecodeFigure,
    DraftFigure,
    measure_engine,
)
from swarmllm.cli.bench.report import Measurement
from swarmllm.wire.sparse_compiled import IS_COMPILED

SHARE_GOAL: Final = 0.95
TURNS_QUICK, STEPS_QUICK = 2, 8


async def measure(
    model: Path, options: EngineOptions, quick: bool, say: Callable[[str], None]
) -> AsyncGenerator[Measurement]:
    """One measurement for each number of sessions, then for each number of drafted positions; the
    ceiling is llama.cpp alone."""
    turns, steps = (TURNS_QUICK, STEPS_QUICK) if quick else (TURNS, TURN_STEPS)
    say("engine beside llama.cpp alone")
    async for figure in measure_engine(model, options, turns, steps):
        match figure:
            case DecodeFigure():
                yield _decode(figure)
                say(f"engine at {figure.sessions} sessions: done")
            case DraftFigure():
                yield _draft(figure)
                say(f"engine at {figure.positions} drafted positions: done")


def _decode(figure: DecodeFigure) -> Measurement:
    return Measurement(
        "engine through its port",
        # By the median of the turns' ratios: on a shared machine it says more than that of medians.
        figure.share * figure.alone_tokens_per_s,
        "tokens/s",
        figure.alone_tokens_per_s,
        {"sessions": figure.sessions},
        SHARE_GOAL * figure.alone_tokens_per_s,
        {
            "engine_median_tokens_per_s": round(figure.engine_tokens_per_s, 1),
            "reproducible_share": round(figure.reproducible_share, 4),
            "lists": "compiled" if IS_COMPILED else "numpy",
        },
    )


def _draft(figure: DraftFigure) -> Measurement:
    return Measurement(
        "verification, in decode steps",
        figure.engine_steps,
        "steps",
        figure.alone_steps,
        {"positions": figure.positions},
        None,
        {"ms": round(figure.engine_ms, 2), "llama_cpp_ms": round(figure.alone_ms, 2)},
    )
