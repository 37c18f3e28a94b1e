"""The recording: what happens is counted into its minute, kept for a day, and found again after a
restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.effects import AppendToLedger, Save
from swarmllm.core.facts import (
    AnswerEnded,
    ExpertAsked,
    Fact,
    Heard,
    PeerGone,
    RecordsHeard,
    TokenMeasured,
)
from swarmllm.core.inputs import Asked, Input, PeerConnected, ReportOffered, TimerFired
from swarmllm.core.validation.part import RecordingPart
from swarmllm.core.validation.recording import DAY_MIN, Minute, of_last_day, pack, unpack
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import PeerId
from tests.core.capacity.support import record

START = 29_000_000
A = PeerId("a")


class Disk:
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def take(self, told: Sequence[object]) -> None:
        for one in told:
            if isinstance(one, Save):
                self.values[one.key] = one.value


def part(disk: Disk | None = None, at_zero: float = START) -> RecordingPart:
    return RecordingPart(at_zero, 0.0, (disk or Disk()).values.get)


def asked(prompt: int = 5) -> Asked:
    return Asked(1, GenerateRequest(tuple(range(prompt))))


def test_what_happens_is_counted_in_its_minute() -> None:
    recording = part()
    happened: list[tuple[float, Input | Fact]] = [
        (1.0, PeerConnected(A)),
        (2.0, RecordsHeard((Heard(A, record(), True),))),
        (3.0, asked()),
        (3.1, ExpertAsked(5)),
        (3.2, ExpertAsked(5)),
        (3.9, TokenMeasured(2.0, 2, is_first=True)),
        *[(4.0 + i, TokenMeasured(0.1 if i < 9 else 0.5)) for i in range(10)],
        (15.0, ExpertAsked(1)),
        (20.0, AnswerEnded(is_whole=True, tokens=10, failovers=2)),
        (61.0, asked(7)),
        (62.0, AnswerEnded(is_whole=False, tokens=0, failovers=0)),
        (63.0, PeerGone(A, "left")),
    ]
    for now, event in happened:
        recording.handle(event, now)
    first, second = recording.recording(64.0)
    assert first == Minute(
        *(START, 1, 5, 1, 0, 11, 100, 500, 1, 2),
        joined=1,
        experts=1,
        experts_came=1,
        first_ms=2000,
        asked=3,
        sent=11,
        used=12,
    )
    assert second == Minute(
        START + 1, answers=1, prompt_tokens=7, ended=1, unfinished=1, left=1, experts_went=1
    )


def test_the_clock_is_wanted_at_the_end_of_each_minute() -> None:
    recording = part(at_zero=START + 0.5)
    assert recording.next_deadline() == 30.0
    recording.handle(TimerFired(), 30.0)
    assert recording.next_deadline() == 90.0


def test_a_restart_finds_what_was_recorded_but_for_the_last_minutes() -> None:
    disk, recording = Disk(), part()
    for minute in range(75):
        disk.take(recording.handle(asked(), 60.0 * minute))
    again = part(disk, START + 80)
    found = again.recording(0.0)
    assert [one.answers for one in found] == [1] * 70 + [0]
    assert found[-1].minute == START + 80


def test_what_is_older_than_a_day_or_lies_ahead_is_dropped() -> None:
    disk, recording = Disk(), part()
    for minute in range(0, 2 * DAY_MIN, 7):
        disk.take(recording.handle(asked(), 60.0 * minute))
        held = recording.recording(60.0 * minute)
        assert held[-1].minute - held[0].minute < DAY_MIN
    assert len(disk.values) <= 24
    assert part(disk, START).recording(0.0) == (Minute(START),)  # The clock was a day ahead.


def test_a_damaged_hour_is_as_if_it_had_not_been() -> None:
    disk = Disk()
    disk.values = {"recording/00": b"\x01junk", "recording/01": b"", "recording/02": b"\x02"}
    assert len(part(disk).recording(0.0)) == 1


def test_a_report_that_was_read_is_entered_into_the_ledger() -> None:
    (entry,) = part().handle(ReportOffered(bytes(32), 2, 3, 0), 1.0)
    assert isinstance(entry, AppendToLedger)
    assert entry.entry.kind.name == "VALIDATION"


minutes = st.builds(Minute, *[st.integers(0, 2**32 - 1)] * len(astuple(Minute(0))))


@given(st.lists(minutes, max_size=60))
def test_an_hour_is_read_as_it_was_packed(found: list[Minute]) -> None:
    assert unpack(pack(found)) == tuple(found)


@given(st.binary(max_size=300))
def test_junk_on_the_disk_is_no_fault(data: bytes) -> None:
    unpack(data)


@given(st.lists(st.builds(Minute, st.integers(0, 3000)), max_size=20), st.integers(0, 3000))
def test_a_day_is_a_day(found: list[Minute], now: int) -> None:
    kept = of_last_day(found, now)
    assert all(now - DAY_MIN < one.minute <= now for one in kept)
    assert sorted({one.minute for one in kept}) == [one.minute for one in kept]
