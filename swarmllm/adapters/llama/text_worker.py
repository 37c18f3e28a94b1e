"""The process that holds the tokenizer: `python -m swarmllm.adapters.llama.text_worker SOCKET_FD`.

A vocabulary comes from a stranger's file, and llama.cpp ends its process over some of them, or over
some texts. So it has a process of its own, beside that of the model, which may be in the middle of
a batch for seconds. Without weights it is small (25 MB and the vocabulary) and there in a third of
a second. It answers one question at a time, and ends with its pipe."""

from __future__ import annotations

import resource
import signal
import socket
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from swarmllm.adapters.chat.prompt import ChatPrompter
from swarmllm.adapters.llama.cache_file import replacing
from swarmllm.adapters.llama.gguf_tokenizer import gguf_of
from swarmllm.adapters.llama.pipe import (
    CHAT,
    DECLINED,
    ENCODE,
    FAILED,
    READY,
    REFUSED,
    SEAL,
    START,
    Frames,
    frame,
)
from swarmllm.adapters.llama.tokenizer import LlamaTokenizer
from swarmllm.adapters.private import keep_private
from swarmllm.core.chat import ChatMessage
from swarmllm.core.vocabulary import Span, Vocabulary
from swarmllm.errors import LocalError, RemoteError, SwarmError, UsageError
from swarmllm.wire.tokenizer import unseal

# Address space: the largest vocabulary takes a tenth of this.
MEMORY_BYTES_MAX: Final = 4 << 30
# Some pre-tokenizers are regular expressions of the C++ library, which recurses once a character.
STACK_BYTES: Final = 512 << 20
PIPE_FRAME_MAX: Final = 96 << 20  # The vocabulary with 64 MiB of pieces.
RECV_BYTES: Final = 1 << 18


def load(
    path: Path, digests: tuple[bytes, bytes] | None, sealed: bytes
) -> tuple[LlamaTokenizer, Vocabulary]:
    """The tokenizer in `path`, which is written first if it comes `sealed` from a peer. LocalError
    or RemoteError if it is not the one that the digests name."""
    if sealed:
        assert digests is not None, "a stranger's tokenizer without its digests"
        with replacing(path) as file:
            file.write(gguf_of(unseal(sealed, *digests)))
    tokenizer = LlamaTokenizer(path)
    vocabulary = tokenizer.vocabulary(path)
    found = vocabulary.fingerprint, vocabulary.chat_digest
    if digests is not None and found != digests:
        raise LocalError(f"{path} holds another vocabulary than its name says: delete it")
    return tokenizer, vocabulary


def packed(vocabulary: Vocabulary) -> dict[str, Any]:
    """As msgpack can carry it."""
    fields = asdict(vocabulary)
    return {**fields, "ends": vocabulary.ends.tobytes(), "eog": sorted(vocabulary.eog)}


def conversation(prompter: ChatPrompter, messages: list[list[str]]) -> tuple[Any, ...]:
    """The answer to CHAT: the fields of a `ChatPrompt`, or why there is none."""
    try:
        prompt = prompter.prompt([ChatMessage(role, content) for role, content in messages])
    except UsageError as error:
        return DECLINED, str(error)
    return CHAT, {**asdict(prompt), "end_tokens": sorted(prompt.end_tokens)}


def serve(pipe: socket.socket) -> None:
    frames = Frames(PIPE_FRAME_MAX)
    tokenizer: LlamaTokenizer | None = None
    prompter: ChatPrompter | None = None
    while data := pipe.recv(RECV_BYTES):
        for message in frames.feed(data):
            match message:
                case [kind, path, digests, sealed] if kind == START:
                    named = None if digests is None else (digests[0], digests[1])
                    tokenizer, vocabulary = load(Path(path), named, sealed)
                    pipe.sendall(frame((READY, packed(vocabulary))))
                case [kind, spans] if kind == ENCODE and tokenizer is not None:
                    ids = tokenizer.encode([Span(text, special) for text, special in spans])
                    pipe.sendall(frame((ENCODE, np.array(ids, np.int32).tobytes())))
                case [kind, messages] if kind == CHAT and tokenizer is not None:
                    prompter = prompter or ChatPrompter(
                        vocabulary, tokenizer.encode, tokenizer.special_names()
                    )
                    pipe.sendall(frame(conversation(prompter, messages)))
                case [kind] if kind == SEAL and tokenizer is not None:
                    pipe.sendall(frame((SEAL, tokenizer.data.sealed())))
                case _:
                    raise AssertionError(f"an order that nobody sends: {message[0]!r}")


def run(pipe: socket.socket) -> None:
    try:
        serve(pipe)
    except (BrokenPipeError, ConnectionResetError):
        pass  # The node process is gone.
    except RemoteError as error:
        pipe.sendall(frame((REFUSED, str(error))))
    except SwarmError as error:
        pipe.sendall(frame((FAILED, str(error))))
    except OSError as error:
        pipe.sendall(frame((FAILED, f"the vocabulary cannot be kept ({error.strerror or error})")))
    except MemoryError:
        pipe.sendall(frame((FAILED, "not enough memory for the vocabulary: free some")))


def main(arguments: list[str]) -> None:
    keep_private()
    # Ctrl-C goes to the whole group; what it means is for the node process to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=run, args=(socket.socket(fileno=int(arguments[0])),))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
