"""`swarmllm join`: a node until somebody stops it. Machines get its life as records, people a view
that keeps itself up to date.

What the node tells is queued and written by a task of its own, in threads: a terminal that is
stopped (Ctrl-S) or a pipe that nobody empties must not hold up the node, whose engine stops when it
is not heard from for half a second.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from swarmllm.adapters.datadir import DataDir, default_folders
from swarmllm.adapters.temporary_folder import sweep
from swarmllm.api.serving import TOKEN_FILE, Options, serving
from swarmllm.assembly import Parts, open_node
from swarmllm.assembly.expert import with_choice
from swarmllm.assembly.invite import accepted
from swarmllm.cli import collector
from swarmllm.cli.first_model import Chosen, brought, choose
from swarmllm.cli.guard import OK, run
from swarmllm.cli.join_view import JoinView
from swarmllm.cli.log_stream import life_line, streaming
from swarmllm.cli.log_stream import show as show_line
from swarmllm.cli.output import in_thread, people, shell_word
from swarmllm.cli.streams import input_is_closed
from swarmllm.cli.voted_model import voted_model
from swarmllm.cli.waiting import Silence
from swarmllm.core.events import NotLetIn
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.model_reference import AUTO, OwnFile, parse_reference
from swarmllm.runtime.queues import LifeFeed
from swarmllm.runtime.service.json_events import (
    Life,
    ModelReady,
    Progress,
    Starting,
    Stopped,
    life_record,
    status_record,
)
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.service import Service

# Waiting to be written; then the oldest are lost, as they are for any other slow listener.
RECORDS_MAX: Final = 1024
GOODBYE_S: Final = 0.5  # For the last records, to a reader that may have stopped reading.
REFRESH_S: Final = 0.5
# Without a new step or progress. The largest models take minutes to load.
START_MAX_S: Final = 900.0
ADVICE: Final = "try again with `--model none`: if that works, its disk is too slow for this model"
EOF_BYTES: Final = 4096

Show = Callable[[Record], Awaitable[None]]


def join(
    config: Config,
    *,
    as_json: bool,
    until_eof: bool,
    yes: bool,
    tiny: bool,
    parts: Parts | None = None,
) -> int:
    """Stopping it is how it is meant to end, so Ctrl-C and SIGTERM leave with 0. `parts`: those of
    a demonstration's node."""
    if until_eof and input_is_closed():
        raise UsageError(
            "--until-eof waits for standard input to close, and it is closed already; keep it open,"
            " or leave this out"
        )
    taken = accepted(config)  # A bad invite is told before anything is fetched for it.
    config = replace(config, closed=taken.config.closed)
    vocabulary = "" if taken.invited is None else taken.invited.invite.vocabulary.hex()
    config = with_choice(config)
    _look_for_file(config.model)
    http = _http(config)
    voted = voted_model(config) if config.model == AUTO else None
    chosen = choose(config, yes=yes, tiny=tiny, as_json=as_json, voted=voted, vocabulary=vocabulary)
    sweep()  # What killed commands left of nodes of their own.
    # Whatever a node writes is its owner's alone, also in a folder that others may look into.
    os.umask(0o077)
    parts = replace(parts or Parts(), http=http)
    body = partial(_joined, config, chosen, vocabulary, as_json, until_eof, parts)
    return run(body, interrupted=OK)


def _look_for_file(model: str) -> None:
    """LocalError for a file of the owner's that is not there, before anything starts."""
    reference = parse_reference(model)
    if not isinstance(reference, OwnFile):
        return
    try:
        os.stat(reference.path)
    except OSError as fault:
        raise LocalError(
            f"cannot read the model file {reference.path} ({fault.strerror}): check its path,"
            " its permissions and the disk"
        ) from fault


def _http(config: Config) -> Callable[[Service], AbstractAsyncContextManager[str]] | None:
    """What opens the HTTP API; None where it is not wanted. UsageError for one that others could
    use without a key."""
    if not config.api:
        return None
    options = Options(
        *(config.api_host, config.api_port, config.api_keys, config.api_origins, config.api_hosts),
        DataDir(config.data_dir).path / TOKEN_FILE,
    )
    options.check()
    return partial(serving, options=options, loaded=collector.leave_alone)


async def _joined(
    config: Config,
    chosen: Chosen | None,
    vocabulary: str,
    as_json: bool,
    until_eof: bool,
    parts: Parts,
) -> int:
    """With the model that was chosen."""
    if chosen is not None:
        model = await brought(chosen, config, as_json=as_json, vocabulary=vocabulary)
        config = replace(config, model=str(model))
    return await _join(config, as_json, until_eof, parts)


async def _join(config: Config, as_json: bool, until_eof: bool, parts: Parts) -> int:
    logs_json = config.log_format == "json"
    view = None if as_json or logs_json else _view(config)
    feed: LifeFeed[Record] = LifeFeed(RECORDS_MAX)
    show: Show = show_line if view is None else partial(in_thread, view.tell)

    last: list[Life] = []
    turned_away: list[str] = []
    silence, start = (
        Silence("the node starts"),
        trio.CancelScope(deadline=trio.current_time() + START_MAX_S),
    )

    def tell(life: Life) -> None:
        last[:] = [life]
        record = life_record(life)
        if as_json or not logs_json:
            feed.put(record)
        if logs_json:
            feed.put(life_line(record))
        if isinstance(life, NotLetIn):
            turned_away.append(life.reason)
            start.cancel()
        silence.at(_next_step(life))
        if not silence.is_over:
            start.deadline = trio.current_time() + START_MAX_S

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, feed, show)
            with silence, start, streaming(feed.put) if logs_json else nullcontext():
                async with open_node(config, tell=tell, parts=parts) as node:
                    silence.end()
                    start.deadline = math.inf
                    collector.leave_alone()
                    await _serve(node, view, until_eof)
            nursery.cancel_scope.cancel()
        if turned_away:
            raise LocalError(
                f"the closed swarm “{config.swarm}” does not let this node in: {turned_away[0]}"
            )
        if start.cancelled_caught:
            raise LocalError(
                f"the node on {config.data_dir} was not started:"
                f" {silence.what} took more than {START_MAX_S:.0f} s; {ADVICE}"
            )
    finally:
        if last and not isinstance(last[0], Stopped):
            tell(Stopped())  # Also when it ended by Ctrl-C or by a fault.
        feed.close()
        with trio.CancelScope(deadline=trio.current_time() + GOODBYE_S, shield=True):
            await _write(feed, show)
        if view is not None:
            view.close()
    return OK


def _view(config: Config) -> JoinView:
    is_first = not DataDir(config.data_dir).key_file.exists()
    flags = _flags(config)
    return JoinView(people(), ask_with=flags, is_first_run=is_first, is_closed=config.closed)


def _next_step(life: Life) -> str:
    """What a starting node does once it has told this."""
    match life:
        case Starting():
            return "the records of this folder are read"
        case Progress(what=what):
            return what
        case ModelReady():
            return "the network is being opened"
        case _:
            return "the node starts"


def _flags(config: Config) -> str:
    """What other commands need to find this node."""
    return (
        ""
        if config.data_dir == default_folders().data_dir
        else f" --data-dir {shell_word(str(config.data_dir))}"
    )


async def _write(feed: LifeFeed[Record], show: Show) -> None:
    async for record in feed:
        await show(record)


async def _serve(node: LocalNode, view: JoinView | None, until_eof: bool) -> None:
    """Until a client asks the node to stop or, with `until_eof`, standard input closes."""
    async with trio.open_nursery() as nursery:
        if view is not None and view.is_live:
            nursery.start_soon(_refresh, node, view)
        if until_eof:
            nursery.start_soon(_leave_at_eof, node)
        nursery.start_soon(_stop_at_signal, node)
        await node.wait_stopped()
        nursery.cancel_scope.cancel()


async def _refresh(node: LocalNode, view: JoinView) -> None:
    while view.is_live:
        status: Record | None = None
        with view.sheltered("read the node's state"):
            status = status_record(node.status())
        if status is not None:
            await in_thread(view.refresh, status)
        await trio.sleep(REFRESH_S)


async def _stop_at_signal(node: LocalNode) -> None:
    """SIGUSR1 is the owner's own stop: no key, no network, no second program."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            node.stop_here()


async def _leave_at_eof(node: LocalNode) -> None:
    descriptor = sys.stdin.fileno()
    while await trio.to_thread.run_sync(_wait_input, descriptor, abandon_on_cancel=True):  # type: ignore[call-arg]
        continue
    node.request_stop()


def _wait_input(descriptor: int) -> bool:
    """Until something came, which is dropped; whether there can be more. A terminal that hung up
    has nothing more to say."""
    try:
        return bool(os.read(descriptor, EOF_BYTES))
    except BlockingIOError:  # Whoever started us set its end not to block, and with it ours.
        select.select([descriptor], [], [])
        return True
    except OSError:
        return False
