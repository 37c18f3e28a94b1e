"""Calls from grpcio's threads into the trio loop, in which the node and its service live.

Each question is one task of the loop, which hands the records over through a window of a few: a
slow reader makes it wait, and nothing grows. The thread reads with a deadline. A caller that leaves
cancels the task; a node that closes ends all questions with `ClosedError`. Nothing else of the node
is touched from outside its loop.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

import trio

from swarmllm.errors import LocalError, SwarmError
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Client

WINDOW: Final = 16  # Records that wait to be read, of one question.

log = logging.getLogger("swarmllm.grpc")


class ClosedError(Exception):
    """The node is closing, or has closed."""


class LateError(Exception):
    """The next record did not come before the deadline."""


class _End:
    pass


class Question:
    """One question and its records. Made and read by one thread; `cancel` may come from any."""

    def __init__(self, op: str, params: Mapping[str, object]) -> None:
        self.op = op
        self.params = params
        self.scope = trio.CancelScope()
        self.room = trio.Semaphore(WINDOW)
        # Never longer than the window and two ends, so that putting never waits.
        self.found: queue.SimpleQueue[Record | Exception | _End] = queue.SimpleQueue()


class Bridge:
    """Made within the loop; `close` ends it before the nursery does."""

    def __init__(self, service: Client, nursery: trio.Nursery) -> None:
        self._service = service
        self._nursery = nursery
        self._loop = trio.lowlevel.current_trio_token()
        self._open: dict[Question, None] = {}
        self._is_closed = False

    # --- for the threads --------------------------------------------------------------------------

    def ask(self, question: Question, deadline: float) -> Iterator[Record]:
        """The records, until `deadline` on `time.monotonic`. SwarmError as the service raises it;
        LateError; ClosedError."""
        self._run(lambda: self._begin(question))
        try:
            while True:
                try:
                    got = question.found.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    raise LateError from None
                match got:
                    case _End():
                        return
                    case Exception():
                        raise got
                    case _:
                        yield got
                self._run(question.room.release)
        finally:
            self.cancel(question)

    def cancel(self, question: Question) -> None:
        """End the question's task; nothing if it has ended."""
        with suppress(ClosedError):
            self._run(question.scope.cancel)

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self._loop.run_sync_soon(call)
        except trio.RunFinishedError:
            raise ClosedError from None

    # --- within the loop --------------------------------------------------------------------------

    def close(self) -> None:
        """No question is taken any more, and those that are open end."""
        self._is_closed = True
        for question in self._open:
            question.scope.cancel()

    def _begin(self, question: Question) -> None:
        if self._is_closed:
            question.found.put(ClosedError())
        else:
            self._open[question] = None
            self._nursery.start_soon(self._answer, question)

    async def _answer(self, question: Question) -> None:
        try:
            with question.scope:
                async with self._service.call(question.op, question.params) as records:
                    async for record in records:
                        await question.room.acquire()
                        question.found.put(record)
                question.found.put(_End())
        except SwarmError as error:
            question.found.put(error)
        # The guard's purpose: a fault in answering one program must not end the node, nor say in
        # the log what was asked.
        except Exception as fault:  # noqa: BLE001
            log.error(
                "a fault of our own while answering %s: %s", question.op, type(fault).__name__
            )
            question.found.put(
                LocalError(
                    "the node stopped this answer by a fault of its own;"
                    " node.log in its data folder says which kind"
                )
            )
        finally:
            # Whoever reads on was cut off: by the node's end, or because it left itself.
            question.found.put(ClosedError())
            self._open.pop(question, None)
