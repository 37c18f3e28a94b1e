"""The bundled experts, expanded into the user's cache before anybody needs them, with a bar for
people who wait."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from swarmllm.adapters.llama.demo import bundled
from swarmllm.adapters.llama.expansion import expand
from swarmllm.cli.screen import Screen


async def expand_bundled(
    cache_dir: Path, console: Screen | None, names: list[str] | None = None
) -> list[str]:
    """Names of the experts, all of them unless `names` says which; each is expanded when this
    returns. A second call costs a tenth of a second. LocalError if the cache cannot be written."""
    names = [card.name for card in bundled()] if names is None else names
    for name in names:
        await _expand(name, cache_dir, console)
    return names


async def _expand(name: str, cache_dir: Path, console: Screen | None) -> None:
    if console is None or not console.is_terminal:
        await trio.to_thread.run_sync(partial(expand, name, cache_dir))
        return
    columns = (
        TextColumn("making the expert {task.description} ready", markup=False),
        BarColumn(),
        DownloadColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        # Seen only if there is something to wait for.
        task = progress.add_task(name, total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        await trio.to_thread.run_sync(partial(expand, name, cache_dir, show))
