"""Signals that are heard while a line is read: Ctrl-C ends the reading whenever it comes.

Python notes a signal and acts on it between two of its own instructions, or when the system ends a
wait because of it. One that comes in the moment in which `input` begins to wait does neither: it
would be heard with the next line only. Here a second thread learns of it as well, and wakes the
wait by a signal that means nothing, until the first one has been acted upon.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MEANS_NOTHING: Final = signal.SIGURG  # Nobody sends it here, and by default it does nothing.
AGAIN_S: Final = 0.02  # A wake-up can come too early as well.


@contextmanager
def heard_at_once() -> Iterator[None]:
    """For the main thread, around `input`."""
    main = threading.get_ident()
    is_heard = threading.Event()  # Or there is nothing to wake any more.
    hears, told = socket.socketpair()

    def wake() -> None:
        while signum := hears.recv(1):
            if signum[0] == signal.SIGINT:
                is_heard.clear()
                while not is_over.is_set() and not is_heard.wait(AGAIN_S):
                    signal.pthread_kill(main, MEANS_NOTHING)

    is_over = threading.Event()
    told.setblocking(False)
    waker = threading.Thread(target=wake, name="swarmllm-waker", daemon=True)
    # What acts on signals takes them in the order of their numbers, so SIGINT's is done by then.
    meant = signal.signal(MEANS_NOTHING, lambda *_: is_heard.set())
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    waker.start()
    try:
        yield
    finally:
        is_over.set()
        is_heard.set()
        signal.set_wakeup_fd(before)
        told.close()
        waker.join()
        hears.close()
        signal.signal(MEANS_NOTHING, meant)
