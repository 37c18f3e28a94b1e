"""One command from its words to its exit code: compute what is not known yet, keep it, show it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from swarmllm.errors import LocalError
from swarmllm.sims.frame.cluster import run_cluster
from swarmllm.sims.frame.code import version_of
from swarmllm.sims.frame.options import Options, parse
from swarmllm.sims.frame.points import Point, grid, key, record
from swarmllm.sims.frame.running import Found, cores, run_here, run_pool
from swarmllm.sims.frame.store import FILE, Store
from swarmllm.sims.frame.summary import summarise, write_points, write_summaries
from swarmllm.sims.frame.table import table_of
from swarmllm.sims.study import Results, Study, find, questions

OK, FAILED, INTERRUPTED = 0, 1, 130
Write = Callable[[str], None]
WIDTH: Final = 160  # Of a table that goes to a file: wide enough for all columns.
WORLDS: Final = "swarm"  # A search, and no grid of points: it has options of its own.
HELP: Final = frozenset({"-h", "--help"})


def simulate(arguments: Sequence[str], write: Write) -> int:
    """`swarmllm simulate ...`: the exit code. `write` puts text on standard output; SwarmError is
    for the caller to show."""
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)
    if not arguments or arguments[0] in HELP:
        write(listing())
        return OK
    if arguments[0] == WORLDS:
        from swarmllm.sims.swarm import main as try_worlds

        return try_worlds(arguments[1:])
    study = find(arguments[0])
    return run(study, parse(study, arguments[1:]), write, console)


def listing() -> str:
    lines = [
        (
            "Usage: swarmllm simulate NAME [OPTIONS]    (swarmllm simulate NAME --help shows a"
            " study's parameters)"
        ),
        "",
    ]
    found = {
        **questions(),
        WORLDS: (
            "Is there a world in which this swarm breaks a law? Thousands of short ones,"
            " each drawn from its seed."
        ),
    }
    width = max(map(len, found))
    lines += [f"  {name:<{width}}  {found[name]}" for name in sorted(found)]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Work:
    """The points that were asked for and what is known of them; `shown` of them, from the first on,
    have been printed."""

    study: Study
    points: Sequence[Point]
    results: dict[int, Results] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)  # Of those that were computed now.
    shown: int = 0
    reused: int = 0

    def record(self, place: int) -> dict[str, object]:
        """How long it took is there for measurements; it is no result."""
        found = record(self.study, self.points[place], self.results[place])
        return (
            {**found, "seconds": round(self.seconds[place], 3)} if place in self.seconds else found
        )

    def finished(self) -> list[tuple[Point, Results]]:
        return [(self.points[place], self.results[place]) for place in sorted(self.results)]


def run(study: Study, options: Options, write: Write, console: Console) -> int:
    if options.out is not None and study.plots:
        from swarmllm.sims.frame.drawing import require_matplotlib

        require_matplotlib()
    points = grid(study, options.given, options.sweep, options.seeds)
    work = _Work(study, points)
    store = Store(options.out) if options.out is not None else None
    try:
        interrupted = not _compute(work, options, store, write if options.json else None, console)
    finally:
        if store is not None:
            store.close()
        _print(work, write if options.json else None, everything=True)
    if store is not None:
        _say_kept(work, store, console)
    if work.seconds:
        slowest = max(work.seconds, key=work.seconds.__getitem__)
        console.print(
            f"slowest point: {work.seconds[slowest]:.1f} s; all:"
            f" {sum(work.seconds.values()):.1f} s of computing",
            soft_wrap=True,
        )
    if work.results:
        answer = (
            console
            if options.json
            else Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        )
        _show(work, store, answer, console, pictures=not interrupted)
    if interrupted:
        again = (
            "the same command goes on from there"
            if store is not None
            else "with --out FOLDER they would be kept"
        )
        console.print(
            f"Interrupted: {len(work.results)} of {len(points)} points are finished; {again}."
        )
        return INTERRUPTED
    return OK if all(study.holds(results) for results in work.results.values()) else FAILED


def _compute(
    work: _Work, options: Options, store: Store | None, write: Write | None, console: Console
) -> bool:
    """Whether it came to its end; False where Ctrl-C ended it. Whatever ends it, what is finished
    is kept."""
    version = version_of(work.study.module) if store is not None else ""
    keys = [key(work.study, point, version) for point in work.points]
    missing: list[int] = []
    for place, name in enumerate(keys):
        known = store.get(name) if store is not None else None
        if known is None:
            missing.append(place)
        else:
            work.results[place] = known
    work.reused = len(work.results)
    try:
        # The generator is closed at once whatever happens, so that no process computes on for
        # nobody.
        with (
            _progress(work, console) as advance,
            closing(_running(work.study, work.points, missing, options)) as running,
        ):
            _print(work, write)
            for place, (results, seconds) in running:
                work.results[place], work.seconds[place] = results, seconds
                if store is not None:
                    store.add(keys[place], work.record(place))
                _print(work, write)
                advance()
    except KeyboardInterrupt:
        return False
    return True


def _running(
    study: Study, points: Sequence[Point], missing: Sequence[int], options: Options
) -> Generator[Found, None, None]:
    """Those of the points whose places are `missing`."""
    if not missing:
        return
    wanted = [points[place] for place in missing]
    jobs = min(options.jobs or cores(), len(wanted))
    if options.dask:
        found = run_cluster(study, wanted, options.dask, jobs)
    else:
        found = run_here(study, wanted) if jobs == 1 else run_pool(study, wanted, jobs)
    with closing(found):
        for number, computed in found:
            yield missing[number], computed


def _print(work: _Work, write: Write | None, *, everything: bool = False) -> None:
    """Records in the order of the points, so that what is printed does not depend on who was
    faster."""
    if write is None:
        return
    for place in range(work.shown, len(work.points)):
        if place in work.results:
            found = {**work.record(place), "time": round(time.time(), 3)}
            work.shown = place + 1
            write(
                json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
            )
        elif not everything:
            return


@contextmanager
def _progress(work: _Work, console: Console) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(
            f"simulate {work.study.name}", total=len(work.points), completed=work.reused
        )
        yield lambda: bar.advance(task)


def _say_kept(work: _Work, store: Store, console: Console) -> None:
    fresh = len(work.results) - work.reused
    console.print(
        f"{fresh} points computed, {work.reused} reused from {store.folder / FILE}", soft_wrap=True
    )


def _show(
    work: _Work, store: Store | None, answer: Console, console: Console, *, pictures: bool
) -> None:
    """`answer` is for what was asked for, `console` for what is told besides."""
    summaries = summarise(work.finished())
    answer.print(table_of(work.study, summaries))
    says = work.study.says(summaries)
    if says:
        answer.print(says, soft_wrap=True)
    if store is None:
        return
    name, folder = work.study.name, store.folder
    try:
        write_points(folder / f"{name}.csv", work.finished())
        write_summaries(folder / f"{name}-summary.csv", work.study, summaries)
        files = [f"{name}.csv", f"{name}-summary.csv"]
        if pictures and work.study.plots:
            from swarmllm.sims.frame.drawing import draw

            files += draw(work.study, summaries, folder)
    except OSError as error:
        raise LocalError(f"cannot write to {folder}: {error.strerror or error}") from None
    console.print(f"Written to {folder}: {', '.join(files)}", soft_wrap=True)


def fail(sentence: str) -> None:
    """One sentence of an error, for `python sims/NAME.py`."""
    print(f"swarmllm: {sentence}", file=sys.stderr)
