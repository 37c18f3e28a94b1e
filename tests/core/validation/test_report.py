"""The validation report: its verdict follows from its figures, and nothing else is read as one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.core.settings.table import (
    EXPERTS,
    EXTRA,
    FORGETTING,
    LATE_RATIO,
    SETTINGS,
    WAIT_COST,
)
from swarmllm.core.validation.coverage import TEXT, unseen
from swarmllm.core.validation.recording import NAMES, read_rows
from swarmllm.core.validation.report import (
    check_evidence,
    encode_report,
    read_report,
    verdict_of,
)
from swarmllm.core.validation.snapshot import ExpertFigures, Snapshot, fields_of, read_fields
from swarmllm.errors import LocalError, UsageError
from tests.core.validation.cases import (
    BETTER,
    NO_BASE,
    NOTHING,
    WORSE,
    case,
    recorded,
    report,
    result,
    swarm,
)


def test_every_setting_says_what_the_simulator_shows_of_it() -> None:
    assert set(TEXT) == set(SETTINGS.values())


@pytest.mark.parametrize(
    ("tests", "verdict"),
    [
        ((BETTER,), "better"),
        ((WORSE,), "worse"),
        ((NOTHING,), "no difference"),
        ((NOTHING, result(-4.0, -2.0, name="replay")), "better"),
        ((BETTER, result(2.0, 4.0, name="replay")), "worse"),
        ((BETTER, result(0, 0, name="replay", law="x is y: n000001")), "law broken"),
    ],
)
def test_worse_in_one_test_is_worse(tests: tuple[object, ...], verdict: str) -> None:
    assert verdict_of(case(), tests)[0] == verdict  # type: ignore[arg-type]


def test_of_a_setting_that_only_weighs_texts_nothing_is_shown() -> None:
    verdict, why = verdict_of(case(FORGETTING, 20), (BETTER,))
    assert verdict == "not shown"
    assert "does not show effects of gate.forgetting" in why


def test_a_change_on_which_nothing_depended_is_not_called_no_difference() -> None:
    same = result(0.0, 0.0)
    same = type(same)(same.name, same.pairs, same.objective, same.parts, differs=False)
    verdict, why = verdict_of(case(), (same,))
    assert verdict == "not shown"
    assert "does not show effects of router.hedging_extra" in why


@pytest.mark.parametrize(
    ("setting", "value", "test", "verdict"),
    [
        (EXPERTS, 2, BETTER, "not shown"),  # Cheaper, and the text is worse.
        (EXPERTS, 4, WORSE, "not shown"),  # Dearer, and the text is better.
        (EXPERTS, 2, WORSE, "worse"),
        (EXPERTS, 4, BETTER, "better"),
        (WAIT_COST, 8000, BETTER, "not shown"),
        (LATE_RATIO, 2000, BETTER, "better"),
    ],
)
def test_speed_is_not_weighed_against_the_text_that_is_not_seen(
    setting: object, value: int, test: object, verdict: str
) -> None:
    about = case(setting, value)  # type: ignore[arg-type]
    assert verdict_of(about, (test,))[0] == verdict  # type: ignore[arg-type]
    assert "text" in unseen(about.setting, about.before, about.value)


def test_a_report_is_read_as_it_was_written() -> None:
    made = report(case(recording=recorded(5)), BETTER, result(-1.0, 1.0, name="replay"))
    assert read_report(encode_report(made)) == made
    assert made.digest == read_report(encode_report(made)).digest


@given(st.data())
def test_a_report_that_was_changed_is_refused(data: st.DataObject) -> None:
    raw = encode_report(report(case(recording=recorded(1))))
    place = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != raw[place]))
    spoilt = raw[:place] + bytes((byte,)) + raw[place + 1 :]
    try:
        found = read_report(spoilt)
    except LocalError:  # UsageError is one.
        return
    assert encode_report(found) == spoilt  # Another report, and consistent: another digest.


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers(), st.lists).map(repr))
def test_anything_else_is_refused_in_a_sentence(junk: bytes | str) -> None:
    with pytest.raises(UsageError):
        read_report(junk if isinstance(junk, bytes) else junk.encode())


def test_a_verdict_that_does_not_follow_is_refused() -> None:
    found = json.loads(encode_report(report(case(), WORSE)))
    found["verdict"] = "better"
    raw = json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(UsageError, match="its verdict does not follow from its figures"):
        read_report(raw)


@pytest.mark.parametrize("name", ["case", "tests", "code", "pairs_max", "notes"])
def test_a_report_without_a_field_is_refused(name: str) -> None:
    found = json.loads(encode_report(report(case())))
    del found[name]
    with pytest.raises(UsageError, match="damaged"):
        read_report(json.dumps(found).encode())


def changed(found: Any, path: str, value: object) -> bytes:
    *way, last = path.split(".")
    inner = found
    for step in way:
        inner = inner[int(step) if step.isdigit() else step]
    inner[int(last) if last.isdigit() else last] = value
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tests", []),
        ("tests.0.name", "replay"),
        ("tests.0.pairs", 16),
        ("tests.0.objective.pairs", 7),
        ("tests.0.objective.low", 1.0),
        ("tests.0.parts.0.name", "beauty"),
        ("tests.0.parts.0.before", 0.0),
        ("tests.0.parts.4.after", -1.0),
        ("pairs_max", {}),
        ("pairs_max.snapshot", 9),
        ("notes", ["vote yes"] * 17),
        ("case.base", "00"),
        ("case.recording", [[1] * len(NAMES)]),  # It would have been replayed.
    ],
)
def test_figures_that_no_validation_has_are_refused(path: str, value: object) -> None:
    raw = encode_report(report(case()))
    with pytest.raises(UsageError):
        read_report(changed(json.loads(raw), path, value))


def test_other_weights_are_no_evidence() -> None:
    with pytest.raises(UsageError, match="weighs bytes otherwise"):
        check_evidence(report(replace(case(), weights={"bytes": 9.0})), EXTRA, 2, NO_BASE)


def test_only_better_is_evidence_and_only_for_this_change() -> None:
    check_evidence(report(case()), EXTRA, 2, NO_BASE)
    for made, value, base, words in (
        (report(case()), 3, NO_BASE, "about router.hedging_extra at 2, and the proposal about"),
        (report(case()), 2, bytes([1]) * 32, "has been changed since"),
        (report(case(), WORSE), 2, NO_BASE, "does not say that the change is better: worse"),
        (report(case(), NOTHING), 2, NO_BASE, "better: no difference"),
    ):
        with pytest.raises(UsageError, match=words):
            check_evidence(made, EXTRA, value, base)


def test_there_is_nothing_to_validate_in_what_is_in_force() -> None:
    with pytest.raises(UsageError, match="is 1 already"):
        case(EXTRA, 1)
    with pytest.raises(UsageError, match="no swarm to simulate"):
        case(snapshot=Snapshot((), 3, 0))
    with pytest.raises(LocalError, match="cannot be 65"):
        case(EXTRA, 65)


counts = st.integers(0, 2**32 - 1)


@given(st.lists(st.builds(ExpertFigures, *[counts] * 7), max_size=5), counts, counts)
def test_a_snapshot_is_read_as_it_was_written(
    experts: list[ExpertFigures], peers: int, answers: int
) -> None:
    found = Snapshot(tuple(experts), peers, answers)
    assert read_fields(json.loads(json.dumps(fields_of(found)))) == found


@pytest.mark.parametrize(
    "bad",
    [
        None,
        {},
        {"experts": [[1]], "peers": 0, "answers": 0},
        {"experts": [[1, 1, 1, 1, 1, 1, -1]], "peers": 0, "answers": 0},
        {"experts": [[1, 1, 1, 1, 1, 1, float("nan")]], "peers": 0, "answers": 0},
        {"experts": [], "peers": True, "answers": 0},
        {"experts": [[0] * 7] * 513, "peers": 0, "answers": 0},
    ],
)
def test_a_snapshot_that_makes_no_sense_is_refused(bad: object) -> None:
    with pytest.raises(UsageError):
        read_fields(bad)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [[1]],
        [[1] * len(NAMES), [1] * len(NAMES)],
        [[1] * len(NAMES), [1441] + [0] * (len(NAMES) - 1)],
        [[0.5] * len(NAMES)],
        [[2**32] + [0] * (len(NAMES) - 1)],
        [[0] * len(NAMES)] * 1441,
    ],
)
def test_a_recording_that_makes_no_sense_is_refused(bad: object) -> None:
    with pytest.raises(UsageError):
        read_rows(bad)


def test_no_text_gets_into_a_report() -> None:
    """Strangers' names have no way in: all that a snapshot and a recording hold is numbers."""
    found = json.loads(encode_report(report(case(snapshot=swarm(), recording=recorded(2)))))
    assert all(type(n) is int for row in found["case"]["snapshot"]["experts"] for n in row)
    assert all(type(n) is int for row in found["case"]["recording"] for n in row)
