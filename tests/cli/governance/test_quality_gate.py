from __future__ import annotations

import json
from typing import Any

import pytest

from swarmllm.cli.governance.quality_gate import check_quality
from swarmllm.core.governance.held_out import HeldOut
from swarmllm.errors import UsageError
from tests.cli.governance.conftest import ROLES
from tests.cli.governance.governed_node import GovernedNode
from tests.cli.operators.conftest import Desk

TEXTS = bytes(range(16))
PINNED = HeldOut("news 2026", TEXTS)


def report(texts: bytes | None = TEXTS, seed: int = 1, **losses: float) -> bytes:
    """As `swarmllm eval --json` prints it, with what the ensemble loses on each kind of text."""
    lines = [{"event": "score", "method": "expert:code", "text": "code", "nats_per_token": 2.0}]
    for text, loss in losses.items():
        lines.append(
            {
                "event": "score",
                "method": "em_soft_bayes",
                "text": text,
                "nats_per_token": 2.0 * (1 + loss),
                "versus_best_single": 2.0 * loss,
            }
        )
    summary: dict[str, Any] = {"event": "summary", "seed": seed}
    if texts is not None:
        summary["texts"] = texts.hex()
    return "\n".join(json.dumps(line) for line in [*lines, summary]).encode()


def test_an_ensemble_that_is_as_good_as_its_best_expert_passes() -> None:
    check_quality(report(mixed=-0.2, code=0.009, prose=-0.01), "eval.jsonl")
    check_quality(report(mixed=0.0), "eval.jsonl")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (report(mixed=0.001), "on mixed text the ensemble is 0.10 % worse"),
        (report(mixed=-0.2, ops=0.044), "on ops text the ensemble is 4.40 % worse"),
        (report(code=-0.1), "has no score of em_soft_bayes on mixed text"),
        (b"\x00\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (report(mixed=-0.1).replace(b"versus_best_single", b"versus"), "a damaged score"),
    ],
)
def test_anything_else_is_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        check_quality(data, "eval.jsonl")


@pytest.mark.parametrize(
    ("data", "pinned", "sentence"),
    [
        (report(bytes(16), mixed=-0.1), PINNED, "is over other text than news 2026, which the cha"),
        (report(None, mixed=-0.1), PINNED, "is over other text than news 2026"),
        (report(mixed=-0.1, seed=2), PINNED, "over what seed 2 draws of news 2026"),
        (report(mixed=-0.1).rpartition(b"\n")[0], PINNED, "has no summary at its end"),
        (report(mixed=0.1), PINNED, "the quality gate is not passed"),
        (report(mixed=-0.1), HeldOut("", b""), "in a way that this version cannot read"),
    ],
)
def test_a_report_over_other_text_than_the_charter_pins_is_refused(
    data: bytes, pinned: HeldOut, sentence: str
) -> None:  # GOV-28
    check_quality(report(mixed=-0.1), "eval.jsonl", PINNED)
    with pytest.raises(UsageError, match=sentence):
        check_quality(data, "eval.jsonl", pinned)


PHASES = ("--phase", "1", "--phase-experts", "0,0,0,0", "--stable-days", "0")


def test_a_charter_pins_the_text_of_a_report_and_phases_take_no_other(desk: Desk) -> None:
    (desk.folder / "good").write_bytes(report(mixed=-0.1))
    (desk.folder / "other").write_bytes(report(bytes(16), mixed=-0.1))
    words = ("charter", "create", *ROLES, "--halt", "ann.pub", *PHASES)
    desk.ok(*words, "--held-out", "news 2026=good", "--out", "new")
    desk.ok("charter", "sign", "new", "--key", "ann.key", "--key", "bob.key")
    pinned = {"name": "news 2026", "digest": TEXTS.hex()}
    assert desk.ok("charter", "show", "new", "--json").records()[0]["held_out"] == pinned
    assert "over the text news 2026" in desk.ok("charter", "show", "new").out
    with GovernedNode(desk.folder / "data", desk.folder / "new") as node:
        assert desk.ok("phase", "--json", *node.flags).records()[0]["held_out"] == pinned
        propose = ("propose", "phase", "2", "--why", "w", "--key", "ann.key", *node.flags)
        assert "is over other text" in desk.refused(2, *propose, "--evidence", "other")
        id = desk.ok(*propose, "--evidence", "good", "--json").records()[-1]["id"]
        verify = ("proposals", "verify", id, *node.flags, "--report")
        assert "over news 2026" in desk.ok(*verify, "good").out
        assert "is not the report" in desk.refused(1, *verify, "other")
    flags = ("--state", "new", "--out")
    desk.ok("charter", "rotate", "new", "--review-hours", "2", *flags, "kept")
    assert desk.ok("charter", "show", "kept", "--json").records()[-1]["held_out"] == pinned
    desk.ok("charter", "rotate", "new", "--held-out", "none", *flags, "gone")
    assert desk.ok("charter", "show", "gone", "--json").records()[-1]["held_out"] is None
    desk.ok("charter", "rotate", "new", "--held-out", "b=" + "ab" * 16, *flags, "b")
    assert desk.ok("charter", "show", "b", "--json").records()[-1]["held_out"]["name"] == "b"


@pytest.mark.parametrize(
    ("word", "code", "sentence"),
    [
        ("news", 2, "'news' is not of the form NAME=REPORT"),
        ("news=", 2, "is not of the form NAME=REPORT"),
        ("=c1", 2, "'' is no name of held-out text"),
        ("a name that is too long=c1", 2, "is no name of held-out text; 1 to 12 bytes"),
        ("news=nothing", 1, "cannot read the report"),
        ("news=c1", 2, "c1 is no report of `swarmllm eval`"),
        ("news=old", 2, "old does not tell which text it is over"),
    ],
)
def test_what_pins_no_text_is_one_sentence(desk: Desk, word: str, code: int, sentence: str) -> None:
    (desk.folder / "old").write_bytes(report(None, mixed=-0.1))
    words = ("charter", "create", *ROLES, "--halt", "ann.pub", "--out", "new")
    assert sentence in desk.refused(code, *words, "--held-out", word)
    assert not (desk.folder / "new").exists()
