"""`swarmllm chat`: write a text together, turn by turn. Ctrl-C stops an answer, Ctrl-D ends.

The experts continue text and know nothing of turns, so the prompt of each answer is everything so
far. The line editor needs the main thread (and signals reach only that one), so the event loop with
the node runs in another.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Final, NoReturn

import trio

from swarmllm.cli.client import NodeClient, open_client
from swarmllm.cli.generate import ShownAnswer
from swarmllm.cli.guard import OK
from swarmllm.cli.output import complain, notice, people
from swarmllm.cli.streams import input_is_closed
from swarmllm.errors import SwarmError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.request import TextRequest
from swarmllm.runtime.user_text import typed_text

PROMPT: Final = "> "
LEAVE_S: Final = 4.0  # For the node to say goodbye; it takes under 2 s.
# Characters; a shorter text that is refused is refused for another reason than its length.
SHORTEN_MIN: Final = 400


class _Loop:
    """The event loop in its thread, with the client in it. Every method is for the main thread."""

    def __init__(self, config: Config, *, local: bool, verbose: bool) -> None:
        self._config = config
        self._local = local
        self._verbose = verbose
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._leave: trio.Event | None = None
        self._client: NodeClient | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="swarmllm-chat", daemon=True)

    def start(self) -> None:
        """Returns when answers can be asked for; raises what kept the node from starting."""
        self._thread.start()
        self._ready.wait()
        self._raise()

    def answer(self, request: TextRequest) -> str:
        """The text of one answer; KeyboardInterrupt ends it early and what came until then is
        returned. SwarmError if none came."""
        done, scope = threading.Event(), trio.CancelScope()
        found: list[ShownAnswer] = []
        self._soon(request, scope, done, found)
        while not done.is_set():
            try:
                done.wait()
            except KeyboardInterrupt:
                assert self._token is not None
                self._token.run_sync_soon(scope.cancel)
                notice("")
        text = found[0].text if found else ""
        if text and isinstance(self._failure, SwarmError):
            complain(str(self._failure))  # What was shown stays part of the text.
            self._failure = None
        self._raise()
        return text

    def leave(self) -> None:
        if self._token is not None and self._leave is not None and self._thread.is_alive():
            self._token.run_sync_soon(self._leave.set)
            self._thread.join(LEAVE_S)

    def _raise(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as failure:  # noqa: BLE001  Carried over to the main thread, which raises it.
            self._failure = failure
        self._ready.set()

    async def _main(self) -> None:
        self._token, self._leave = trio.lowlevel.current_trio_token(), trio.Event()
        async with (
            open_client(self._config, local=self._local) as client,
            trio.open_nursery() as nursery,
        ):
            self._client, self._nursery = client, nursery
            self._ready.set()
            await self._leave.wait()
            nursery.cancel_scope.cancel()

    def _soon(
        self,
        request: TextRequest,
        scope: trio.CancelScope,
        done: threading.Event,
        found: list[ShownAnswer],
    ) -> None:
        client, token = self._client, self._token
        assert client is not None
        assert token is not None

        async def body() -> None:
            try:
                with scope:
                    found.append(ShownAnswer(client, people(), verbose=self._verbose))
                    await found[0].run(request)
            except (SwarmError, OSError) as failure:
                self._failure = failure
            finally:
                done.set()

        token.run_sync_soon(lambda: self._nursery.start_soon(body))


def chat(config: Config, request: TextRequest, *, verbose: bool, local: bool) -> int:
    request.check_options()
    if input_is_closed():
        raise UsageError(
            "chat reads what you write from standard input, which is closed; run it on a terminal"
        )
    signal.signal(signal.SIGTERM, _terminate)
    loop = _Loop(config, local=local, verbose=verbose)
    loop.start()
    notice(
        "Write the beginning of a text, and the experts continue it. They see all of it."
        " Ctrl-C stops an answer, Ctrl-D ends."
    )
    try:
        _turns(loop, request)
    finally:
        loop.leave()
    return OK


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _turns(loop: _Loop, request: TextRequest) -> None:
    import readline  # noqa: F401  Gives `input` its line editing and its history, where the system has it.

    while True:
        try:
            said = input(PROMPT)
        except EOFError:
            notice("")
            return
        except KeyboardInterrupt:
            notice("(Ctrl-D ends)")
            continue
        if not said and not request.prompt:
            continue  # There is nothing to continue yet.
        request = turn(request, said, loop.answer)


def turn(before: TextRequest, said: str, answer: Callable[[TextRequest], str]) -> TextRequest:
    """The request after one line: with it and its answer in the prompt, or as it was if the line
    got no answer.

    A line that stayed there after it was refused would make every later one be refused as well.
    When the text no longer fits into any expert, its beginning is left out.
    """
    request = before
    try:
        said = typed_text(said, "the line")
        request = replace(before, prompt=before.prompt + said)
        while True:
            try:
                return answered(request, answer(request))
            except UsageError:
                if len(request.prompt) < SHORTEN_MIN:
                    raise
                notice("(The text no longer fits; its older half is left out from here on.)")
                request = shortened(request)
    except SwarmError as fault:
        complain(str(fault))
        if said:
            notice(
                "(Your last line got no answer and is left out of the text; the rest is as it was."
                " Write on, or write it again.)"
            )
        return before


def answered(request: TextRequest, answer: str) -> TextRequest:
    """The next prompt: this one and what the ensemble wrote behind it, marked as such."""
    end = len(request.prompt) + len(answer)
    if not answer:
        return request
    # Nothing was said since the ensemble's last words.
    goes_on = request.turns[-1:] == (len(request.prompt),)
    turns = (*request.turns[:-1], end) if goes_on else (*request.turns, len(request.prompt), end)
    return replace(request, prompt=request.prompt + answer, turns=turns)


def shortened(request: TextRequest) -> TextRequest:
    """The newer half of the prompt, with the same authors."""
    cut = len(request.prompt) // 2
    before = sum(turn <= cut for turn in request.turns)
    turns = tuple(turn - cut for turn in request.turns[before:])
    return replace(request, prompt=request.prompt[cut:], turns=(0, *turns) if before % 2 else turns)
