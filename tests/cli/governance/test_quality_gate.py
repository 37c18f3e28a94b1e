from __future__ import annotations

import json

import pytest

from swarmllm.cli.governance.quality_gate import check_quality
from swarmllm.errors import UsageError


def report(**losses: float) -> bytes:
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
    return "\n".join(json.dumps(line) for line in [*lines, {"event": "summary"}]).encode()


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
