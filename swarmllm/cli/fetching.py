"""A model made ready while somebody waits for it: a bar on a terminal, a line every few seconds
elsewhere, records for machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from swarmllm.adapters.models.library import Findable, Found, bring
from swarmllm.cli.output import notice, people, print_record, size
from swarmllm.runtime.config import Config

LINE_EVERY_S: Final = 4.0
RECORD_EVERY_S: Final = 1.0

Show = Callable[[int, int], object]
"""(bytes done, bytes in all)."""


async def fetched(
    reference: Findable, config: Config, *, as_json: bool = False, newest: bool = False
) -> Found:
    """The file of `reference`, fetched or expanded first if need be. Raises what `library.find`
    raises."""
    what = f"making {reference} ready"
    with _records(what) if as_json else _shown(what) as show:
        return await bring(
            reference, config.cache_dir, may_fetch=not config.offline, newest=newest, show=show
        )


@contextmanager
def _records(what: str) -> Iterator[Show]:
    told_at = -RECORD_EVERY_S

    def show(done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if done == total or now - told_at >= RECORD_EVERY_S:
            told_at = now
            record = {"event": "progress", "what": what, "done": done, "total": total}
            print_record(record | {"unit": "bytes"})

    yield show


@contextmanager
def _shown(what: str) -> Iterator[Show]:
    console = people()
    if not console.is_terminal:
        yield _lines(what)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        # Seen only if there is something to wait for.
        task = progress.add_task(what, total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield show


def _lines(what: str) -> Show:
    told_at = time.monotonic()  # What takes less than one interval is not worth a line.

    def show(done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= LINE_EVERY_S:
            told_at = now
            notice(f"{what}: {size(done)} of {size(total)}")

    return show
