"""A model made ready while somebody waits for it: a bar on a terminal, a line every few seconds
elsewhere, records for machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from swarmllm.adapters.models.library import Findable, Found, bring
from swarmllm.cli.output import people, print_record, size
from swarmllm.cli.waiting import Silence
from swarmllm.runtime.config import Config

RECORD_EVERY_S: Final = 1.0

Show = Callable[[int, int], object]
"""(bytes done, bytes in all)."""


async def fetched(
    reference: Findable, config: Config, *, as_json: bool = False, newest: bool = False
) -> Found:
    """The file of `reference`, fetched or expanded first if need be; never silent for long, also
    while another process fetches the same. Raises what `library.find` raises."""
    what = f"making {reference} ready"
    with Silence(what) as silence, _records(what) if as_json else _shown(what, silence) as show:
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
def _shown(what: str, silence: Silence) -> Iterator[Show]:
    console = people()
    if not console.is_terminal:
        # The sentence that breaks the silence says how far it is.
        yield lambda done, total: silence.now(f"{what}, {size(done)} of {size(total)}")
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
            silence.heard()
            progress.update(task, completed=done, total=total, visible=True)

        yield show
