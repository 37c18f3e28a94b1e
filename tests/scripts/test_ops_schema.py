"""A proposal is accepted exactly if it keeps to the schema; its tier follows from what it does, not
from what it claims."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.ops_schema import (
    BECAUSE_MAX,
    CHANGE_MAX,
    CHANGE_MIN,
    METRICS,
    SETTINGS,
    TEXT_MAX,
    Proposal,
    ProposalError,
    tier_of,
    validate,
)

GOOD: dict[str, Any] = {
    "action": "set",
    "setting": "extra",
    "from": 1,
    "to": 2,
    "tier": "deploy-minor",
    "expect": {"round_ms_p95": -0.3},
    "because": "the slowest rounds take 410 ms",
}

words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    action = draw(st.sampled_from(("watch", "pause", "try", "set")))
    before, values, subject = None, tuple[int, ...](), ""
    match action:
        case "watch":
            subject = draw(st.sampled_from(list(METRICS)))
        case "pause":
            subject = draw(st.from_regex(r"[a-z][a-z0-9-]{1,31}", fullmatch=True))
        case _:
            subject = draw(st.sampled_from(list(SETTINGS)))
            limits, most = SETTINGS[subject], 1 if action == "set" else 4
            numbers = st.integers(limits.low, limits.high)
            before, *found = draw(st.lists(numbers, min_size=2, max_size=1 + most, unique=True))
            values = tuple(found)
    changes = st.floats(CHANGE_MIN, CHANGE_MAX, allow_nan=False)
    expect = draw(st.dictionaries(st.sampled_from(list(METRICS)), changes, min_size=1, max_size=2))
    kept = tuple(expect.items()) if action != "watch" else ()
    return Proposal(action, subject, before, values, tier_of(action, subject), kept, draw(words))  # type: ignore[arg-type]


@given(proposals())
def test_what_is_written_is_read_again(proposal: Proposal) -> None:
    assert validate(proposal.text()) == proposal
    assert "\n" not in proposal.text()


@given(
    proposals(),
    st.sampled_from(
        ("read-only", "suggest", "sandbox-test", "deploy-minor", "deploy-major", "none", "")
    ),
)
def test_no_proposal_can_choose_its_tier(proposal: Proposal, claimed: str) -> None:
    found = json.loads(proposal.text()) | {"tier": claimed}
    if claimed == proposal.tier:
        assert validate(json.dumps(found)) == proposal
    else:
        with pytest.raises(ProposalError, match="tier"):
            validate(json.dumps(found))


@given(st.text(max_size=TEXT_MAX))
def test_any_text_gives_a_proposal_or_an_error(text: str) -> None:
    with pytest.raises(ProposalError):
        validate(text)


def test_the_unknown_needs_everybody() -> None:
    assert tier_of("set", "colour") == tier_of("erase", "k") == tier_of("try", "") == "deploy-major"
    assert {
        tier_of("watch", "k"),
        tier_of("pause", "oak"),
        tier_of("try", "k"),
        tier_of("set", "k"),
    } == {
        "read-only",
        "suggest",
        "sandbox-test",
        "deploy-minor",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "erase"}, "action"),
        ({"action": ["set"]}, "action"),
        ({"setting": "colour"}, "setting 'colour'"),
        ({"setting": ["k"]}, "setting"),
        ({"to": 7}, "from 0 to 6"),
        ({"to": -1}, "from 0 to 6"),
        ({"to": 2.0}, "whole number"),
        ({"to": True}, "whole number"),
        ({"to": "2"}, "whole number"),
        ({"to": None}, "whole number"),
        ({"from": None}, "whole number"),
        ({"to": 1}, "differ"),
        ({"expect": {}}, "1 to 2 metrics"),
        ({"expect": {"happiness": 1}}, "metric 'happiness'"),
        ({"expect": {"agreement": -1.5}}, "agreement"),
        ({"expect": {"agreement": float("nan")}}, "agreement"),
        ({"expect": {"agreement": "more"}}, "agreement"),
        ({"expect": [1]}, "metrics"),
        ({"because": ""}, "because"),
        ({"because": 7}, "because"),
        ({"because": "x" * (BECAUSE_MAX + 1)}, "because"),
        ({"because": "x" * TEXT_MAX}, "one line"),
        ({"more": 1}, "exactly the keys"),
    ],
)
def test_each_rule_is_kept(change: dict[str, Any], words: str) -> None:
    assert validate(json.dumps(GOOD)).subject == "extra"
    with pytest.raises(ProposalError, match=words):
        validate(json.dumps(GOOD | change))


@pytest.mark.parametrize("key", list(GOOD))
def test_nothing_may_be_missing(key: str) -> None:
    with pytest.raises(ProposalError):
        validate(json.dumps({k: v for k, v in GOOD.items() if k != key}))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "[" * 500, json.dumps(GOOD)[:-1], json.dumps(GOOD, indent=1), "7"]
)
def test_what_is_no_object_on_one_line_is_refused(text: str) -> None:
    with pytest.raises(ProposalError):
        validate(text)


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(ProposalError, match="twice"):
        validate(json.dumps(GOOD)[:-1] + ', "to": 3}')
