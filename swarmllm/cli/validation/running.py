"""Runs a validation in this process, shows how far it is, and keeps what it has found.

The folder `validations` of the data folder holds a folder for each case: its simulations while they
go on, so that what was interrupted goes on where it was, and its report when it is finished.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from swarmllm.adapters.atomic_file import read_bounded, replace_whole
from swarmllm.cli.output import notice, people
from swarmllm.core.validation.report import BYTES_MAX, Case, Report, encode_report, read_report
from swarmllm.errors import LocalError
from swarmllm.sims.frame.code import version_of
from swarmllm.sims.frame.store import Store
from swarmllm.sims.validation.playing import play
from swarmllm.sims.validation.validate import MODULE, Budget, Play, Progress, key_of, validate

FOLDER: Final = "validations"
REPORT: Final = "report.json"
KEPT_MAX: Final = 32  # Cases; each is some hundred KB.
SAY_EVERY_S: Final = 4.0
PLAY: Play = play


def validated(case: Case, seconds: float, pairs: int, data_dir: Path) -> Report:
    """The report on this case within so many seconds and pairs: as it was made before with as many
    pairs, else made now."""
    budget = Budget(pairs_max=pairs, wall_s=seconds)
    folder = data_dir / FOLDER / key_of(case)[:32]
    held = _held(folder, budget)
    if held is not None:
        notice("This very change was validated before, on the same figures: here is its report.")
        return held
    found = _run(case, budget, folder)
    replace_whole(folder / REPORT, encode_report(found), "the report")
    _trim(data_dir / FOLDER, folder)
    return found


def repeated(report: Report) -> Report:
    """The same validation once more: as many pairs, however long it takes."""
    return _run(report.case, Budget(pairs=report.pairs_max, wall_s=math.inf), None)


def _run(case: Case, budget: Budget, folder: Path | None) -> Report:
    """Simulations that `folder` holds are not made again."""
    store = None if folder is None else Store(folder)
    try:
        with _progress() as tell:
            return validate(case, budget, tell, play=PLAY, store=store)
    finally:
        if store is not None:
            store.close()


def code_version() -> str:
    """Of the simulator and the node that would run here."""
    return version_of(MODULE)


def _held(folder: Path, budget: Budget) -> Report | None:
    try:
        report = read_report(read_bounded(folder / REPORT, BYTES_MAX, "the report"))
    except LocalError:
        return None  # None yet, or spoilt: it is made again.
    is_enough = all(pairs >= budget.pairs_max for pairs in report.pairs_max.values())
    return report if is_enough or report.verdict != "no difference" else None


def _trim(root: Path, newest: Path) -> None:
    others = [one for one in root.iterdir() if one.is_dir() and one != newest]
    for one in sorted(others, key=lambda path: path.stat().st_mtime)[: -(KEPT_MAX - 1)]:
        shutil.rmtree(one, ignore_errors=True)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar for whoever sits before a terminal, a sentence now and then for everybody else."""
    screen = people()
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn()),
        *(MofNCompleteColumn(), TimeRemainingColumn()),
    )
    with Bar(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        tasks = {"": bar.add_task("simulating with and without the change", total=None)}
        said_at = time.monotonic()

        def tell(progress: Progress) -> None:
            nonlocal said_at
            if progress.test not in tasks:
                tasks[progress.test] = bar.add_task(f"{progress.test} test")
            total = progress.pairs_max
            bar.update(tasks[progress.test], completed=progress.pair, total=total)
            now = time.monotonic()
            if not screen.is_terminal and now - said_at >= SAY_EVERY_S:
                said_at = now
                done = f"{progress.pair} of at most {total} pairs"
                notice(f"Simulating with and without the change: {progress.test} test, {done}.")

        yield tell
