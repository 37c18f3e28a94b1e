"""Where the text to continue comes from: standard input or a file, which nobody else sees, or the
command line, which everybody does."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace

from swarmllm.cli.output import notice
from swarmllm.cli.streams import STDIN, input_is_closed, read_descriptor
from swarmllm.cli.waiting import still_waiting
from swarmllm.core.chat import SYSTEM, USER, ChatMessage
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.service.request import PROMPT_BYTES_MAX, TextRequest
from swarmllm.runtime.user_path import user_path
from swarmllm.runtime.user_text import typed_text

WAYS = "give - and the text on standard input, or --file FILE, or the text itself"


def read_prompt(argument: str | None, file: str | None) -> str:
    """The text of the one that is given; `-` is all of standard input. UsageError for none, both,
    or what is no text."""
    if (argument is None) == (file is None):
        found = "is no text" if file is None else "are two texts"
        raise UsageError(f"there {found} to continue; {WAYS}")
    if file is not None:
        return text_of_file(file, PROMPT_BYTES_MAX)
    assert argument is not None
    if argument != "-":
        return typed_text(argument, "the text")
    return _decoded(_of_input(), "standard input")


def as_question(request: TextRequest, instructions: str, *, is_raw: bool) -> TextRequest:
    """The same text as a question in a conversation. UsageError for instructions without one, and
    for a text without a word."""
    if is_raw:
        raise UsageError("--system gives instructions in a conversation; add --chat")
    if not request.prompt.strip():
        raise UsageError("the question is empty; give the text that is to be answered")
    system = [ChatMessage(SYSTEM, typed_text(instructions, "--system"))] if instructions else []
    messages = (*system, ChatMessage(USER, request.prompt))
    return replace(request, prompt="", turns=(), messages=messages)


def _of_input() -> bytes:
    if input_is_closed():
        raise UsageError(f"standard input is closed, so there is no text to continue; {WAYS}")
    if sys.stdin.isatty():
        notice("Reading the text from this terminal; end it with Enter and Ctrl-D.")
        return read_descriptor(STDIN, PROMPT_BYTES_MAX, "standard input")
    # Without an end: whatever writes into the pipe may take its time, and whoever waits is told.
    with still_waiting("the text on standard input"):
        return read_descriptor(STDIN, PROMPT_BYTES_MAX, "standard input")


def text_of_file(file: str, bytes_max: int) -> str:
    """UsageError for what is no text or too long, LocalError for what cannot be read."""
    return _decoded(_of_file(file, bytes_max), file)


def _of_file(file: str, bytes_max: int) -> bytes:
    """A named pipe will do as well (`--file <(...)` in a shell)."""
    path = user_path(file)
    try:
        with still_waiting(f"the text in {path}"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    raise UsageError(f"{path} is a folder; give the file that holds the text")
                return read_descriptor(descriptor, bytes_max, str(path))
            finally:
                os.close(descriptor)
    except OSError as error:
        raise LocalError(
            f"cannot read {path} ({error.strerror}); check its path and permissions"
        ) from error


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise UsageError(
            f"{where} is not UTF-8 text (byte {fault.start}); convert it first"
        ) from fault
