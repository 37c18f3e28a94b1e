"""Is there a world in which this swarm breaks a law? Thousands of short ones are tried, each drawn
from its seed.

    python sims/swarm.py [--runs 100] [--seed 0] [--jobs 1] [--failures 10] [--json]
    python sims/swarm.py --seed N --runs 1 --transcript FILE
    python sims/swarm.py --check                    the twenty worlds that `scripts/check` runs
    python sims/swarm.py --governance [large]       worlds that are governed by votes

Each seed draws its own machines, links, liars and faults (`swarmllm.testing.world.scenario`,
`.faults`), runs half a minute to two minutes with faults and then some minutes without (`.run`),
and is judged at every step by laws (`.laws`, `.halt_laws`). A world that breaks one is printed with
the law and the one command that replays it; the transcript then holds every step up to the breach.
One seed is one run, byte for byte, however many jobs there are.

With `--governance` every host runs governance and a ledger that others witness, people propose,
vote and lie for up to half an hour (`.governed`), and the laws of `.governance_laws` and
`.witness_laws` are judged, too; `large` worlds have fifty hosts, and take minutes each.

Exits with 0 if all worlds kept the laws, 1 if one did not, 2 for impossible options, 130 if it was
interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # As a file: the package beside it is meant, installed or not.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swarmllm.testing.world.checks import Broken
from swarmllm.testing.world.governed import (
    GOVERNED_SEEDS,
    SIZES,
    Governed,
    governed_laws,
    run_governed,
)
from swarmllm.testing.world.run import CHECK_SEEDS, Outcome, laws, run

# Worlds per job that are handed out at once: a job never waits, and an interruption finds few
# unfinished.
AHEAD: Final = 4
BAR: Final = 30
SHOW_EVERY_S: Final = 0.2
SEED_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Finding:
    """A world that broke a law, or made the node's own code fail. `governance`: the size of a
    governed one."""

    seed: int
    law: str
    trace: str = ""
    governance: str = ""
    audits: bool = False

    @property
    def name(self) -> str:
        """Of the law, without who broke it, and when."""
        return self.law.partition(":")[0]

    @property
    def replay(self) -> str:
        governance = f" --governance {self.governance}" if self.governance else ""
        audits = " --audits" if self.audits else ""
        return (
            f"python sims/swarm.py{governance}{audits} --seed {self.seed} --runs 1"
            f" --transcript swarm-{self.seed}.txt"
        )


Result = Outcome | Governed | Finding
COUNTED: Final = {
    "filed": "proposals filed",
    "passed": "that passed",
    "in_force": "in force at the end",
    "kills": "processes killed while they wrote",
    "checkpoints": "checkpoints of ledgers, at the end",
    "cosigned": "cosignatures of them",
    "tampered": "ledgers tampered with",
    "alarms": "alarms of witnesses",
}
"""What is counted in governed worlds, and in what words."""


@dataclass(slots=True)
class Tally:
    """What all worlds so far came to."""

    worlds: int = 0
    hosts: int = 0
    events: int = 0
    simulated_s: float = 0.0
    halted: int = 0
    drafting: int = 0
    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    governed: Counter[str] = field(default_factory=Counter)
    """Of governed worlds: the sums of `COUNTED`."""

    def add(self, found: Result) -> None:
        self.worlds += 1
        if isinstance(found, Finding):
            self.findings.append(found)
            return
        if isinstance(found, Governed):
            self.governed.update({name: getattr(found, name) for name in COUNTED})
            found = found.outcome
        self.hosts += found.hosts
        self.events += found.events
        self.simulated_s += found.simulated_s
        self.halted += found.halted
        self.drafting += found.drafting
        self.accepted += found.accepted
        self.ends.update(found.ends)


def try_seed(
    seed: int,
    governance: str = "",
    tell: Callable[[str], None] | None = None,
    *,
    audits: bool = False,
) -> Result:
    """The world of this seed; `governance` is the size of a governed one, `tell` hears each step.
    Whatever it raises is a finding; nothing else would be told from a law that is broken."""
    try:
        if governance:
            return run_governed(seed, SIZES[governance], tell)
        return run(seed, tell, audits=audits)
    except Broken as breach:
        return Finding(seed, str(breach), governance=governance, audits=audits)
    except Exception as fault:  # noqa: BLE001  # An assertion or a KeyError in the node's code is what is looked for.
        return Finding(
            seed,
            f"the node's own code fails: {type(fault).__name__}: {fault} (seed {seed})",
            traceback.format_exc(),
            governance,
            audits,
        )


def try_seeds(
    seeds: Sequence[int], jobs: int, trial: Callable[[int], Result] = try_seed
) -> Iterator[Result]:
    """The worlds of these seeds, as they get finished."""
    if jobs == 1:
        yield from map(trial, seeds)
        return
    with ProcessPoolExecutor(jobs, initializer=_leave_interrupts) as pool:
        todo = iter(seeds)
        running: set[Future[Result]] = set()
        try:
            while True:
                while len(running) < AHEAD * jobs and (seed := next(todo, None)) is not None:
                    running.add(pool.submit(trial, seed))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the first one decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Progress:
    """One line on standard error, where somebody can see it."""

    def __init__(self, total: int, is_shown: bool) -> None:
        self._total = total
        self._is_shown = is_shown and sys.stderr.isatty()
        self._begun = time.monotonic()
        self._shown_at = 0.0
        self._inside = ""

    def inside(self, tally: Tally, line: str) -> None:
        """A step of a world that takes long."""
        self._inside = line.partition(".")[0]
        self.show(tally)

    def show(self, tally: Tally, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if not self._is_shown or (now < self._shown_at + SHOW_EVERY_S and not is_last):
            return
        self._shown_at = now
        done = BAR * tally.worlds // self._total
        rate = tally.worlds / max(1e-9, now - self._begun)
        left = f"{(self._total - tally.worlds) / rate:.0f} s left" if rate else "begun"
        words = f"{tally.worlds}/{self._total} worlds, {len(tally.findings)} findings, {left}"
        if self._inside and not is_last:
            words += f"; {self._inside} s simulated of this one"
        sys.stderr.write(
            f"\r\x1b[2K[{'#' * done}{'.' * (BAR - done)}] {words}" + ("\n" if is_last else "")
        )
        sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    checked = GOVERNED_SEEDS if options.governance else CHECK_SEEDS
    seeds = checked if options.check else range(options.seed, options.seed + options.runs)
    tally, begun = Tally(), time.monotonic()
    progress = Progress(len(seeds), not options.json)
    is_interrupted = False
    try:
        if options.transcript is not None:
            with open(options.transcript, "w", encoding="utf-8") as transcript:
                write = partial(print, file=transcript)
                found = try_seed(options.seed, options.governance, write, audits=options.audits)
                _take(tally, found, progress, options)
        else:
            progress.show(tally)
            trial = partial(try_seed, governance=options.governance, audits=options.audits)
            if options.jobs == 1 and options.governance:  # They take seconds, large ones minutes.
                trial = partial(trial, tell=partial(progress.inside, tally))
            for found in try_seeds(seeds, options.jobs, trial):
                _take(tally, found, progress, options)
                if len(tally.findings) >= options.failures:
                    break
    except KeyboardInterrupt:
        is_interrupted = True
    except OSError as fault:
        print(f"swarm: cannot write the transcript: {fault}", file=sys.stderr)
        return 2
    progress.show(tally, is_last=True)
    _report(tally, seeds, time.monotonic() - begun, options, is_interrupted)
    return 130 if is_interrupted else int(bool(tally.findings))


def _take(tally: Tally, found: Result, progress: Progress, options: argparse.Namespace) -> None:
    tally.add(found)
    if isinstance(found, Finding) and not options.json:
        progress.clear()
        trace = found.trace if options.runs == 1 else ""
        print(f"{found.law}\n{trace}  replay it: {found.replay}", flush=True)
    progress.show(tally)


def _report(
    tally: Tally,
    seeds: Sequence[int],
    wall_s: float,
    options: argparse.Namespace,
    is_interrupted: bool,
) -> None:
    if options.json:
        summary = {
            name: getattr(tally, name)
            for name in (
                *("worlds", "hosts", "events", "simulated_s", "halted", "drafting", "accepted"),
                "ends",
            )
        }
        summary |= {
            "seed": seeds[0],
            "runs": len(seeds),
            "wall_s": round(wall_s, 3),
            "interrupted": is_interrupted,
        }
        if options.governance:
            summary |= {name: tally.governed[name] for name in COUNTED}
        summary["laws"] = dict(_laws(tally, options))
        summary["findings"] = [{**asdict(one), "replay": one.replay} for one in tally.findings]
        print(json.dumps(summary, sort_keys=True))
        return
    if is_interrupted:
        print(
            f"interrupted: {tally.worlds} of {len(seeds)} worlds were run, from seed {seeds[0]} on"
        )
    ends = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.ends.items()))
    print(
        f"{tally.worlds} worlds from seed {seeds[0]}: {len(tally.findings)} broke a law;"
        f" {tally.hosts} hosts, {tally.events} events, {tally.simulated_s / 3600:.1f} simulated"
        f" hours in {wall_s:.0f} s; hosts halted {tally.halted} times; answers: {ends or 'none'},"
        f" {tally.drafting} of them with drafts, which brought {tally.accepted} tokens"
    )
    if options.governance:
        print(_table(tally, options))
    if options.transcript is not None:
        print(f"the transcript is in {options.transcript}")


def _laws(tally: Tally, options: argparse.Namespace) -> list[tuple[str, int]]:
    """Each law that these worlds are judged by, and how many of them broke it."""
    broken = Counter(one.name for one in tally.findings)
    names = governed_laws() if options.governance else laws(audits=options.audits)
    return [(law, broken.pop(law, 0)) for law in names] + sorted(broken.items())


def _table(tally: Tally, options: argparse.Namespace) -> str:
    """What governed worlds came to, and each law with how many kept it."""
    lines = [f"{tally.governed[name]:>9,}  {words}" for name, words in COUNTED.items()]
    lines += ["", "   broken  law"]
    lines += [f"{count or '-':>9}  {law}" for law, count in _laws(tally, options)]
    return "\n".join(lines)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sims/swarm.py", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=100, help="how many worlds (100)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first one; the others follow (0)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="worlds at once, each in a process (1)")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many findings (10)")
    parser.add_argument(
        "--transcript", metavar="FILE", help="write every step of the one world there"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="the worlds of `scripts/check` instead of --runs from --seed on",
    )
    parser.add_argument(
        "--governance",
        nargs="?",
        const="small",
        default="",
        choices=sorted(SIZES),
        metavar="SIZE",
        help="worlds that are governed by votes, their ledgers witnessed: small, or large",
    )
    parser.add_argument(
        "--audits",
        action="store_true",
        help="worlds in which nodes audit each other's experts, and nobody may be wronged",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")
    options = parser.parse_args(argv)
    for name, low, high in (
        ("runs", 1, 10_000_000),
        ("seed", 0, SEED_MAX),
        ("jobs", 1, 4 * (os.cpu_count() or 1)),
        ("failures", 1, 10_000),
    ):
        value = getattr(options, name)
        if not low <= value <= high:
            parser.error(f"--{name} {value} is not within {low} and {high}")
    if options.audits and (options.governance or options.check):
        parser.error("--audits goes with neither --governance nor --check: those worlds are fixed")
    if options.transcript is not None and (options.runs != 1 or options.check):
        parser.error(
            f"--transcript wants --runs 1, not {options.runs}:"
            " the steps of several worlds in one file tell nothing"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
