"""The process that holds the model: `python -m swarmllm.adapters.llama.worker SOCKET_FD LEASE_FD
PARENT_PID`.

It exists so that nothing that goes wrong in native code, or takes long there, can touch the node.
One thread takes orders, computes and answers; a second one looks at the lease and at the end of the
pipe, and ends the process when its parent is gone, also in the middle of a batch. (A parent-death
signal would not do: Linux ties it to the thread that forked, which may be a pool thread that ends
long before the process.)
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from swarmllm.adapters.limits import free_memory
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.adapters.llama.gguf_file import ModelFile, read_model_file
from swarmllm.adapters.llama.gguf_parts import Hashing
from swarmllm.adapters.llama.health import PROBES, probe, probe_tokens, sample_speed
from swarmllm.adapters.llama.lease import Lease
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
from swarmllm.adapters.llama.stepping import Stopped, shape_of, step
from swarmllm.adapters.machine_load import GpuLoad
from swarmllm.adapters.private import keep_private
from swarmllm.core.serving.answers import Answer, LoadNews
from swarmllm.core.serving.batcher import Batcher
from swarmllm.core.serving.lending import lent_layers
from swarmllm.core.serving.session import Key, Order
from swarmllm.errors import LocalError, SwarmError
from swarmllm.wire.sparse_encoding import encode_rows

WATCH_S: Final = 0.05  # How late a lapsed lease may end a running batch, besides the lease itself.
LAPSED_WAIT_S: Final = 0.02  # How late work goes on when the lease returns.
# How often a model that gave no numbers is asked whether it still can: a step of one token.
EXAMINE_EVERY_S: Final = 1.0
REST_MAX_S: Final = 1.0  # After one step, for the share that the owner lends.
RECV_BYTES: Final = 1 << 18


class Inbox:
    """Orders from the pipe, in order."""

    def __init__(self, pipe: socket.socket) -> None:
        pipe.setblocking(False)
        self._pipe = pipe
        self._frames = Frames()

    def take(self, wait_s: float | None) -> list[list[Any]]:
        """All that has arrived; waits for the first, for `wait_s` at most (None: for ever; 0: not
        at all)."""
        if wait_s != 0:
            select.select([self._pipe], [], [], wait_s)
        taken: list[list[Any]] = []
        while True:
            try:
                data = self._pipe.recv(RECV_BYTES)
            except BlockingIOError:
                return taken
            except OSError:
                os._exit(0)
            if not data:
                os._exit(0)
            taken += self._frames.feed(data)


class Worker:
    """Loads the model, then answers orders until the pipe ends."""

    def __init__(self, pipe: socket.socket, lease: Lease, parent: int) -> None:
        self._pipe, self._lease, self._parent = pipe, lease, parent
        self._inbox = Inbox(pipe)
        self._news = LoadNews()
        # Broken answers so far, when the model was last asked for another.
        self._examined, self._examined_at = 0, 0.0
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def run(self) -> None:
        kind, path, fields = self._first()
        assert kind == START, f"the first message is {kind!r}"
        self._path, options = Path(path), EngineOptions.unpacked(fields)
        self._duty = options.duty
        self._batcher, ready = self._load(self._path, options)
        self._send([(READY, ready)])
        unsent: list[Answer] = []
        while True:
            allowed = self._lease.allows(time.monotonic_ns())
            idle = not unsent and not self._batcher.waiting
            unsent += self._take(None if idle else 0 if allowed else LAPSED_WAIT_S)
            while (
                self._batcher.waiting
                and (patience_s := self._batcher.patience_s(time.monotonic())) > 0
            ):
                before = self._batcher.waiting
                unsent += self._take(patience_s)
                if self._batcher.waiting == before:
                    break
            self._lease.set_busy(True)
            # In this order: whoever stops us sees either "not busy", and we see the flag, or
            # "busy", and kills us.
            if self._lease.allows(time.monotonic_ns()):
                begun = time.monotonic()
                unsent += step(self._batcher, self._model, self._encode, time.monotonic)
                worked_s = time.monotonic() - begun
                self._examine()
                if self._lease.allows(time.monotonic_ns()):
                    self._send(unsent)
                    unsent = []
                self._lease.set_busy(False)
                unsent += self._rest(worked_s)
            self._lease.set_busy(False)

    def _rest(self, worked_s: float) -> list[Answer]:
        """After a step, as long as the owner's share wants it; orders that come meanwhile are
        queued, and one of the owner's ends it."""
        until = time.monotonic() + min(REST_MAX_S, worked_s * (1 / self._duty - 1))
        answers: list[Answer] = []
        while not self._batcher.places.owner_waits and (left_s := until - time.monotonic()) > 0:
            answers += self._take(left_s)
        return answers

    def _encode(
        self, logits: NDArray[np.float32], bounds: Sequence[tuple[int, int]]
    ) -> list[bytes | None]:
        return encode_rows(logits, bounds, self._model.threads)

    def _first(self) -> list[Any]:
        while not (messages := self._inbox.take(None)):
            pass
        assert len(messages) == 1, "orders before the worker was ready"
        return messages[0]

    def _take(self, wait_s: float | None) -> list[Answer]:
        return [answer for message in self._inbox.take(wait_s) for answer in self._receive(message)]

    def _load(self, path: Path, options: EngineOptions) -> tuple[Batcher, dict[str, Any]]:
        file = read_model_file(path)
        hashing = Hashing(file.parts, options.cache_folder)
        # Only now: a file that is refused above should be refused at once.
        from swarmllm.adapters.llama import llama_api

        llama_api.capture_log()
        context = min(options.context_max, file.context_trained)
        options = _lent(options, file)
        sessions = llama_api.fitting_sessions(file, options, context, free_memory())
        model = llama_api.LlamaModel(
            path, file, options, context, sessions, self._lease.abort_address, adapts=True
        )
        if model.vocab_size != file.vocab_size:
            raise LocalError(
                f"{path} lists {file.vocab_size} tokens and its model has {model.vocab_size}:"
                " choose another file"
            )
        self._model = model
        batcher = Batcher(shape_of(model), sessions, context, options.idle_s, options.owner)
        batcher.rates.decode = self._warm_up(model, path, context)
        card = {
            "name": options.name or file.name,
            "digest": hashing.result(),
            "vocab_fingerprint": file.vocab_fingerprint,
            "chat_digest": file.chat_digest,
            "vocab_size": file.vocab_size,
            "n_params": model.n_params,
            "context_max": context,
            "domains": options.domains,
        }
        return batcher, {
            "card": card,
            "sessions_max": sessions,
            "reproducible": model.exact and file.measured,
            "tokens_per_s": batcher.rates.decode,
        }

    def _warm_up(self, model: Any, path: Path, context: int) -> float:
        """Read the weights once, see that they give answers, and measure the speed for a second, in
        tokens/s; 0 (not measured) for a node that is halted. LocalError for a model that cannot
        answer."""
        best, tokens = 0.0, probe_tokens(model.vocab_size)
        while tokens:
            begun = time.perf_counter()
            try:
                fault = probe(model, 0, tokens[0])
            except Stopped:
                if self._lease.stopped:
                    # It may stay so for weeks, and the node waits for us before it can hear of a
                    # resume.
                    return 0.0
                time.sleep(LAPSED_WAIT_S)
                continue
            if fault:
                raise _cannot_answer(path, tokens[0], fault)
            best = max(best, 1 / (time.perf_counter() - begun))
            del tokens[0]
        return sample_speed(model, 0, context, time.perf_counter) or best

    def _examine(self) -> None:
        """After an answer that was no numbers: was it that text, or can the model no longer answer
        anything? Then this process is of no use, and the node must hear so. (A halted node has not
        seen the model answer before its first question.)"""
        slot, now = self._batcher.places.free_slot, time.monotonic()
        if (
            self._batcher.broken == self._examined
            or slot is None
            or now - self._examined_at < EXAMINE_EVERY_S
        ):
            return
        token = probe_tokens(self._model.vocab_size)[self._batcher.broken % PROBES]
        try:
            fault = probe(self._model, slot, token)
        except Stopped:
            self._model.forget(slot, 0)
            return
        self._examined, self._examined_at = self._batcher.broken, now
        if fault:
            raise _cannot_answer(self._path, token, fault)

    # --- the pipe ---------------------------------------------------------------------------------

    def _receive(self, message: list[Any]) -> list[Answer]:
        match message:
            case [kind, order, sent_at, peer, session, *rest] if kind == SCORE:
                return self._batcher.submit(_order(order, (peer, session), sent_at, rest))
            case [kind, peer, session] if kind == CLOSE:
                return self._batcher.close((peer, session))
            case [kind, order] if kind == CANCEL:
                self._batcher.cancel(order)
                return []
        raise AssertionError(f"an order that nobody sends: {message[0]!r}")

    def _send(self, answers: list[Answer]) -> None:
        free, rate = self._batcher.places.free(time.monotonic()), self._batcher.rates.decode
        if self._news.is_worth_telling(free, rate):
            answers = [*answers, (LOAD, free, rate)]
        if answers:
            data = memoryview(b"".join(frame(answer) for answer in answers))
            while data:
                try:
                    data = data[self._pipe.send(data) :]
                # A node process that does not read makes us wait, as it should.
                except BlockingIOError:
                    select.select([], [self._pipe], [])

    # --- the lease --------------------------------------------------------------------------------

    def _watch(self) -> None:
        hung_up = select.poll()
        hung_up.register(self._pipe.fileno(), 0)  # Reports the end of the pipe, and nothing else.
        while True:
            self._lease.watch(time.monotonic_ns())
            if hung_up.poll(WATCH_S * 1000) or os.getppid() != self._parent:
                # By the second test also if somebody else still holds the pipe's other end.
                os._exit(0)


def _lent(options: EngineOptions, file: ModelFile) -> EngineOptions:
    """With as many layers on the GPU as its owner lends."""
    if options.gpu_percent >= 100 or options.gpu_layers == 0:
        return options
    memory = GpuLoad().memory_bytes
    layers = lent_layers(options.gpu_percent, file.layers, file.size_bytes, memory)
    wanted = options.gpu_layers
    return replace(options, gpu_layers=layers if wanted < 0 else min(wanted, layers))


def _order(number: int, key: Key, sent_at: float, rest: list[Any]) -> Order:
    """`rest` is what a SCORE holds of the request itself, see `engine.LlamaEngine.score`."""
    epoch, base, context_hash, tokens, answer, targets, entries_max, tail_max, allowed, steps = rest
    text = epoch, base, context_hash, tokens
    wanted = answer, targets, entries_max, tail_max
    return Order(*(number, key), *text, *wanted, sent_at, allowed, steps)


def _cannot_answer(path: Path, token: int, fault: str) -> LocalError:
    return LocalError(
        f"the model {path} loads but cannot answer (after token {token} {fault}):"
        " its weights are damaged or were converted wrongly; choose another file"
    )


def main(arguments: list[str]) -> None:
    keep_private()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; what it means is for the node process to say.
    pipe_fd, lease_fd, parent = (int(argument) for argument in arguments)
    pipe = socket.socket(fileno=pipe_fd)
    try:
        Worker(pipe, Lease.attach(lease_fd), parent).run()
    except BrokenPipeError:
        os._exit(0)  # The node process is gone.
    except SwarmError as error:
        pipe.sendall(frame((FAILED, str(error))))
        os._exit(1)
    except MemoryError:
        pipe.sendall(
            frame(
                (
                    FAILED,
                    (
                        "not enough memory to load the model: choose a smaller --context,"
                        " fewer --sessions or a smaller model"
                    ),
                )
            )
        )
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
