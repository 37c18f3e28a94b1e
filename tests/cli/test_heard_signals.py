"""Ctrl-C while a line is read: heard, also where Python has noted it and waits all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from swarmllm.cli import chat, first_model
from swarmllm.cli.heard_signals import MEANS_NOTHING, heard_at_once

PATIENCE_S: Final = 30.0


class Typist:
    """Standard input, and who sits at it: while the main thread waits for a line Ctrl-C comes, in
    another thread, so that it wakes nothing. If it is not heard for long a line comes: a test fails
    then, and does not hang. `press`: done in that thread once the reader waits."""

    def __init__(self, press: Callable[[Typist], None] | None = None) -> None:
        self.is_reading, self.is_over = threading.Event(), threading.Event()
        self.had_to_type = False
        self._ours, self._typed = os.pipe()
        self._thread = threading.Thread(target=self._sit, args=(press or Typist.ctrl_c,))

    def isatty(self) -> bool:
        return False

    def readline(self) -> str:
        self.is_reading.set()
        return os.read(self._ours, 100).decode()

    def type(self, line: str) -> None:
        os.write(self._typed, line.encode())

    def ctrl_c(self) -> None:
        signal.raise_signal(signal.SIGINT)
        if not self.is_over.wait(PATIENCE_S):
            self.had_to_type = True
            self.type("late\n")

    def _sit(self, press: Callable[[Typist], None]) -> None:
        assert self.is_reading.wait(PATIENCE_S)
        time.sleep(0.1)  # Until the reader waits in the system.
        press(self)

    def __enter__(self) -> Typist:
        self._thread.start()  # Before: it takes over what its maker blocks.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self._thread.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.close(self._ours)
        os.close(self._typed)


@pytest.fixture(autouse=True)
def ctrl_c_raises() -> Iterator[None]:
    """Wherever the tests were started: what runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def plain() -> str:
    with heard_at_once():
        return input()


def asked() -> object:
    return first_model._agreed("?")


def chatted() -> str:
    keyboard = chat._Keyboard(lambda: None)
    signal.signal(signal.SIGINT, keyboard)
    return keyboard.read()


@pytest.mark.parametrize("read", [plain, asked, chatted])
def test_ctrl_c_that_wakes_nothing_ends_the_wait_for_a_line(
    read: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Typist() as typist:
        monkeypatch.setattr(sys, "stdin", typist)
        with pytest.raises(KeyboardInterrupt):
            read()
        assert not typist.had_to_type


def test_a_handler_that_raises_nothing_leaves_the_line_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: heard.set())

    def press(typist: Typist) -> None:
        signal.raise_signal(signal.SIGINT)
        typist.had_to_type = not heard.wait(PATIENCE_S)
        typist.type("a line\n")

    with Typist(press) as typist:
        monkeypatch.setattr(sys, "stdin", typist)
        assert plain() == "a line"
        assert not typist.had_to_type


AT_EACH_LINE: Final = """
import signal, sys
from swarmllm.cli.heard_signals import MEANS_NOTHING, heard_at_once
def wake(*_):
    handler = signal.getsignal(MEANS_NOTHING)
    if callable(handler):
        handler(MEANS_NOTHING, None)
    return wake
sys.settrace(wake)
with heard_at_once():
    pass
"""


def test_a_wake_up_in_whatever_moment_blocks_nothing() -> None:
    subprocess.run([sys.executable, "-c", AT_EACH_LINE], check=True, timeout=PATIENCE_S)


def test_what_was_there_before_is_there_again() -> None:
    before = signal.getsignal(MEANS_NOTHING)
    threads = threading.active_count()
    for _ in range(3):
        with heard_at_once():
            assert signal.getsignal(MEANS_NOTHING) != before
    assert signal.getsignal(MEANS_NOTHING) == before
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1
