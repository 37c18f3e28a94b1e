"""Laws of lending: a load pauses within two looks, nothing flaps, hours go by the clock on the
wall, and what is lent is never more than the owner said."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.serving.lending import (
    BUSY,
    DAY_MIN,
    IDLE_FOR_S,
    LOOK_EVERY_S,
    Hours,
    Lending,
    LendingRules,
    MachineUse,
    hours_of,
    lent_layers,
    share_of,
)

QUIET = MachineUse(load=0.0, gpu=None, on_battery=None, minute=0)


def looks(lending: Lending, samples: list[MachineUse], begun: float = 0.0) -> list[bool]:
    """Whether it paused, after each look."""
    paused = []
    for number, sample in enumerate(samples):
        lending.looked(sample, begun + number * LOOK_EVERY_S)
        paused.append(bool(lending.reason))
    return paused


def with_load(load: float) -> MachineUse:
    return replace(QUIET, load=load)


@given(st.floats(0, 1), st.floats(0, 0.14))
def test_a_load_pauses_within_two_whole_looks_whenever_it_began(part: float, before: float) -> None:
    """`part`: of the look in which it began."""
    begin = max(before, 0.5 * part)
    told = looks(
        Lending(LendingRules(yields=True)),
        [with_load(before), with_load(begin), with_load(0.5), with_load(0.5)],
    )
    assert told[3]
    assert not told[0]


def test_a_single_short_peak_pauses_nothing() -> None:
    told = looks(Lending(LendingRules(yields=True)), [QUIET, with_load(0.4), QUIET, QUIET])
    assert told == [False] * 4


def test_serving_goes_on_after_the_machine_was_idle_for_a_while_and_not_before() -> None:
    lending = Lending(LendingRules(yields=True))
    looks(lending, [with_load(0.9)] * 3)
    assert "load 90 %" in lending.reason
    assert "idle for 30 s" in lending.reason
    idle = int(IDLE_FOR_S / LOOK_EVERY_S)
    told = looks(lending, [QUIET] * (idle + 4), begun=10.0)
    assert all(told[:idle])
    assert not told[-1]


def test_a_short_peak_does_not_begin_the_wait_anew_and_an_owner_at_work_does() -> None:
    waits = {}
    for length in (2, 40):  # Half a second, ten seconds.
        lending = Lending(LendingRules(yields=True))
        looks(lending, [with_load(0.9)] * 3)
        rest = [QUIET] * 60 + [with_load(0.8)] * length + [QUIET] * 300
        told = looks(lending, rest, begun=10.0)
        waits[length] = told.index(False) * LOOK_EVERY_S
    assert waits[2] == IDLE_FOR_S
    assert waits[40] > 15 + 10 + IDLE_FOR_S


@given(st.lists(st.floats(0, 1), min_size=2, max_size=400))
def test_it_never_flaps(loads: list[float]) -> None:
    """Between a resumption and the pause before it lies the whole patience."""
    lending = Lending(LendingRules(yields=True))
    told = looks(lending, [with_load(load) for load in loads])
    changes = [n for n in range(1, len(told)) if told[n] != told[n - 1]]
    for begun, ended in zip(changes[::2], changes[1::2], strict=False):
        assert (ended - begun) * LOOK_EVERY_S >= IDLE_FOR_S


@given(st.lists(st.floats(0, BUSY - 0.01), max_size=50))
def test_what_stays_below_the_bound_pauses_nothing(loads: list[float]) -> None:
    assert not any(looks(Lending(LendingRules(yields=True)), [with_load(load) for load in loads]))


def test_without_the_rule_no_load_pauses_and_a_gpu_of_which_nothing_is_known_does_not_either() -> (
    None
):
    assert not any(looks(Lending(LendingRules()), [replace(QUIET, load=1.0, gpu=1.0)] * 4))
    assert not any(looks(Lending(LendingRules(yields=True)), [QUIET] * 4))


def test_another_program_on_the_gpu_pauses() -> None:
    lending = Lending(LendingRules(yields=True))
    assert looks(lending, [replace(QUIET, gpu=0.8)] * 2) == [True, True]
    assert lending.reason.startswith("another program is using the GPU (load 80 %)")


@pytest.mark.parametrize("serves", [False, True])
def test_on_battery_it_pauses_unless_the_owner_says_otherwise(serves: bool) -> None:
    lending = Lending(LendingRules(serves_on_battery=serves))
    lending.looked(replace(QUIET, on_battery=True), 0.0)
    assert ("battery" in lending.reason) is not serves
    lending.looked(replace(QUIET, on_battery=False), 1.0)
    assert bool(lending.reason) is not serves, "a plug that is pulled again soon"
    lending.looked(replace(QUIET, on_battery=False), 1.0 + IDLE_FOR_S)
    assert lending.reason == ""


def test_a_pause_for_one_reason_that_becomes_one_for_another_is_told() -> None:
    lending = Lending(LendingRules(yields=True, hours=hours_of("22-07")))
    night, day = replace(QUIET, minute=23 * 60), replace(QUIET, minute=8 * 60)
    assert not lending.looked(night, 0.0)
    assert lending.looked(day, 1.0)
    assert lending.reason == "it is not within 22:00-07:00; serving again at 22:00"
    assert not lending.looked(day, 2.0)
    assert lending.looked(night, 3.0)
    assert lending.reason == ""
    lending.forget()
    assert lending.looked(night, 4.0)


# --- hours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22-07", [22 * 60, 23 * 60 + 59, 0, 6 * 60 + 59], [7 * 60, 12 * 60, 21 * 60 + 59]),
        ("9:30-17:15", [9 * 60 + 30, 17 * 60 + 14], [9 * 60 + 29, 17 * 60 + 15, 0]),
        ("18-24", [18 * 60, DAY_MIN - 1], [0, 17 * 60]),
        ("0-24", [0, DAY_MIN - 1], []),
    ],
)
def test_hours_begin_and_end_where_they_say_also_over_midnight(
    text: str, inside: list[int], outside: list[int]
) -> None:
    hours = hours_of(text)
    assert hours is not None
    assert all(map(hours.covers, inside))
    assert not any(map(hours.covers, outside))
    assert hours_of(str(hours)) == hours


@pytest.mark.parametrize(
    "text",
    ["", "22", "22-", "25-07", "24-07", "22-25", "22:60-07", "7-7", "a-b", "22-07-09", "-1-3"],
)
def test_what_is_no_part_of_a_day_is_none(text: str) -> None:
    assert hours_of(text) is None


@given(st.integers(0, DAY_MIN - 1), st.integers(0, DAY_MIN - 1))
def test_hours_cover_as_many_minutes_as_they_are_long(begin: int, end: int) -> None:
    if begin == end:
        return
    covered = sum(Hours(begin, end).covers(minute) for minute in range(DAY_MIN))
    assert covered == (end - begin) % DAY_MIN


@pytest.mark.parametrize(
    ("evening", "length_h"), [(datetime(2026, 3, 28, 12), 8), (datetime(2026, 10, 24, 12), 10)]
)
def test_when_the_clocks_change_the_hours_follow_the_clock_on_the_wall(
    evening: datetime, length_h: int
) -> None:
    """22 to 7 is an hour shorter in one night of spring, and longer in one of autumn."""
    zone, hours = ZoneInfo("Europe/Berlin"), Hours(22 * 60, 7 * 60)
    begun = evening.replace(tzinfo=zone).timestamp()
    served = 0
    for minute in range(DAY_MIN):
        now = datetime.fromtimestamp(begun + 60 * minute, zone)
        served += hours.covers(now.hour * 60 + now.minute)
    assert timedelta(minutes=served) == timedelta(hours=length_h)


# --- shares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "cores", "threads", "expected"),
    [
        (100, 8, 0, (0, 1.0)),
        (50, 8, 0, (4, 1.0)),
        (50, 2, 0, (1, 1.0)),
        (30, 2, 0, (1, 0.6)),
        (10, 2, 0, (1, 0.2)),
        (50, 8, 2, (2, 1.0)),
        (50, 8, 6, (4, 1.0)),
        (1, 1, 0, (1, 0.01)),
    ],
)
def test_threads_and_time_add_up_to_the_share(
    percent: int, cores: int, threads: int, expected: tuple[int, float]
) -> None:
    found = share_of(percent, cores, threads)
    assert (found.threads, round(found.duty, 6)) == expected


@given(st.integers(1, 99), st.integers(1, 256), st.integers(0, 256))
def test_never_more_than_the_share_is_lent(percent: int, cores: int, threads: int) -> None:
    found = share_of(percent, cores, threads)
    assert found.threads * found.duty <= cores * percent / 100 + 1e-9
    assert found.duty > 0


def test_layers_fit_into_the_share_of_the_memory() -> None:
    gigabyte = 10**9
    assert lent_layers(100, 32, 5 * gigabyte, 8 * gigabyte) == 32
    assert lent_layers(50, 32, 5 * gigabyte, 8 * gigabyte) == 25
    assert lent_layers(50, 32, 5 * gigabyte, 80 * gigabyte) == 32
    assert lent_layers(50, 32, 5 * gigabyte, None) == 16
    assert lent_layers(1, 32, 500 * gigabyte, 8 * gigabyte) == 0
