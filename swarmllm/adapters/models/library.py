"""From a model reference to a file on this machine: the one place that knows every source.

`find` never asks a network unless `may_fetch`, and then only for a model that was named: what
`auto` means is decided by what is here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.datadir import make_folder
from swarmllm.adapters.llama.demo import bundled
from swarmllm.adapters.llama.expansion import expand, forget
from swarmllm.adapters.models import wheel
from swarmllm.adapters.models.catalog import SMOLLM2_135M, Progress, specialist
from swarmllm.errors import FetchError
from swarmllm.runtime.model_reference import (
    DEMO_USUAL,
    Auto,
    DemoExpert,
    HubModel,
    OwnFile,
    SmolLM2,
)

Named = OwnFile | HubModel | SmolLM2 | DemoExpert
Findable = Auto | Named


@dataclass(frozen=True, slots=True)
class Found:
    """A file to load, and what names it (never `auto`). `name` None is what the file itself says.
    `remark` is for the owner to read."""

    reference: Named
    path: Path
    name: str | None = None
    domains: tuple[str, ...] = ()
    remark: str = ""


TINY: Final = (
    "SmolLM2 is not on this machine, so a tiny demonstration expert is loaded, which knows how "
    "text sounds and nothing else; fetch the real model with `swarmllm models pull smollm2`"
)


SHOW_EVERY_S: Final = 0.1
FAREWELL_S: Final = 1.0  # For a thread whose result nobody wants any more.


class _GivenUp(Exception):
    """Nobody waits for this any more."""


async def bring(
    reference: Findable,
    cache_dir: Path,
    *,
    may_fetch: bool,
    newest: bool = False,
    show: Callable[[int, int], object],
) -> Found:
    """`find` in a thread. `show(bytes done, bytes in all)` is called in the event loop, a few times
    a second. `newest`: ask the hub whether it has another version than the one that is here.

    When cancelled, a download ends within a second; what has come is kept where the next attempt
    goes on with it."""
    given_up = complete = False
    shown_at = -SHOW_EVERY_S

    def progress(done: int, total: int) -> None:
        nonlocal shown_at, complete
        if given_up:
            raise _GivenUp
        now = time.monotonic()
        if (done == total and not complete) or now - shown_at >= SHOW_EVERY_S:
            shown_at, complete = now, done == total
            trio.from_thread.run_sync(show, done, total)

    ended = threading.Event()

    def work() -> Found:
        try:
            if newest and may_fetch and isinstance(reference, HubModel):
                return Found(reference, _newest_of_hub(reference, progress))
            return find(reference, cache_dir, may_fetch=may_fetch, progress=progress)
        finally:
            ended.set()

    try:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]  # Some installed stubs are older than trio.
    finally:
        given_up = True
        # The process may end now, and would leave pip behind.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
            while not ended.is_set():  # noqa: ASYNC110  A thread tells nobody.
                await trio.sleep(0.01)


def find(reference: Findable, cache_dir: Path, *, may_fetch: bool, progress: Progress) -> Found:
    """The file of a reference. Blocks, for as long as a download takes: call it in a thread.

    UsageError for an unknown name, FetchError for what is not here and cannot be brought,
    LocalError if it cannot be written. What `progress` raises ends a download.
    """
    match reference:
        case OwnFile(path):
            return Found(reference, path)
        case DemoExpert(name):
            return _demo(name, cache_dir, progress)
        case SmolLM2(""):
            return Found(reference, _base(cache_dir, may_fetch, progress), SMOLLM2_135M.name)
        case SmolLM2(name):
            row = specialist(name)
            made = row.place(cache_dir)
            if made is None:
                base = _base(cache_dir, may_fetch, progress)
                made = row.expand(base, cache_dir, progress)
            return Found(reference, made, row.name, row.domains)
        case HubModel():
            return Found(reference, _of_hub(reference, cache_dir, may_fetch, progress))
        case Auto():
            if wheel.is_there(SMOLLM2_135M, cache_dir):
                return find(SmolLM2(), cache_dir, may_fetch=False, progress=progress)
            found = _demo(DEMO_USUAL, cache_dir, progress)
            return replace(found, remark=TINY)


def place_of(reference: SmolLM2 | HubModel, cache_dir: Path) -> Path | None:
    """The file, if it is on this machine."""
    if isinstance(reference, HubModel):
        from swarmllm.adapters.models import hub

        return hub.cached(reference)
    if reference.specialist:
        return specialist(reference.specialist).place(cache_dir)
    there = wheel.is_there(SMOLLM2_135M, cache_dir)
    return wheel.place_of(SMOLLM2_135M, cache_dir) if there else None


def all_of_hub() -> list[HubModel]:
    """The models in the Hugging Face hub's cache."""
    from swarmllm.adapters.models import hub

    return hub.all_cached()


def remove(reference: SmolLM2 | HubModel | DemoExpert, cache_dir: Path) -> int:
    """Bytes that became free; 0 if the model was not here."""
    match reference:
        case SmolLM2(""):
            return wheel.remove(SMOLLM2_135M, cache_dir)
        case SmolLM2(name):
            return specialist(name).remove(cache_dir)
        case HubModel():
            from swarmllm.adapters.models import hub

            return hub.remove(reference)
        case DemoExpert(name):
            return forget(name, cache_dir)


def _demo(name: str, cache_dir: Path, progress: Progress) -> Found:
    path = expand(name, make_folder(cache_dir, "--cache-dir"), progress)
    card = next(card for card in bundled() if card.name == name)
    return Found(DemoExpert(name), path, card.name, card.domains)


def _base(cache_dir: Path, may_fetch: bool, progress: Progress) -> Path:
    if wheel.is_there(SMOLLM2_135M, cache_dir):
        return wheel.place_of(SMOLLM2_135M, cache_dir)
    if not may_fetch:
        raise FetchError(f"{SMOLLM2_135M.name} {_NOT_HERE}")
    return wheel.fetch(SMOLLM2_135M, make_folder(cache_dir, "--cache-dir"), progress)


def _newest_of_hub(model: HubModel, progress: Progress) -> Path:
    from swarmllm.adapters.models import hub

    return hub.fetch(model, progress)


def _of_hub(model: HubModel, cache_dir: Path, may_fetch: bool, progress: Progress) -> Path:
    from swarmllm.adapters.models import hub  # Half a second, for this kind alone.

    path = hub.cached(model)
    if path is not None:
        hub.check(path, cache_dir)
        return path
    if not may_fetch:
        raise FetchError(f"{model} {_NOT_HERE}")
    return hub.fetch(model, progress)


_NOT_HERE: Final = "is not on this machine, and the setting `offline` forbids fetching it"
