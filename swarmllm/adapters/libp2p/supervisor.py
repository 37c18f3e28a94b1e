"""Runs a libp2p service so that no task of it can end another.

Fault 1: in libp2p's own manager an exception in any task cancels the whole service, and with it the
host; strangers can cause one. Fault 9: that manager searches the tree of all tasks at every new
task, which makes a frame of many small messages quadratic. Here a task is a child of one nursery,
what it raises is logged, and a daemon that dies is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import trio

log = logging.getLogger("swarmllm.net")

RESTART_AFTER_S: Final = 1.0  # A daemon that dies at once must not burn a core.


class Supervisor:
    """Stands in for libp2p's `TrioManager`; the names of its methods are libp2p's."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._started = trio.Event()
        self._finished = trio.Event()
        self._nursery: trio.Nursery | None = None
        service._manager = self

    @property
    def is_started(self) -> bool:
        return self._started.is_set()

    @property
    def is_running(self) -> bool:
        return self.is_started and not self.is_finished

    @property
    def is_cancelled(self) -> bool:
        return self._nursery is not None and self._nursery.cancel_scope.cancel_called

    @property
    def is_finished(self) -> bool:
        return self._finished.is_set()

    @property
    def did_error(self) -> bool:
        return False

    async def wait_started(self) -> None:
        await self._started.wait()

    async def wait_finished(self) -> None:
        await self._finished.wait()

    def cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def stop(self) -> None:
        self.cancel()
        await self.wait_finished()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until `cancel`, or until this task is cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._started.set()
                nursery.start_soon(self._guard, self._service.run, (), False)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._finished.set()

    def run_task(
        self,
        async_fn: Callable[..., Awaitable[Any]],
        *args: Any,
        daemon: bool = False,
        name: str | None = None,
    ) -> None:
        if self._nursery is None or self.is_finished or self.is_cancelled:
            log.debug("%s is stopping: task %s not started", self._service, name or async_fn)
            return
        self._nursery.start_soon(self._guard, async_fn, args, daemon, name=name or str(async_fn))

    def run_daemon_task(
        self, async_fn: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None
    ) -> None:
        self.run_task(async_fn, *args, daemon=True, name=name)

    async def _guard(
        self, async_fn: Callable[..., Awaitable[Any]], args: Iterable[Any], daemon: bool
    ) -> None:
        while True:
            try:
                await async_fn(*args)
            # The guard's purpose: whatever a library task raises stays in that task.
            except Exception as error:  # noqa: BLE001
                log.debug("%s: task %s failed: %r", self._service, async_fn, error)
            if not daemon:
                return
            await trio.sleep(RESTART_AFTER_S)
