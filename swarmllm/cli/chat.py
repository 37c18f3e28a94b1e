"""`swarmllm chat` is a conversation with the swarm on a terminal. Ctrl-C stops an answer, Ctrl-D
ends.

Each answer is asked for with all that was said, written by the model's chat template. The line
editor needs the main thread (and signals reach only that one), so the event loop with
the node runs in another. Ctrl-C ends no conversation, however often and whenever it is pressed:
outside of the line editor it raises nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Final, NoReturn, TypeGuard

import trio

from swarmllm.adapters.atomic_file import write_new
from swarmllm.cli.client import NodeClient, open_client
from swarmllm.cli.conversation import COMMANDS, Command, Conversation, command_in
from swarmllm.cli.generate import Keep, ShownAnswer
from swarmllm.cli.guard import OK, ending_signals
from swarmllm.cli.heard_signals import heard_at_once
from swarmllm.cli.inspect import experts_table
from swarmllm.cli.markdown_stream import shown
from swarmllm.cli.output import answer as answer_screen
from swarmllm.cli.output import complain, in_thread, notice, people
from swarmllm.cli.streams import OutputError, input_is_closed
from swarmllm.errors import ContextError, LocalError, SwarmError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import TextRequest
from swarmllm.runtime.user_path import user_path
from swarmllm.runtime.user_text import typed_text

PROMPT: Final = "> "
LEAVE_S: Final = 4.0  # For the node to say goodbye; it takes under 2 s.


class _Loop:
    """The event loop in its thread, with the client in it. Every method is for the main thread."""

    def __init__(self, config: Config, *, local: bool, verbose: bool) -> None:
        self._config = config
        self._local = local
        self._verbose = verbose
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._client: NodeClient | None = None
        self._failure: BaseException | None = None
        self._done = threading.Event()  # With what was asked last, or with everything.
        self._asked: trio.CancelScope | None = None
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="swarmllm-chat", daemon=True)

    def start(self) -> None:
        """Returns when answers can be asked for; raises what kept the node from starting."""
        self._thread.start()
        self._ready.wait()
        self._raise()

    def answer(self, request: TextRequest, keep: Keep | None = None) -> str:
        """The text of one answer; `stop` ends it early and what came until then is returned.
        SwarmError if none came. `keep` fetches and keeps its receipt, if one is wanted."""
        found: list[ShownAnswer] = []

        async def work(client: NodeClient) -> None:
            await self._shown(client, request, found)
            if keep is not None:
                await keep(client)

        self._until_done(work)
        text = found[0].text if found else ""
        if text and _is_of_the_answer(self._failure):
            complain(str(self._failure))  # What was shown stays part of the text.
            self._failure = None
        self._raise()
        if found and found[0].reason == "length":
            notice("(Cut here: --max-tokens N allows longer answers.)")
        return text

    def experts(self) -> None:
        """Show the experts that the node knows. SwarmError."""
        found: list[Record] = []

        async def ask(client: NodeClient) -> None:
            async with client.node.call("experts") as records:
                found.extend([record async for record in records])

        self._until_done(ask)
        self._raise()
        for record in found:
            people().print(experts_table(record.get("experts") or [], time.time()))

    def stop(self) -> None:
        """End what is being asked for, if anything is. A signal handler may call it."""
        if self._asked is not None and self._token is not None:
            self._is_stopped = True
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._asked.cancel)

    def leave(self) -> None:
        """Also while the node starts."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
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
        self._done.set()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with (
                open_client(self._config, local=self._local) as client,
                trio.open_nursery() as nursery,
            ):
                self._client, self._nursery = client, nursery
                self._ready.set()
                await trio.sleep_forever()

    async def _shown(
        self, client: NodeClient, request: TextRequest, found: list[ShownAnswer]
    ) -> None:
        """The answer as it comes: laid out on a terminal, as it is elsewhere and beside the rounds
        of `--verbose`."""
        is_plain = self._verbose or sys.stdout is None or not sys.stdout.isatty()
        if is_plain:
            found.append(ShownAnswer(client, people(), verbose=self._verbose))
            await found[0].run(request)
            return
        with shown(answer_screen()) as stream:

            async def write(text: str) -> None:
                await in_thread(stream.push, text)

            found.append(ShownAnswer(client, people(), write=write))
            await found[0].run(request)

    def _until_done(self, work: Callable[[NodeClient], Awaitable[None]]) -> None:
        """Do it in the loop, and wait for it, or for the end of the loop, whose failure is then
        ours."""
        scope, client, token = trio.CancelScope(), self._client, self._token
        assert client is not None
        assert token is not None

        async def body() -> None:
            try:
                with scope:
                    await work(client)
            except (SwarmError, OSError) as failure:
                self._failure = failure
            self._done.set()

        self._done.clear()
        self._asked, self._is_stopped = scope, False
        try:
            token.run_sync_soon(lambda: self._nursery.start_soon(body))
            self._done.wait()
        except trio.RunFinishedError:
            # Of what was said nothing is lost: `/save` needs no node.
            self._failure = self._failure or LocalError(
                "the node of this chat has ended; leave and start it again"
            )
        self._asked = None
        if self._is_stopped:
            notice("(stopped)")


class _Keyboard:
    """The line editor, and the handler of SIGINT: while a line is written it throws that away
    (KeyboardInterrupt, once a line), elsewhere it stops what is being asked for."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._is_typing = False
        # In a pipe or a file are answers alone.
        self._is_seen = sys.stdin.isatty() and sys.stdout.isatty()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._is_typing:
            self._stop()
            return
        self._is_typing = False
        raise KeyboardInterrupt

    def read(self) -> str:
        """A line. KeyboardInterrupt, EOFError."""
        with heard_at_once():
            try:
                self._is_typing = True
                return input(PROMPT) if self._is_seen else input()
            except SystemError:
                # Python's word for a handler that returns while the KeyboardInterrupt of the one
                # before it is on its way out of the line editor: Ctrl-C came twice at once.
                raise KeyboardInterrupt from None
            finally:
                self._is_typing = False


@contextmanager
def keeping_what_is_typed_ahead() -> Iterator[None]:
    """A terminal throws away what was typed and not read yet when Ctrl-C comes; here that stops an
    answer, and the next question may have been typed already."""
    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, ValueError):
        yield  # No terminal.
        return
    flags = before[3] | termios.NOFLSH
    termios.tcsetattr(sys.stdin, termios.TCSANOW, [*before[:3], flags, *before[4:]])
    try:
        yield
    finally:
        with suppress(termios.error, OSError):
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def chat(
    config: Config, options: TextRequest, *, instructions: str, verbose: bool, local: bool
) -> int:
    options.check_options()
    if input_is_closed():
        raise UsageError(
            "chat reads what you write from standard input, which is closed; run it on a terminal"
        )
    for number in ending_signals():
        signal.signal(number, _terminate)
    loop = _Loop(config, local=local, verbose=verbose)
    try:
        loop.start()
        notice("Ask something. Ctrl-C stops an answer, /help shows the commands, Ctrl-D ends.")
        keyboard = _Keyboard(loop.stop)
        signal.signal(signal.SIGINT, keyboard)
        with keeping_what_is_typed_ahead():
            _talk(loop, options, Conversation(instructions), keyboard.read)
    finally:
        loop.leave()
    return OK


def _is_of_the_answer(failure: BaseException | None) -> TypeGuard[SwarmError]:
    """And no conversation: but where nothing can be shown any more there is none."""
    return isinstance(failure, SwarmError) and not isinstance(failure, OutputError)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _talk(
    loop: _Loop, options: TextRequest, conversation: Conversation, read: Callable[[], str]
) -> None:
    # Gives `input` its line editing and its history, where the system has it.
    import readline

    if os.environ.get("TERM") not in {"dumb", "unknown"}:
        # What is pasted is one question, however many lines it has.
        readline.parse_and_bind("set enable-bracketed-paste on")
    receipt = ""  # The file that what experts sign of the next answer goes into.
    while True:
        try:
            line = typed_text(read(), "the line")
        except EOFError:
            notice("")
            return
        except KeyboardInterrupt:
            notice("(Ctrl-D ends)")
            continue
        except UsageError as fault:
            complain(str(fault))
            continue
        command = command_in(line)
        if command is not None and command.name == "/quit":
            return
        if command is not None and command.name == "/receipt":
            if not command.rest:
                complain("/receipt needs the name of a file, such as /receipt gravity.receipt")
            receipt = with_receipt(options, command.rest)[2]
        elif command is not None:
            conversation = commanded(conversation, command, loop.experts)
        elif line.strip():
            before, (request, keep, receipt) = conversation, with_receipt(options, receipt)
            conversation = turn(before, line, request, partial(loop.answer, keep=keep))
            receipt = "" if conversation != before else receipt


def with_receipt(options: TextRequest, word: str) -> tuple[TextRequest, Keep | None, str]:
    """The options with a receipt that is written into this file, what writes it, and the file; what
    is no place for one is told, and then there is none."""
    # It brings what reads receipts, which few conversations need.
    from swarmllm.cli.trust.receipts import wanted

    if not word:
        return options, None, ""
    try:
        return *wanted(options, word), word
    except SwarmError as fault:
        complain(str(fault))
        return options, None, ""


def commanded(
    before: Conversation, command: Command, show_experts: Callable[[], None]
) -> Conversation:
    """The conversation after a command; what it brought about is told."""
    match command.name:
        case "/reset":
            notice("(Forgotten. The instructions are as they were.)")
            return before.reset()
        case "/system":
            notice(
                "(The assistant has new instructions.)" if command.rest else "(No instructions.)"
            )
            return before.instructed(command.rest)
        case "/save":
            _save(before, command.rest)
        case "/experts":
            _said(show_experts)
        case "/help":
            width = max(map(len, COMMANDS))
            for name, about in COMMANDS.items():
                notice(f"  {name:{width}}  {about}")
        case unknown:
            complain(f"there is no command {unknown[:40]!r}; /help shows those that there are")
    return before


def _save(conversation: Conversation, word: str) -> None:
    def save() -> None:
        path = user_path(word)
        write_new(path, conversation.as_markdown().encode(), "the conversation", option="")
        notice(f"(Written to {path}.)")

    if not word:
        complain("/save needs the name of a file, such as /save gravity.md")
    elif not conversation.said:
        complain("nothing has been said yet, so there is nothing to save")
    else:
        _said(save)


def _said(body: Callable[[], None]) -> None:
    """A fault of a command ends no conversation."""
    try:
        body()
    except SwarmError as fault:
        if not _is_of_the_answer(fault):
            raise
        complain(str(fault))


def turn(
    before: Conversation, line: str, options: TextRequest, answer: Callable[[TextRequest], str]
) -> Conversation:
    """The conversation after one line: with it and its answer, or as it was if it got none.

    A line that stayed there after it was refused would make every later one be refused as well.
    Where the conversation no longer fits into any expert, its oldest turns are left out.
    """
    asked = before.ask(line)
    try:
        while True:
            try:
                text = answer(asked.request(options))
                return asked.answered(text) if text else before
            except ContextError as fault:
                shorter = asked.shortened(fault.excess)
                if shorter is None:
                    raise
                notice(_left_out((len(asked.said) - len(shorter.said)) // 2))
                asked = shorter
    except SwarmError as fault:
        if not _is_of_the_answer(fault):
            raise
        complain(str(fault))
        if isinstance(fault, ContextError) and before.instructions:
            notice("(The instructions count as well; /system TEXT gives others.)")
        notice("(Your last line got no answer and is left out; the rest is as it was.)")
        return before


def _left_out(turns: int) -> str:
    what = "turn is" if turns == 1 else f"{turns} turns are"
    return f"(The conversation no longer fits; its oldest {what} left out from here.)"
