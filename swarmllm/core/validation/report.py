"""The validation report: one document with all that went into a validation and what came of it.

It holds its whole input, so whoever has it can repeat it, and the same input gives the same bytes
on every machine: a proposal names the report by the SHA-256 of its bytes. The verdict is not taken
on trust where the report is read; it is made again from the figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final, Literal, get_args

from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import SETTINGS
from swarmllm.core.validation import recording as recordings
from swarmllm.core.validation import snapshot as snapshots
from swarmllm.core.validation.coverage import is_shown, text_side, unseen
from swarmllm.core.validation.objective import PARTS, parts_with
from swarmllm.core.validation.recording import Recording, busy_minutes
from swarmllm.core.validation.snapshot import Snapshot
from swarmllm.core.validation.statistics import LOOKS, Interval
from swarmllm.errors import UsageError

FORMAT: Final = "swarmllm validation report"
VERSION: Final = 2
BYTES_MAX: Final = 1 << 20  # A whole day and 512 experts take a fifth of it.
TEXT_MAX: Final = 400
NOTES_MAX: Final = 16
KINDS: Final = {part.name: part.kind for part in PARTS}
DIGITS: Final = (
    6  # Of what is computed: what the libraries of two machines may differ in is beyond.
)

Verdict = Literal["better", "worse", "no difference", "not shown", "law broken"]
VERDICTS: Final = get_args(Verdict)
TESTS: Final = ("snapshot", "replay")


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be validated: `setting` at `value`, with all else as in `values` (what the swarm
    has set, in each setting's unit; those left out are at their defaults). `base`: the change that
    it would replace, as a proposal names it. `weights` of the objective: those that are not as
    usual."""

    setting: Setting[Any]
    value: int
    base: bytes
    values: Mapping[Setting[Any], int]
    snapshot: Snapshot
    recording: Recording
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        self.setting.check(self.value)
        if self.value == self.before:
            raise UsageError(
                f"{self.setting.key} is {self.value} already, so there is nothing to validate"
            )
        if not self.snapshot.experts:
            raise UsageError(
                "the snapshot has no expert, so there is no swarm to simulate; wait until"
                " `swarmllm experts` shows some"
            )
        parts_with(self.weights)

    @property
    def before(self) -> int:
        """What is in force."""
        return self.values.get(self.setting, self.setting.default)


@dataclass(frozen=True, slots=True)
class PartResult:
    """The mean of one part of the objective without the change and with it, over all pairs."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of `TESTS`. `objective`: the paired difference; None if a law was broken (`law` says
    which, and by whom). `differs`: whether any decision was another with the change."""

    name: str
    pairs: int
    objective: Interval | None
    parts: tuple[PartResult, ...]
    differs: bool
    law: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """`code` is the version of the simulator and the node that ran; `pairs_max` bounds the pairs of
    each test; `notes` say how the simulated swarm departs from the real one."""

    case: Case
    code: str
    pairs_max: Mapping[str, int]
    tests: tuple[Comparison, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.case, self.tests)[0]

    @property
    def why(self) -> str:
        """The verdict in a sentence."""
        return verdict_of(self.case, self.tests)[1]

    @property
    def unseen(self) -> str:
        """What the simulator does not show of the change; empty: nothing."""
        return unseen(self.case.setting, self.case.before, self.case.value)

    @property
    def digest(self) -> bytes:
        """What a proposal names."""
        return sha256(encode_report(self)).digest()


def verdict_of(case: Case, tests: Sequence[Comparison]) -> tuple[Verdict, str]:
    """The verdict that follows from the results, and why. Worse in one test is worse; better has to
    be so in one test and worse in none."""
    setting, before, after = case.setting, case.before, case.value
    for test in tests:
        if test.law:
            return "law broken", f"in the {test.name} test: {test.law}"
    if not is_shown(setting):
        return "not shown", unseen(setting, before, after)
    if not any(test.differs for test in tests):
        return "not shown", (
            f"the simulator does not show effects of {setting.key}: in this swarm and under this"
            " load not one decision was another"
        )
    findings = {test.objective.finding for test in tests if test.objective is not None}
    side = text_side(setting, before, after)
    if "worse" in findings:
        if side > 0:
            return "not shown", f"it costs more, and {unseen(setting, before, after)}"
        return "worse", "with the change the swarm serves its users worse, beyond noise"
    if "better" in findings:
        if side < 0:
            return "not shown", f"it costs less, and {unseen(setting, before, after)}"
        return "better", "with the change the swarm serves its users better, beyond noise"
    return "no difference", "what the change does is within noise"


# --- the document ---------------------------------------------------------------------------------


def case_fields(case: Case) -> dict[str, Any]:
    """What went in, for JSON."""
    return {
        "setting": case.setting.key,
        "from": case.before,
        "to": case.value,
        "base": case.base.hex(),
        "values": {setting.key: value for setting, value in case.values.items()},
        "weights": dict(case.weights),
        "snapshot": snapshots.fields_of(case.snapshot),
        "recording": recordings.rows_of(case.recording),
    }


def report_fields(report: Report) -> dict[str, Any]:
    """The whole report, for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "code": report.code,
        "case": case_fields(report.case),
        "pairs_max": dict(report.pairs_max),
        "tests": [_test_fields(test) for test in report.tests],
        "notes": list(report.notes),
        "verdict": report.verdict,
        "why": report.why,
        "unseen": report.unseen,
    }


def _test_fields(test: Comparison) -> dict[str, Any]:
    found = asdict(test)
    found["parts"] = [asdict(part) for part in test.parts]
    return found


def encode_report(report: Report) -> bytes:
    """The one encoding of a report."""
    return encode_fields(report_fields(report))


def encode_fields(found: Mapping[str, Any]) -> bytes:
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii") + b"\n"


def read_report(data: bytes) -> Report:
    """UsageError for anything but the one encoding of a report whose verdict follows from its
    figures."""
    if len(data) > BYTES_MAX:
        raise UsageError(f"it has {len(data)} bytes, and a validation report at most {BYTES_MAX}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise UsageError("it is no validation report: it is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError("it is no validation report; `swarmllm validate` writes them")
    if found.get("version") != VERSION:
        raise UsageError(
            f"it is a report of version {str(found.get('version'))[:20]}, and this swarmllm reads"
            f" {VERSION}"
        )
    try:
        report = _report(found)
        again = encode_report(report)
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise UsageError(
            "it is a damaged validation report: a field is missing or wrong"
        ) from fault
    if again != data:
        raise UsageError(
            "it was changed after it was written: its verdict does not follow from its figures,"
            " or it is not in the form that `swarmllm validate` writes"
        )
    return report


def read_case(found: Mapping[str, Any]) -> Case:
    """UsageError for what is no case; KeyError, TypeError or ValueError for fields that are
    missing or of a wrong type."""
    values = {_setting(key): _whole(value) for key, value in _mapping(found["values"]).items()}
    for setting, value in values.items():
        setting.check(value)
    case = Case(
        _setting(found["setting"]),
        _whole(found["to"]),
        bytes.fromhex(found["base"]),
        values,
        snapshots.read_fields(found["snapshot"]),
        recordings.read_rows(found["recording"]),
        {str(name): float(weight) for name, weight in _mapping(found["weights"]).items()},
    )
    if len(case.base) != 32:
        raise ValueError("base")
    return case


def _report(found: Mapping[str, Any]) -> Report:
    pairs_max = {str(name): _whole(count) for name, count in _mapping(found["pairs_max"]).items()}
    tests = tuple(_test(_mapping(one)) for one in found["tests"])
    notes = tuple(_text(one) for one in found["notes"])
    if len(notes) > NOTES_MAX:
        raise ValueError("notes")
    case = read_case(_mapping(found["case"]))
    _check_tests(case, tests, pairs_max)
    return Report(case, _text(found["code"]), pairs_max, tests, notes)


def _check_tests(case: Case, tests: Sequence[Comparison], pairs_max: Mapping[str, int]) -> None:
    """All tests that the case takes, and no other; after a law that broke there is none."""
    wanted = TESTS if busy_minutes(case.recording) else TESTS[:1]
    if tests and tests[0].law:
        wanted = wanted[:1]
    if tuple(test.name for test in tests) != wanted or set(pairs_max) != set(wanted):
        raise ValueError("tests")
    if not set(pairs_max.values()) <= set(LOOKS):
        raise ValueError("pairs_max")
    for test in tests:
        if test.objective is not None and test.objective.pairs != test.pairs:
            raise ValueError("pairs")
        if test.pairs > pairs_max[test.name] or (not test.law and test.pairs not in LOOKS):
            raise ValueError("pairs")


def _test(found: Mapping[str, Any]) -> Comparison:
    objective, differs = found["objective"], found["differs"]
    parts = tuple(
        PartResult(_text(one["name"]), _number(one["before"]), _number(one["after"]))
        for one in found["parts"]
    )
    if not isinstance(differs, bool) or (objective is None) != bool(found["law"]):
        raise TypeError("differs")
    names = [] if found["law"] else [part.name for part in PARTS]
    if [part.name for part in parts] != names or not all(map(_is_possible, parts)):
        raise ValueError("parts")
    interval = None
    if objective is not None:
        ends = [_number(objective[name]) for name in ("mean", "low", "high")]
        if not ends[1] <= ends[0] <= ends[2]:
            raise ValueError("interval")
        interval = Interval(ends[0], ends[1], ends[2], _whole(objective["pairs"]))
    return Comparison(
        _text(found["name"]), _whole(found["pairs"]), interval, parts, differs, _text(found["law"])
    )


def _is_possible(part: PartResult) -> bool:
    low = 0.0 if KINDS[part.name] == "share" else 1e-9
    return low <= part.before < math.inf and low <= part.after < math.inf


def _setting(key: object) -> Setting[Any]:
    if not isinstance(key, str) or key not in SETTINGS:
        raise UsageError(f"it names the setting {str(key)[:40]!r}, which this version has not")
    return SETTINGS[key]


def _mapping(found: object) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def _whole(found: object) -> int:
    if type(found) is not int or not 0 <= found < 2**63:
        raise TypeError("not a whole number")
    return found


def _number(found: object) -> float:
    if type(found) not in {int, float}:
        raise TypeError("not a number")
    assert isinstance(found, int | float)
    return found


def _text(found: object) -> str:
    if not isinstance(found, str) or len(found) > TEXT_MAX:
        raise TypeError("not a short text")
    return found


# --- as evidence ----------------------------------------------------------------------------------


def check_evidence(report: Report, setting: Setting[Any], value: int, base: bytes | None) -> None:
    """Whether the report is evidence for this change, which would replace `base` (None: not looked
    at yet). UsageError, one sentence, if not.

    Only *better* is: tier 2 asks for an objective that is better beyond noise. A change that does
    nothing, or of which the simulator shows too little, is not worth less care than it would get
    without a report: the votes of the whole electorate.
    """
    case = report.case
    if (case.setting, case.value) != (setting, value):
        raise UsageError(
            f"the report is about {case.setting.key} at {case.value}, and the proposal about"
            f" {setting.key} at {value}; validate that"
        )
    if case.weights:
        raise UsageError(
            f"the report weighs {', '.join(case.weights)} otherwise than the swarm does; validate"
            " the change with the usual weights"
        )
    if base is not None and case.base != base:
        raise UsageError(
            f"{setting.key} has been changed since the report was made; validate the change again"
        )
    if report.verdict != "better":
        raise UsageError(
            f"the report does not say that the change is better: {report.verdict}; {report.why}."
            " Without a report it can be proposed as a major change"
        )
