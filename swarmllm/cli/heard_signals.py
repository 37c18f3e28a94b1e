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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MEANS_NOTHING: Final = signal.SIGURG  # Nobody sends it here, and by default it does nothing.
AGAIN_S: Final = 0.02  # A wake-up can come too early as well.


@contextmanager
def heard_at_once() -> Iterator[None]:
    """For the main thread, around `input`."""
    main = threading.get_ident()
    is_heard = is_over = False  # No events: a handler that takes a lock could wait for itself.
    hears, told = socket.socketpair()

    def hear(*_: object) -> None:
        nonlocal is_heard
        is_heard = True

    def wake() -> None:
        nonlocal is_heard
        while signum := hears.recv(1):
            is_heard = signum[0] != signal.SIGINT
            while not is_heard and not is_over:
                time.sleep(AGAIN_S)
                signal.pthread_kill(main, MEANS_NOTHING)

    told.setblocking(False)
    waker = threading.Thread(target=wake, name="swarmllm-waker", daemon=True)
    # What acts on signals takes them in the order of their numbers, so SIGINT's is done by then.
    meant = signal.signal(MEANS_NOTHING, hear)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    waker.start()
    try:
        yield
    finally:
        is_over = True
        signal.set_wakeup_fd(before)
        told.close()
        waker.join()
        hears.close()
        signal.signal(MEANS_NOTHING, meant)
