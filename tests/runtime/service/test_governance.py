"""The questions of governance without a command: parameters that make no sense, and records that
are handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.messages.governance import SetSetting
from swarmllm.runtime.service.governance import OPS
from swarmllm.runtime.service.governance_fields import action_fields
from swarmllm.wire.codec import encode
from tests.cli.governance.governed_node import GovernedNode

ACTION = encode(SetSetting(2, 3)).hex()


def ask(node: GovernedNode, op: str, **params: Any) -> dict[str, Any]:
    (record,) = trio.run(node.asked, op, params)
    return dict(record)


@pytest.fixture
def node(tmp_path: Path) -> GovernedNode:
    return GovernedNode(tmp_path / "data", None)


@pytest.mark.parametrize(
    ("op", "params", "sentence"),
    [
        ("proposal", {}, "the field 'id' is 'None'"),
        ("proposal", {"id": "g"}, "1 to 64 hexadecimal digits"),
        ("propose", {}, "the field 'action'"),
        ("propose", {"action": "00" * 2_000}, "the field 'action'"),
        ("propose", {"action": "c1"}, "this version knows no action c1"),
        ("propose", {"action": ACTION, "key": "12"}, "it must be 64 hexadecimal digits"),
        ("propose", {"action": ACTION, "evidence": 7}, "the field 'evidence'"),
        ("propose", {"action": ACTION, "why": "x" * 513}, "at most 512 bytes"),
        ("propose", {"action": ACTION, "why": ["x"]}, "at most 512 bytes"),
        ("propose", {"action": ACTION, "tier": 5}, "it must be 0 to 4"),
        ("propose", {"action": ACTION, "tier": True}, "it must be 0 to 4"),
        ("vote", {"id": "ab", "yes": 1}, "no proposal 'ab'"),
        ("submit", {}, "a list of 1 to 128 records"),
        ("submit", {"records": ["00"] * 129}, "a list of 1 to 128 records"),
        ("submit", {"records": ["00" * 5_000]}, "at most 4096 bytes"),
        ("submit", {"records": ["0"]}, "not hexadecimal"),
    ],
)
def test_parameters_that_make_no_sense_are_one_sentence(
    node: GovernedNode, op: str, params: dict[str, Any], sentence: str
) -> None:
    record = ask(node, op, **params)
    assert record["event"] == "error"
    assert record["exit_code"] == 2
    assert sentence in record["message"]


def test_a_vote_is_true_or_false_and_nothing_else(node: GovernedNode) -> None:
    made = ask(node, "propose", action=ACTION)
    assert ask(node, "submit", records=[made["signed"]])["outcomes"][0]["outcome"] == "applied"
    assert "must be true or false" in ask(node, "vote", id=made["id"], yes="yes")["message"]


def test_a_record_is_taken_once_and_garbage_never(node: GovernedNode) -> None:
    made = ask(node, "propose", action=ACTION)
    records = [made["signed"], made["signed"], "00", made["signed"][:-2] + "00"]
    outcomes = ask(node, "submit", records=records)["outcomes"]
    assert [one["outcome"] for one in outcomes] == ["applied", "known", "refused", "known"]
    assert len(ask(node, "proposals")["proposals"]) == 1


@given(st.binary(min_size=1, max_size=64))
@settings(max_examples=60)
def test_any_bytes_of_an_action_are_told_in_words(raw: bytes) -> None:
    fields = action_fields(raw)
    assert fields["raw"] == raw.hex()
    assert fields["text"]


SEVERAL = {"proposal", "propose", "vote", "withdraw", "submit", "governance_export"}


@pytest.mark.parametrize("op", sorted(OPS - SEVERAL))
def test_questions_without_parameters_answer_with_one_record(node: GovernedNode, op: str) -> None:
    assert ask(node, op)["event"] == op
