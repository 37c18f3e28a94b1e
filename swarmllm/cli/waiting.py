"""Nothing that a person types waits in silence: whatever may take seconds says every few of them
what it is waiting for."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from swarmllm.cli.output import waiting
from swarmllm.cli.progress_line import progress_line
from swarmllm.runtime.local_api.client import Patience

WORD_EVERY_S: Final = 4.0  # Before a person has waited for 5 s without a word.
END_VARIABLE: Final = (
    # For tests and impatient scripts: seconds without a sign of life that end every wait.
    "SWARMLLM_PATIENCE_S"
)


def _end_s(usual_s: float) -> float:
    try:
        asked_s = float(os.environ.get(END_VARIABLE, ""))
    except ValueError:
        return usual_s
    return min(max(asked_s, 0.1), 3600.0) if math.isfinite(asked_s) else usual_s


# A node that is well answers a question within milliseconds.
QUESTION: Final = Patience(waiting, end_s=_end_s(20.0))
# In the middle of a long answer a node may be given more time to come back.
ANSWER: Final = Patience(waiting, end_s=_end_s(60.0))


@contextmanager
def still_waiting(
    what: str, tell: Callable[[str], object] = waiting, every_s: float = WORD_EVERY_S
) -> Iterator[None]:
    """While the block runs, tell every few seconds that it waits for `what`.

    From a thread, because the block may be one that keeps this one busy: reading, importing, asking
    a resolver.
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
        progress_line.show("")


class Silence:
    """A command of many steps is never silent for 5 s: a sentence then tells at which step it is.
    Use as a context manager."""

    def __init__(
        self, what: str, tell: Callable[[str], object] = waiting, every_s: float = WORD_EVERY_S
    ) -> None:
        self._what, self._tell, self._every_s = what, tell, every_s
        self._began = self._told = time.monotonic()
        self._over = threading.Event()
        self._covered = 0
        self._watcher = threading.Thread(target=self._watch, name="swarmllm-silence", daemon=True)

    def at(self, what: str) -> None:
        """Another step begins."""
        self._what, self._began = what, time.monotonic()
        self.heard()

    def now(self, what: str) -> None:
        """The same step, further on: how the next sentence names it."""
        self._what = what

    def heard(self) -> None:
        """Something was shown."""
        self._told = time.monotonic()

    @contextmanager
    def covered(self) -> Iterator[None]:
        """Something that moves is on the screen for as long as the block runs."""
        self._covered += 1
        try:
            yield
        finally:
            self._covered -= 1
            self.heard()

    @property
    def what(self) -> str:
        return self._what

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def end(self) -> None:
        """Nobody is waiting any more."""
        self._over.set()

    def __enter__(self) -> Silence:
        self.at(self._what)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()
        progress_line.show("")

    def _watch(self) -> None:
        while not self._over.wait(self._every_s / 8):
            now = time.monotonic()
            if not self._covered and now - self._told >= self._every_s:
                self._told = now
                self._tell(f"Still working: {self._what} ({now - self._began:.0f} s).")
