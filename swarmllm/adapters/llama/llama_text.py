"""The Text port in front of a text worker: llama.cpp's tokenizer in a process of its own.

The vocabulary comes over once and stays here, so that detokenisation waits for nobody. The process
is started for each first question and ended when none came for a while: most nodes only serve, and
those never tokenise.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import trio

from swarmllm.adapters.llama.engine import words_of
from swarmllm.adapters.llama.pipe import (
    CHAT,
    DECLINED,
    ENCODE,
    READY,
    REFUSED,
    SEAL,
    START,
    Frames,
    frame,
)
from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.thinking import Thinking
from swarmllm.core.vocabulary import Span, Vocabulary, check_text
from swarmllm.errors import LocalError, RemoteError, UsageError

WORKER: Final = "swarmllm.adapters.llama.text_worker"
# llama.cpp would call a debugger, if there is one, when it ends its process.
QUIET: Final = {"GGML_NO_BACKTRACE": "1"}
IDLE_S: Final = 300.0  # A new process takes a third of a second.
# A vocabulary of a million tokens on a slow machine; and 4 MiB of text, at 0.6 MB/s on a usual one.
PATIENCE_S: Final = 60.0
# For our own file at the start: the disk and the processors are busy with the model's load.
START_PATIENCE_S: Final = 300.0
# A chat template that takes longer has gone wrong; its own bounds stop most of these much sooner.
CHAT_PATIENCE_S: Final = 15.0
BUSY: Final = "; where this machine is busy with other things, try again when it is less so"
TOO_MUCH_WORK: Final = (
    f"{BUSY}; if it is not, the chat template of the model asks for too much: use another"
    " conversion of the model, or generate --raw, which needs none"
)
TEXT_BYTES_MAX: Final = 4 << 20  # The longest context, 2^20 tokens, is about as much.
REPLY_FRAME_MAX: Final = 96 << 20
RECV_BYTES: Final = 1 << 18


class LlamaText:
    """`runtime.ports.Text` of the vocabulary in a GGUF file, be there a model in it or not."""

    def __init__(self, path: Path, digests: tuple[bytes, bytes] | None = None) -> None:
        """`digests` (fingerprint, chat digest): it must be this one."""
        self._path, self._digests = path, digests
        self._lock = trio.Lock()
        self._process: _Process | None = None
        self._vocabulary: Vocabulary | None = None
        self._used_at = 0.0

    @property
    def vocabulary(self) -> Vocabulary:
        assert self._vocabulary is not None, "the text worker has not started"
        return self._vocabulary

    async def ready(self) -> Vocabulary:
        await trio.lowlevel.checkpoint()
        return self.vocabulary

    async def encode(self, text: str | Sequence[Span], *, add_bos: bool = False) -> list[int]:
        spans = [Span(text)] if isinstance(text, str) else text
        size = _checked(span.text for span in spans)
        async with self._lock:
            what = f"a text of {size:,} bytes"
            parts = [(span.text, span.parse_special) for span in spans]
            data = await self._ask((ENCODE, parts), ENCODE, what)
        ids = array("i", data).tolist()
        return self.vocabulary.begin(ids) if add_bos else ids

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> ChatPrompt:
        size = _checked(message.content for message in messages)
        order = (CHAT, [(message.role, message.content) for message in messages])
        async with self._lock:
            what = f"a conversation of {size:,} bytes"
            fields = await self._ask(order, CHAT, what, CHAT_PATIENCE_S)
        return ChatPrompt(
            ids=tuple(fields["ids"]),
            own=tuple((start, end) for start, end in fields["own"]),
            end_tokens=frozenset(fields["end_tokens"]),
            stop=tuple(fields["stop"]),
            thinking=_thinking(fields["thinking"]),
        )

    async def sealed(self) -> bytes:
        """The tokenizer as peers without a model are sent it."""
        async with self._lock:
            found: bytes = await self._ask((SEAL,), SEAL, "its own vocabulary")
        return found

    async def start(self, sealed: bytes = b"") -> None:
        """Learn the vocabulary; from a peer's `sealed` one, the file is made first. LocalError, one
        sentence, for one that is unfit; RemoteError if a peer sent something else."""
        async with self._lock:
            await self._start(sealed)

    async def _start(self, sealed: bytes = b"") -> _Process:
        process = self._process = await _Process.spawn()
        try:
            order = (START, str(self._path), self._digests, sealed)
            what, patience_s = f"the vocabulary of {self._path}", START_PATIENCE_S
            if sealed:  # A peer made it.
                patience_s = PATIENCE_S
            fields = await process.ask(order, READY, what, patience_s)
        except BaseException:
            await self._end()
            if sealed:  # It was written before it was tried, and may have ended the process.
                self._path.unlink(missing_ok=True)
            raise
        found = Vocabulary(
            **{**fields, "ends": array("I", fields["ends"]), "eog": frozenset(fields["eog"])}
        )
        if self._vocabulary is not None and found != self._vocabulary:
            await self._end()
            raise LocalError(f"{self._path} has changed since this node started; start it again")
        self._vocabulary = found
        self._used_at = trio.current_time()
        return process

    async def _ask(
        self, order: tuple[Any, ...], kind: str, what: str, patience_s: float = PATIENCE_S
    ) -> Any:
        if self._process is not None and self._process.has_ended:
            await self._end()  # Between two questions: ended by the system or by a person.
        process = self._process or await self._start()
        self._used_at = trio.current_time()
        try:
            return await process.ask(order, kind, what, patience_s)
        except UsageError:
            raise  # The worker has refused it, and waits for the next question.
        except BaseException:
            await self._end()  # Its answer may still come, and would be taken for the next one.
            raise

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()

    async def run(self) -> None:
        """End the process whenever nobody has asked for a while, and at last when cancelled."""
        try:
            while True:
                await trio.sleep(IDLE_S / 2)
                async with self._lock:
                    if trio.current_time() - self._used_at >= IDLE_S:
                        await self._end()
        finally:
            with trio.CancelScope(shield=True):
                await self._end()


def _thinking(fields: dict[str, Any] | None) -> Thinking | None:
    if fields is None:
        return None
    tokens = tuple((token, name) for token, name in fields["tokens"])
    return Thinking(fields["opening"], fields["closing"], fields["is_open"], tokens)


def _checked(texts: Iterable[str]) -> int:
    """Their size in bytes together. UsageError for texts that are no UTF-8, or too long."""
    size = 0
    for text in texts:
        check_text(text)
        size += len(text.encode())
    if size > TEXT_BYTES_MAX:
        raise UsageError(
            f"the text has {size:,} bytes, and no context holds more than {TEXT_BYTES_MAX:,}:"
            " shorten it"
        )
    return size


@asynccontextmanager
async def open_text(
    path: Path, digests: tuple[bytes, bytes] | None = None, sealed: bytes = b""
) -> AsyncIterator[LlamaText]:
    """The text side of the vocabulary in `path`. LocalError, one sentence, if it is unfit."""
    text = LlamaText(path, digests)
    await text.start(sealed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(text.run)
        yield text
        nursery.cancel_scope.cancel()


class _Process:
    """One worker; a question and its answer at a time."""

    def __init__(self, process: trio.Process, pipe: trio.SocketStream, words: BinaryIO) -> None:
        self._process, self._pipe, self._words = process, pipe, words
        self._frames = Frames(REPLY_FRAME_MAX)

    @classmethod
    async def spawn(cls) -> _Process:
        try:
            ours, theirs = socket.socketpair()
            words = tempfile.TemporaryFile()  # noqa: SIM115  Closed with the process.
            with theirs:
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-P", "-m", WORKER, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    env={**os.environ, **QUIET},
                )
        except OSError as error:
            raise LocalError(
                f"the tokenizer's process cannot be started ({error.strerror or error}):"
                " free some memory or close other programs"
            ) from error
        ours.setblocking(False)
        return cls(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), words)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def ask(
        self, order: tuple[Any, ...], kind: str, what: str, patience_s: float = PATIENCE_S
    ) -> Any:
        with trio.move_on_after(patience_s):
            return await self._asked(order, kind, what)
        advice = TOO_MUCH_WORK if kind == CHAT else BUSY
        raise LocalError(
            f"the tokenizer's process took longer than {patience_s:.0f} s for {what}{advice}"
        )

    async def _asked(self, order: tuple[Any, ...], kind: str, what: str) -> Any:
        try:
            await self._pipe.send_all(frame(order))
            while data := await self._pipe.receive_some(RECV_BYTES):
                for found, value in self._frames.feed(data):
                    if found == kind:
                        return value
                    kind_of = {REFUSED: RemoteError, DECLINED: UsageError}
                    raise kind_of.get(found, LocalError)(str(value))
        except (trio.BrokenResourceError, ValueError):
            pass
        code = await self._process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        said = words_of(self._words)
        raise LocalError(
            f"llama.cpp's tokenizer {how} over {what}" + (f" ({said})" if said else "")
        )

    async def end(self) -> None:
        with trio.CancelScope(shield=True):
            self._process.kill()  # Nothing in it is worth saving.
            await self._process.wait()
            await self._pipe.aclose()
            self._words.close()
