"""The same points on a Dask cluster: `--dask ADDRESS` on one that runs, `--dask local` on one of
this machine's cores.

Each result comes with the version of the code that made it; a worker that has other code than we
have is found out by its first point, and none of its results is taken. What was finished before a
cluster was lost is kept, for every point is handed on as it comes.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from swarmllm.errors import LocalError, MissingExtraError, UsageError
from swarmllm.sims.frame.code import version_of
from swarmllm.sims.frame.points import Point
from swarmllm.sims.frame.running import Computed, Found, compute
from swarmllm.sims.study import Study

PATIENCE_S: Final = 5  # For a scheduler to answer.
LOCAL: Final = "local"
AHEAD_MIN: Final = 64  # Points on the cluster at once, at least; else four for each of its threads.

Loaded = tuple[str, Computed]


def compute_versioned(name: str, module: str, point: Point) -> Loaded:
    """What the workers run."""
    return version_of(module), compute(name, point)


def run_cluster(
    study: Study, points: Sequence[Point], address: str, jobs: int
) -> Generator[Found, None, None]:
    """UsageError where the address is none or dask.distributed is missing, LocalError where the
    cluster does not answer or is lost."""
    try:
        import distributed
    except ModuleNotFoundError as missing:
        raise MissingExtraError("--dask", missing.name or "distributed", "cluster") from None
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)  # What goes wrong is said once, by us.
        if address == LOCAL:
            where: Any = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            )
        else:
            where = _checked(address)
        try:
            client = stack.enter_context(
                distributed.Client(where, timeout=PATIENCE_S, set_as_default=False)
            )
        except OSError:  # Its TimeoutError is one, too.
            raise LocalError(
                f"no Dask scheduler answers at {address} within {PATIENCE_S} s"
            ) from None
        try:
            yield from _collect(distributed, client, study, points, address)
        except (distributed.CancelledError, OSError):
            raise LocalError(f"the Dask scheduler at {address} was lost") from None


def _checked(address: str) -> str:
    from distributed.comm import parse_host_port
    from distributed.comm.addressing import parse_address
    from distributed.comm.registry import backends

    try:
        scheme, rest = parse_address(address)
        known = scheme in backends
        parse_host_port(rest)
    except ValueError:
        known = False
    if not known:
        raise UsageError(
            f"--dask {address!r} is neither {LOCAL} nor an address such as tcp://10.0.0.1:8786"
        )
    return address


def _collect(
    distributed: Any, client: Any, study: Study, points: Sequence[Point], address: str
) -> Generator[Found, None, None]:
    version = version_of(study.module)
    ahead = max(AHEAD_MIN, 4 * sum(client.nthreads().values()))
    places: dict[str, int] = {}

    def submit(place: int) -> Any:
        future = client.submit(
            compute_versioned, study.name, study.module, points[place], pure=False
        )
        places[future.key] = place
        return future

    running = distributed.as_completed(
        [submit(place) for place in range(min(ahead, len(points)))], loop=client.loop
    )
    following = iter(range(ahead, len(points)))
    for future in running:
        place = places.pop(future.key)
        try:
            theirs, computed = future.result()
        except (ImportError, AttributeError) as error:
            raise LocalError(
                f"the workers at {address} cannot run this study;"
                f" is swarmllm installed there? ({error})"
            ) from None
        except distributed.KilledWorker:
            raise LocalError(
                f"workers at {address} died while they computed {points[place]}"
            ) from None
        if theirs != version:
            raise LocalError(
                f"the workers at {address} have other code ({theirs}) than is here ({version});"
                " nothing of theirs is taken"
            )
        yield place, computed
        more = next(following, None)
        if more is not None:
            running.add(submit(more))
