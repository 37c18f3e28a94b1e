"""Records the last 24 hours for the replay: a part of the node that counts, minute by minute, and
writes the hour to the store now and then. What a report said that its user handed over, it enters
into the ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from swarmllm.core.effects import AppendToLedger, NodeEffect, Save
from swarmllm.core.facts import (
    AnswerEnded,
    ExpertAsked,
    Fact,
    PeerGone,
    RecordsHeard,
    TokenMeasured,
)
from swarmllm.core.inputs import Asked, Input, PeerConnected, ReportOffered, TimerFired
from swarmllm.core.ledger.entry import LedgerEntry, LedgerKind
from swarmllm.core.part import Part, Told
from swarmllm.core.validation.recording import (
    HOUR_MIN,
    Minute,
    Recording,
    of_last_day,
    pack,
    unpack,
)
from swarmllm.messages import PeerId
from swarmllm.messages.governance import ReportRead
from swarmllm.wire.codec import encode

HOURS: Final = 24
SAVE_EVERY_MIN: Final = 10  # What a crash may lose; an hour has some 3 KB.
ROUNDS_MAX: Final = 4_096  # Of one minute, whose times are kept: more tell nothing new.
LATE_RATIO: Final = 3  # Times the median: such a round is late.
EXPERTS_MAX: Final = 512


def key_of_hour(minute: int) -> str:
    """Where the store keeps the hour of this minute; a day later it is written over."""
    return f"recording/{minute // HOUR_MIN % HOURS:02}"


class RecordingPart(Part):
    """`minute_at_zero`: minutes since 1970 when the clock of `now` showed 0, with their fraction.
    `load` gives what the store holds. The clock is looked at once: whoever sets it does not move
    what was recorded."""

    inputs = (
        *(Asked, PeerConnected, ReportOffered),
        *(AnswerEnded, ExpertAsked, PeerGone, RecordsHeard, TokenMeasured),
    )

    def __init__(
        self, minute_at_zero: float, now: float, load: Callable[[str], bytes | None]
    ) -> None:
        self._at_zero = minute_at_zero
        held = (load(key_of_hour(HOUR_MIN * hour)) for hour in range(HOURS))
        found = [minute for data in held if data is not None for minute in unpack(data)]
        self._now = Minute(self._minute(now))
        # What a clock wrote that was ahead is not of the last day.
        self._past = [one for one in of_last_day(found, self._now.minute) if one != self._now]
        self._rounds_s: list[float] = []
        self._firsts_s: list[float] = []
        self._connected: set[PeerId] = set()
        self._experts: set[PeerId] = set()

    def handle(self, event: Input | Fact, now: float) -> Told:
        saves = self._forward(now)
        current = self._now
        match event:
            case Asked(order=order):
                current.answers += 1
                current.prompt_tokens += len(order.prompt)
            case TokenMeasured(cost_s=cost_s, used=used, is_first=is_first):
                current.tokens += 1
                current.used += used
                times = self._firsts_s if is_first else self._rounds_s
                if len(times) < ROUNDS_MAX:
                    times.append(cost_s)
            case ExpertAsked(tokens=tokens):
                current.asked += 1
                current.sent += tokens
            case AnswerEnded(is_whole=is_whole, failovers=failovers):
                current.ended += 1
                current.unfinished += not is_whole
                current.failovers += failovers
            case PeerConnected(peer=peer):
                self._connected.add(peer)
                current.joined += 1
            case PeerGone(peer=peer):
                self._gone(peer)
            case RecordsHeard(heard=heard):
                self._heard((one.peer, one.is_usable) for one in heard)
            case ReportOffered():
                return [*saves, _entry(event)]
            case _:
                assert isinstance(event, TimerFired), event
        return saves

    def next_deadline(self) -> float:
        """The end of this minute."""
        return 60.0 * (self._now.minute + 1 - self._at_zero)

    def recording(self, now: float) -> Recording:
        """What was recorded within the last 24 hours, this minute included."""
        current = self._minute(now)
        return of_last_day([*self._past, self._closed()], max(current, self._now.minute))

    # --- minutes ----------------------------------------------------------------------------------

    def _minute(self, now: float) -> int:
        return math.floor(self._at_zero + now / 60.0)

    def _forward(self, now: float) -> list[NodeEffect]:
        """Begin another minute if one is due. What lies between was slept through: the machine was
        off, and there is nothing to record of it."""
        minute = self._minute(now)
        if minute <= self._now.minute:
            return []
        closed = self._closed()
        self._past = [*of_last_day([*self._past, closed], minute)]
        self._now, self._rounds_s, self._firsts_s = Minute(minute), [], []
        is_due = closed.minute // SAVE_EVERY_MIN != minute // SAVE_EVERY_MIN
        return [self._save(closed.minute)] if is_due else []

    def _save(self, minute: int) -> Save:
        hour = minute // HOUR_MIN
        return Save(
            key_of_hour(minute), pack([one for one in self._past if one.minute // HOUR_MIN == hour])
        )

    def _closed(self) -> Minute:
        """This minute with what is known only of a whole one."""
        current, times = self._now, sorted(self._rounds_s)
        current.experts = len(self._experts)
        if firsts := sorted(self._firsts_s):
            current.first_ms = round(1000 * firsts[len(firsts) // 2])
        if times:
            median_s = times[len(times) // 2]
            current.p50_ms = round(1000 * median_s)
            current.p99_ms = round(1000 * times[min(len(times) - 1, int(0.99 * len(times)))])
            current.late = sum(one > LATE_RATIO * median_s for one in times)
        return current

    # --- who is there -----------------------------------------------------------------------------

    def _gone(self, peer: PeerId) -> None:
        self._connected.discard(peer)
        self._now.left += 1
        if peer in self._experts:
            self._experts.remove(peer)
            self._now.experts_went += 1

    def _heard(self, heard: Iterable[tuple[PeerId, bool]]) -> None:
        """An expert is there once it is connected and offers a place, and gone when it is not."""
        for peer, is_usable in heard:
            if is_usable and peer in self._connected and len(self._experts) < EXPERTS_MAX:
                self._now.experts_came += peer not in self._experts
                self._experts.add(peer)
            elif not is_usable and peer in self._experts:
                self._experts.remove(peer)
                self._now.experts_went += 1


def _entry(report: ReportOffered) -> AppendToLedger:
    read = ReportRead(report.evidence, report.setting, report.value, report.verdict)
    return AppendToLedger(LedgerEntry(LedgerKind.VALIDATION, encode(read)))
