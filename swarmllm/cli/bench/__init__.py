"""`swarmllm bench`: what this machine's node reaches, each figure beside what theory allows."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Final

import trio

from swarmllm.adapters import limits
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.models.library import Findable, bring
from swarmllm.cli.bench import requester
from swarmllm.cli.bench.report import Measurement, Report, table
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import answer, notice, people
from swarmllm.cli.waiting import Silence
from swarmllm.core.wording import several
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import NoModel, parse_reference

PARTS: Final = (
    *("requester", "constrained", "engine", "api", "transport", "first-token"),
    *("speculation", "speculation-exactness", "speculation-faults"),
)
BUSY_SHARE: Final = 0.5  # Of the cores, wanted by other programs before the first measurement.
PART_MAX_S: Final = 3600.0  # All distances of speculation take half an hour.
MODEL: Final = "llama3-demo:prose"  # Unless another is named: it is always there.
TOKENS, TOKENS_QUICK = 200, 50  # Of the parts at the requester.
API_TOKENS, API_TOKENS_QUICK = 100, 10  # Of each of its streams.

Say = Callable[[str], None]


def bench(config: Config, only: Sequence[str], *, quick: bool, as_json: bool) -> int:
    reference = parse_reference(config.model)
    if isinstance(reference, NoModel):
        raise UsageError(f"--model {config.model} has nothing to measure: name a model")
    for part in only:
        if part not in PARTS:
            raise UsageError(
                f"--only {part!r} is not a part of the benchmark; choose among {', '.join(PARTS)}"
            )
    parts = [part for part in PARTS if not only or part in only]
    return run(partial(_bench, config, reference, parts, quick, as_json))


async def _bench(
    config: Config, reference: Findable, parts: Sequence[str], quick: bool, as_json: bool
) -> int:
    console = people()
    if busy := busy_sentence(os.getloadavg()[0], limits.cores()):
        notice(busy)
    report = Report(as_json=as_json)
    with console.status("starting") as status, Silence("the benchmark starts") as silence:

        def say(text: str) -> None:
            silence.at(text)
            status.update(text)
            if not console.is_terminal:
                console.print(text)

        with silence.covered() if console.is_terminal else nullcontext():  # There the status moves.
            for part in parts:
                with trio.move_on_after(PART_MAX_S) as scope:
                    async with aclosing(_part(part, config, reference, quick, say)) as measurements:
                        async for measurement in measurements:
                            report.add(measurement)
                            silence.heard()
                if scope.cancelled_caught:
                    raise LocalError(
                        f"the part {part} of the benchmark did not end within {PART_MAX_S:.0f} s,"
                        f" the last step was: {silence.what}; try --quick,"
                        " or leave it out with --only"
                    )
    if not as_json:
        answer().print(table(report.measurements))
    return OK


def busy_sentence(load: float, cores: int) -> str:
    """What to know of figures that are measured while `load` programs want to run on `cores`."""
    if load < BUSY_SHARE * cores:
        return ""
    return (
        f"This machine is busy: in the last minute {load:.1f} programs wanted to run at a time, on"
        f" {several(cores, 'core')}. The figures will be worse than what it can do."
    )


async def _part(
    part: str, config: Config, reference: Findable, quick: bool, say: Say
) -> AsyncGenerator[Measurement]:
    if part == "requester":
        for measurement in requester.measure(TOKENS_QUICK if quick else TOKENS, say):
            yield measurement
            # The measuring itself keeps the loop busy; Ctrl-C is seen here.
            await trio.lowlevel.checkpoint()
        return
    if part == "first-token" or part.startswith("speculation"):
        from swarmllm.cli.bench import (
            first_token,
            speculation,
            speculation_exactness,
            speculation_faults,
        )

        modules = {
            "first-token": first_token.measure,
            "speculation": speculation.measure,
            "speculation-exactness": speculation_exactness.measure,
            "speculation-faults": speculation_faults.measure,
        }
        async with aclosing(modules[part](quick, config, say)) as figures:
            async for measurement in figures:
                yield measurement
        return
    say("making the model ready")

    def show(done: int, total: int) -> None:
        say(f"making the model ready: {done} of {total} bytes")

    cache_dir, may_fetch = config.cache_dir, not config.offline
    model = (await bring(reference, cache_dir, may_fetch=may_fetch, show=show)).path
    if part == "constrained":
        from swarmllm.cli.bench.constrained import measure as measure_constrained

        found = measure_constrained(model, TOKENS_QUICK if quick else TOKENS, say)
    elif part == "engine":
        from swarmllm.cli.bench.engine import measure as measure_engine

        options = EngineOptions(threads=config.threads, cache_dir=str(cache_dir))
        found = measure_engine(model, options, quick, say)
    elif part == "api":
        from swarmllm.cli.bench import api

        tokens, pairs = (API_TOKENS_QUICK, api.PAIRS_QUICK) if quick else (API_TOKENS, api.PAIRS)
        found = api.measure(model, cache_dir, tokens, pairs, say)
    else:
        from swarmllm.cli.bench import transport

        plan = transport.QUICK if quick else transport.FULL
        found = transport.measure(plan, model, cache_dir, say)
    async with aclosing(found) as measurements:
        async for measurement in measurements:
            yield measurement
