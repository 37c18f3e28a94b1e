"""What one node of the halting benchmark stamps: flag, tokens, scores, processor time, and how long
its event loop was away.

All times are of the monotonic clock, which all processes of one machine share. The loop is watched
in two ways: by the clock, as whoever waits for it feels it, other processes on the same cores
included; and by the processor time of one turn, which is the node's own doing wherever it runs.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from trio.abc import Instrument

from swarmllm.messages import PeerId
from swarmllm.runtime.service.record import Record

STAMPS_MAX: Final = 8_192  # Tokens and scores of one halt; on any machine far fewer.
EVENTS_MAX: Final = 256


class Turns(Instrument):
    """The longest turn of the loop: from one wait for news to the next, in seconds of the clock and
    of processor time."""

    def __init__(self) -> None:
        self.gap_s = self.cpu_s = 0.0
        self._at = self._cpu_at = 0.0

    def after_io_wait(self, timeout: float) -> None:
        self._at, self._cpu_at = time.monotonic(), time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        if self._at:
            self.gap_s = max(self.gap_s, time.monotonic() - self._at)
            self.cpu_s = max(self.cpu_s, time.thread_time() - self._cpu_at)

    def reset(self) -> None:
        """From now on; the turn that is running counts from here, too."""
        self.gap_s = self.cpu_s = 0.0
        self._at, self._cpu_at = time.monotonic(), time.thread_time()


@dataclass
class Log:
    """What happened, and when."""

    running: bool = False
    streaming: bool = False
    told: bool = False  # Of the first token since the start.
    halted_at: float = 0.0
    marked_at: float = 0.0
    cpu_at_mark: float = 0.0
    cpu_at_halt: float = 0.0
    pooled: int = 0
    tokens: deque[float] = field(default_factory=lambda: deque(maxlen=STAMPS_MAX))
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=STAMPS_MAX))
    links: set[PeerId] = field(default_factory=set)  # With a halt stream that is up.
    # From when to when there was none.
    cut: list[tuple[float, float]] = field(default_factory=list)
    cut_at: float | None = None  # Since when there is none; None: there is one.
    turns: Turns = field(default_factory=Turns)
    changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.sender, self.receiver = trio.open_memory_channel[Record](EVENTS_MAX)

    def tell(self, **record: Any) -> None:
        self.sender.send_nowait(record)

    def flag(self, running: bool) -> None:
        """The stop flag has just been set or cleared."""
        now, cpu = time.monotonic(), time.process_time()
        if running != self.running:
            self.running, self.told = running, False
            if not running:
                self.halted_at, self.cpu_at_halt = now, cpu
            self.tell(event="running" if running else "halted", at=now)
            self.wake()

    def token(self, pooled: int) -> None:
        self.tokens.append(time.monotonic())
        self.pooled += pooled
        if not self.told and self.running:
            self.told = True
            self.tell(event="token", at=self.tokens[-1])

    def linked(self, peer: PeerId) -> None:
        self.links.add(peer)
        if self.cut_at is not None:
            self.cut.append((self.cut_at, time.monotonic()))
            self.cut_at = None

    def unlinked(self, peer: PeerId) -> None:
        self.links.discard(peer)
        if not self.links and self.cut_at is None:
            self.cut_at = time.monotonic()

    def mark(self) -> None:
        """Everything that is counted is counted from here. Tells what was counted until now."""
        now = time.monotonic()
        self.tell(
            event="marked",
            tokens=len(self.tokens),
            seconds=now - self.marked_at,
            turn_s=self.turns.cpu_s,
        )
        self.marked_at = now
        self.tokens.clear()
        self.scores.clear()
        self.cut.clear()
        self.turns.reset()
        self.pooled = 0
        self.cpu_at_mark = self.cpu_at_halt = time.process_time()

    def report(self, peers: int) -> Record:
        return {
            "tokens": list(self.tokens),
            "scores": list(self.scores),
            "pooled": self.pooled,
            "halted_at": self.halted_at,
            "cpu_to_flag_s": self.cpu_at_halt - self.cpu_at_mark,
            "cpu_s": time.process_time() - self.cpu_at_mark,
            "gap_s": self.turns.gap_s,
            "turn_s": self.turns.cpu_s,
            "peers": peers,
            "links": len(self.links),
            "cut": [
                *self.cut,
                *([(self.cut_at, time.monotonic())] if self.cut_at is not None else []),
            ],
        }

    def wake(self) -> None:
        before, self.changed = self.changed, trio.Event()
        before.set()
