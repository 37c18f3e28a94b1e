"""Nothing that a person types waits in silence: whatever may take seconds says every few of them what it is waiting for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from swarmllm.cli.output import notice
from swarmllm.runtime.patience import Patience

WORD_EVERY_S: Final = 4.0  # Before a person has waited for 5 s without a word.
QUESTION: Final = Patience(notice, end_s=20.0)  # A node that is well answers a question within milliseconds.
ANSWER: Final = Patience(notice, end_s=60.0)  # In the middle of a long answer a node may be given more time to come back.


@contextmanager
def still_waiting(what: str, tell: Callable[[str], object] = notice, every_s: float = WORD_EVERY_S) -> Iterator[None]:
    """While the block runs, tell every few seconds that it waits for `what`.

    From a thread, because the block may be one that keeps this one busy: reading, importing, asking a resolver.
    """
    over = threading.Event()

    def watch() -> None:
        began = time.monotonic()
        while not over.wait(every_s):
            tell(f"Still waiting for {what} ({time.monotonic() - began:.0f} s).")

    watcher = threading.Thread(target=watch, name="swarmllm-waiting", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
