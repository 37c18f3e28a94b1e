"""The Engine port in front of a worker process: spawn, lease, orders and answers, and a new worker
when one dies.

Everything that can crash or block is on the other side of the pipe. On this side a dead worker is
an ordinary event: whoever waits is refused at once, the node hears `EngineLost`, and the next
worker starts after a pause that doubles while starts keep failing.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import trio

from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.lease import RENEW_S, Lease
from swarmllm.adapters.llama.model_choice import ModelChoice
from swarmllm.adapters.llama.pipe import (
    CANCEL,
    CLOSE,
    FAILED,
    LOAD,
    READY,
    SCORE,
    START,
    Frames,
    frame,
)
from swarmllm.core.inputs import EngineLoadChanged, EngineLost, EngineReady
from swarmllm.core.serving.answers import reply_of
from swarmllm.core.values import EngineLoad, ModelCard, SessionKey
from swarmllm.errors import LocalError
from swarmllm.messages import (
    REFUSED_ENGINE,
    REFUSED_OUTPUT,
    Busy,
    ExpertReply,
    Refused,
    Score,
    ScoreAllowed,
    ScoreDraft,
)

EXACT: Final = {"GGML_CPU_TILED_MM": "0"}
"""For reproducible answers (see `llama_api`); llama.cpp reads it with getenv, so it must stand
before the process does."""

WORKER: Final = "swarmllm.adapters.llama.worker"
PENDING_MAX: Final = 1024  # Twice what a node admits.
INPUTS_MAX: Final = 64  # Unread reports; newer ones replace older ones.
BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
STEADY_S: Final = 60.0  # A worker that lived this long was well: the next pause is the first again.
EXIT_S: Final = 0.2  # From the end of the pipe to the end of the process.
KILL_S: Final = 0.05  # From `stop` to SIGKILL for a worker that is still busy.
RETRY_MS: Final = 1000
RECV_BYTES: Final = 1 << 18
LAST_WORDS_BYTES: Final = 2000

log = logging.getLogger("swarmllm.engine")


def environment(options: EngineOptions) -> dict[str, str]:
    """What a process that runs llama.cpp must find in its environment. How long its threads spin
    before they sleep is left as it comes: see `threads`."""
    return {**os.environ, **(EXACT if options.reproducible else {})}


class _Pending:
    """A score call that waits. Its request is kept to build the reply from."""

    __slots__ = ("answered", "reply", "request")

    def __init__(self, request: Score) -> None:
        self.request = request
        self.answered = trio.Event()
        self.reply: ExpertReply | None = None

    def answer(self, reply: ExpertReply) -> None:
        self.reply = reply
        self.answered.set()


class LlamaEngine:
    """`runtime.ports.Engine` over llama.cpp. `async with` starts the worker and raises LocalError
    if the model cannot be loaded."""

    def __init__(self, model: Path, options: EngineOptions | None = None) -> None:
        self._model = ModelChoice(model, options or EngineOptions())
        try:
            self._lease = Lease.create()
        except OSError as error:
            raise _cannot_start(error) from error
        self._pending: dict[int, _Pending] = {}
        self._last_order = 0
        self._pipe: socket.socket | None = None
        self._unsent = bytearray()
        self._unsent_grew = trio.Event()
        self._process: trio.Process | None = None
        self._card: ModelCard | None = None
        self._load = EngineLoad(0, 0, 0, 0.0)
        self._reproducible = False
        self._no_numbers = 0  # Texts that the model has no answer to.
        self._alive = False
        self._entered = False
        self._reports, self._inputs = trio.open_memory_channel[
            EngineReady | EngineLoadChanged | EngineLost
        ](INPUTS_MAX)

    # --- the port ---------------------------------------------------------------------------------

    @property
    def card(self) -> ModelCard:
        assert self._card is not None, "the engine has not started"
        return self._card

    @property
    def inputs(self) -> trio.MemoryReceiveChannel[EngineReady | EngineLoadChanged | EngineLost]:
        return self._inputs

    @property
    def load(self) -> EngineLoad:
        if not self._alive:
            return EngineLoad(0, 0, self._load.sessions_max, 0.0)
        return EngineLoad(
            len(self._pending),
            self._load.sessions_free,
            self._load.sessions_max,
            self._load.tokens_per_s,
        )

    @property
    def reproducible(self) -> bool:
        """Whether answers are the same bit for bit however a context was computed."""
        return self._reproducible

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    async def score(self, key: SessionKey, request: Score) -> ExpertReply:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._alive:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return Refused(request.session, request.round, REFUSED_ENGINE)
        if len(self._pending) >= PENDING_MAX:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return Busy(request.session, request.round, RETRY_MS)
        self._last_order += 1
        order = self._last_order
        pending = self._pending[order] = _Pending(request)
        text = (request.epoch, request.base, request.context_hash, request.tokens)
        wanted = (request.answer, request.targets, request.entries_max, request.tail_max)
        allowed = request.allowed if isinstance(request, ScoreAllowed) else b""
        steps = request.steps if isinstance(request, ScoreDraft) else 0
        question = (key.peer, key.session, *text, *wanted, allowed, steps)
        self._write((SCORE, order, time.monotonic(), *question))
        try:
            await pending.answered.wait()
        finally:
            if self._pending.pop(order, None) is not None:  # Cancelled: nobody waits any more.
                self._write((CANCEL, order))
        assert pending.reply is not None
        return pending.reply

    def close(self, key: SessionKey) -> None:
        if self._alive:  # A new worker holds nothing.
            self._write((CLOSE, key.peer, key.session))

    # --- stop and go on ---------------------------------------------------------------------------

    def stop(self) -> None:
        """No token more, from now on: at once between tokens, at the next operation within a batch;
        a worker that is still busy after 50 ms is killed. Works without the event loop, except for
        the killing; before the engine is entered there is nothing to kill."""
        self._lease.stop()
        if self._entered:
            self._nursery.start_soon(self._kill_if_busy)

    def resume(self) -> None:
        self._lease.resume()

    async def _kill_if_busy(self) -> None:
        await trio.sleep(KILL_S)
        if self._lease.stopped and self._lease.busy and self._process is not None:
            self._process.kill()

    async def exchange(self, model: Path, name: str | None, domains: tuple[str, ...]) -> None:
        """Load another model in place of this one, with the same options; whoever waits for an
        answer is refused. LocalError if that cannot be done: then the one before is loaded
        again."""
        options = replace(self._model.options, name=name, domains=domains)
        wanted = self._model.want(model, options)
        if self._process is not None:
            self._process.kill()
        await wanted.done.wait()
        if wanted.fault:
            raise LocalError(f"the model {model} was not loaded: {wanted.fault}")

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._entered = True
        try:
            self._lease.renew(time.monotonic_ns())
            self._nursery.start_soon(self._renew)
            await self._nursery.start(self._supervise)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """The nursery never sees the block's exception, which would come out of it wrapped in a
        group."""
        self._entered = False
        self._nursery.cancel_scope.cancel()
        try:
            await self._manager.__aexit__(None, None, None)
        finally:
            self._reports.close()
            self._lease.close()

    async def _renew(self) -> None:
        while True:
            self._lease.renew(time.monotonic_ns())
            await trio.sleep(RENEW_S)

    async def _supervise(self, task_status: Any) -> None:
        """One worker after another. The first one that gets ready is reported to `task_status`; if
        it does not, its error is ours."""
        failures, started = 0, False
        while True:
            begun = trio.current_time()
            self._model.begin()
            try:
                reason = await self._live(task_status if not started else trio.TASK_STATUS_IGNORED)
            except LocalError as error:
                if not started and self._card is None:
                    raise
                reason = str(error)
            started = True
            if self._model.failed(reason) or self._model.is_wanted:
                failures = 0
                self._report(EngineLost("another model takes its place"))
                continue
            failures = 0 if trio.current_time() - begun >= STEADY_S else failures
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            often = f", {failures} times in a row" if failures > 1 else ""
            reason = f"{reason}{often}; it starts again in {pause_s:g} s"
            log.warning("%s", reason)
            self._report(EngineLost(reason))
            await self._model.wait(pause_s)

    async def _live(self, task_status: Any) -> str:
        """The life of one worker; returns how it ended. LocalError if it ended before it was
        ready."""
        with ExitStack() as files:
            try:
                ours, theirs = (files.enter_context(end) for end in socket.socketpair())
                words: BinaryIO = files.enter_context(tempfile.TemporaryFile())
                options = self._model.options
                process = await _spawn(theirs, self._lease.fd, words, options)
                self._process = process
            # Strangers' connections may hold every descriptor; that passes, and must not end the
            # node.
            except OSError as error:
                raise _cannot_start(error) from error
            ours.setblocking(False)
            theirs.close()
            reason, was_ready = None, False
            try:
                async with trio.open_nursery() as nursery:
                    self._pipe = ours
                    self._write((START, str(self._model.path), options.packed()))
                    nursery.start_soon(self._flush, ours)
                    reason = await self._listen(ours, task_status)
                    nursery.cancel_scope.cancel()
            finally:
                was_ready = self._reap()
                with trio.CancelScope(shield=True):
                    if reason is None and not self._nursery.cancel_scope.cancel_called:
                        with trio.move_on_after(EXIT_S):
                            # It closed the pipe by dying: its own exit code says more than our
                            # SIGKILL.
                            await process.wait()
                    process.kill()  # Nothing in it is worth saving.
                    await process.wait()
                self._process = None
            if reason is None:
                reason = _epitaph(process.returncode, words_of(words))
        if not was_ready:
            raise LocalError(reason)
        return reason

    def _reap(self) -> bool:
        """The worker is gone: refuse whoever waits. Returns whether it ever was ready."""
        was_ready, self._alive = self._alive, False
        self._pipe = None
        self._lease.set_busy(False)  # It can no longer say so itself.
        self._unsent.clear()
        for pending in self._pending.values():
            pending.answer(Refused(pending.request.session, pending.request.round, REFUSED_ENGINE))
        self._pending.clear()
        return was_ready

    # --- the pipe ---------------------------------------------------------------------------------

    def _write(self, message: tuple[Any, ...]) -> None:
        """At once if the pipe takes it, so that the worker wakes now and not when another task has
        been scheduled."""
        if self._pipe is None:
            return
        data = frame(message)
        if not self._unsent:
            try:
                data = data[self._pipe.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # The worker is gone; `_listen` will notice.
        if data:
            self._unsent += data
            self._unsent_grew.set()

    async def _flush(self, pipe: socket.socket) -> None:
        while True:
            await self._unsent_grew.wait()
            self._unsent_grew = trio.Event()
            while self._unsent:
                await trio.lowlevel.wait_writable(pipe.fileno())
                try:
                    del self._unsent[: pipe.send(self._unsent)]
                except BlockingIOError:
                    continue
                except OSError:
                    return

    async def _listen(self, pipe: socket.socket, task_status: Any) -> str | None:
        """Until the worker is gone. Returns what it said was wrong, if it said anything."""
        frames = Frames()
        while True:
            await trio.lowlevel.wait_readable(pipe.fileno())
            try:
                data = pipe.recv(RECV_BYTES)
                messages = frames.feed(data)
            except BlockingIOError:
                continue
            except OSError:
                return None
            except ValueError as error:
                return str(error)
            if not data:
                return None
            for message in messages:
                match message:
                    case [kind, fields] if kind == READY:
                        self._ready(fields)
                        task_status.started()
                    case [kind, reason] if kind == FAILED:
                        return str(reason)
                    case [kind, free, rate] if kind == LOAD:
                        self._load = EngineLoad(0, free, self._load.sessions_max, rate)
                        if self._alive:
                            self._report(EngineLoadChanged(self.load))
                    case [kind, order, *rest]:
                        self._answer(kind, order, rest)
                    case _:
                        return "the worker sent an empty message"

    def _ready(self, fields: dict[str, Any]) -> None:
        card = fields["card"]
        self._card = ModelCard(**{**card, "domains": tuple(card["domains"])})
        self._reproducible = bool(fields["reproducible"])
        sessions, rate = fields["sessions_max"], fields["tokens_per_s"]
        self._load = EngineLoad(0, sessions, sessions, rate)
        self._alive = True
        self._model.ready()
        self._report(EngineReady(self._card, self.load))

    def _answer(self, kind: str, order: int, rest: list[Any]) -> None:
        pending = self._pending.pop(order, None)
        if pending is None:
            return  # Cancelled meanwhile.
        reply = reply_of(kind, rest, pending.request)
        if isinstance(reply, Refused) and reply.code == REFUSED_OUTPUT:
            self._no_numbers += 1
            _note_no_numbers(self._model.path, self._no_numbers)
        pending.answer(reply)

    def _report(self, event: EngineReady | EngineLoadChanged | EngineLost) -> None:
        try:
            self._reports.send_nowait(event)
        except trio.WouldBlock:
            self._inputs.receive_nowait()
            self._reports.send_nowait(event)


async def _spawn(
    pipe: socket.socket, lease: int, words: BinaryIO, options: EngineOptions
) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", WORKER, str(pipe.fileno()), str(lease), str(os.getpid())],
        pass_fds=(pipe.fileno(), lease),
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        env=environment(options),
    )


def _note_no_numbers(model: Path, times: int) -> None:
    """For the owner, who would not learn it otherwise. Whoever asks decides how often it happens,
    so only powers of ten are written."""
    if 10 ** (len(str(times)) - 1) == times:
        log.warning(
            "the model %s gave no numbers (NaN) for a text, %d so far, and other experts answer in"
            " its place: if that goes on, its weights are damaged; choose another file",
            model,
            times,
        )


def _cannot_start(error: OSError) -> LocalError:
    advice = "free some memory or disk space"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        advice = "raise the limit with `ulimit -n 4096`, or close other programs"
    return LocalError(
        f"the engine's worker process cannot be started ({error.strerror or error}): {advice}"
    )


def words_of(file: BinaryIO) -> str:
    """The last line that the process printed."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LAST_WORDS_BYTES))
    lines = [
        line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()
    ]
    return lines[-1] if lines else ""


def _epitaph(code: int | None, words: str) -> str:
    """How the worker ended, in one sentence."""
    how = (
        f"was ended by signal {-code}"
        if code is not None and code < 0
        else f"ended with code {code}"
    )
    return f"the engine's worker process {how}" + (f" ({words})" if words else "")
