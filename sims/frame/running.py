"""Where points are computed: here, or in a process for each core. `swarmllm.sims.frame.cluster`
does the same on a Dask cluster.

A pool of plain processes is the default, because it starts in a fraction of a second, opens no port
and needs no other package; a cluster is there for whoever has one. Results depend on neither: a
point is a function of its parameters and seed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from swarmllm.errors import LocalError, SwarmError
from swarmllm.sims.frame.points import Point
from swarmllm.sims.study import Results, Study, find

# Points per process that wait in its queue: enough that none is idle, few enough to be dropped at
# once.
AHEAD: Final = 4

Computed = tuple[Results, float]
"""And the seconds that it took."""
Found = tuple[int, Computed]
"""A point's place in the list that was asked for, and what came of it. They come as they are
finished, in any order."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_here(study: Study, points: Sequence[Point]) -> Generator[Found, None, None]:
    for place, point in enumerate(points):
        yield place, compute(study.name, point)


def compute(name: str, point: Point) -> Computed:
    """What the processes run. Faults of the study's own come back as one sentence: their traces
    would not survive the journey."""
    study = find(name)
    began = time.perf_counter()
    try:
        results = study.point(point.parameters, point.seed)
    except SwarmError:
        raise
    except Exception as fault:
        raise LocalError(
            f"simulate {name} failed at {point}: {type(fault).__name__}: {fault}"
        ) from fault
    return results, time.perf_counter() - began


def run_pool(study: Study, points: Sequence[Point], jobs: int) -> Generator[Found, None, None]:
    """On `jobs` processes. However this ends, by an error or by Ctrl-C, no process is left."""
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, context, initializer=_begin)
    try:
        yield from _collect(executor, study, points, jobs)
    except BrokenProcessPool:
        raise LocalError(
            "a process of the simulation was killed, perhaps for want of memory; try fewer --jobs"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        # In this order, and waited for: a thread of the executor that still tidies up while Python
        # ends finds its pipe closed, and says so.
        executor.shutdown(wait=True, cancel_futures=True)


def _collect(
    executor: ProcessPoolExecutor, study: Study, points: Sequence[Point], jobs: int
) -> Generator[Found, None, None]:
    waiting: dict[Future[Computed], int] = {}
    place = 0
    while waiting or place < len(points):
        while place < len(points) and len(waiting) < AHEAD * jobs:
            waiting[executor.submit(compute, study.name, points[place])] = place
            place += 1
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=waiting.__getitem__):
            yield waiting.pop(future), future.result()


def _begin() -> None:
    """A process leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
