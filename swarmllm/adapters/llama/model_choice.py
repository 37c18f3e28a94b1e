"""Which model the engine's next worker loads: the one before, or another that the owner has named;
and the one before again where that cannot be loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trio

from swarmllm.adapters.llama.engine_options import EngineOptions


@dataclass(eq=False, slots=True)
class Wanted:
    """A model that the owner has named. `fault`: why it was not loaded, once `done`."""

    path: Path
    options: EngineOptions
    done: trio.Event = field(default_factory=trio.Event)
    fault: str = ""


class ModelChoice:
    """`path` and `options` are those of the worker that runs or starts."""

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self.path, self.options = path, options
        self._before = path, options
        self._next: Wanted | None = None
        self._loading: Wanted | None = None
        self._changed = trio.Event()

    @property
    def is_wanted(self) -> bool:
        """Whether another model is to take the place of this one."""
        return self._next is not None

    def want(self, path: Path, options: EngineOptions) -> Wanted:
        """One at a time."""
        assert self._next is None, "another model is wanted already"
        assert self._loading is None, "another model is loaded already"
        wanted = self._next = Wanted(path, options)
        self._changed.set()
        return wanted

    async def wait(self, seconds: float) -> None:
        """So long, or until another model is wanted."""
        with trio.move_on_after(seconds):
            await self._changed.wait()

    def begin(self) -> None:
        """A worker starts."""
        self._changed = trio.Event()
        if self._next is not None:
            self._before = self.path, self.options
            self._loading, self._next = self._next, None
            self.path, self.options = self._loading.path, self._loading.options

    def ready(self) -> None:
        """It has loaded its model."""
        if self._loading is not None:
            self._loading.done.set()
            self._loading = None

    def failed(self, reason: str) -> bool:
        """It has ended. Whether that was before it had loaded what the owner wanted: then the next
        one loads what was there before."""
        wanted, self._loading = self._loading, None
        if wanted is None:
            return False
        self.path, self.options = self._before
        wanted.fault = reason
        wanted.done.set()
        return True
