"""The records of audits say what was found, in numbers that JSON has."""

from __future__ import annotations

import json

from swarmllm.core.trust.case import Verdict
from swarmllm.core.trust.comparison import Difference
from swarmllm.core.trust.history import Audit
from swarmllm.core.trust.reputation import Account
from swarmllm.messages import PeerId
from swarmllm.runtime.service.trust_fields import _account, _audit, audits_fields

PEER, DIGEST = PeerId("one"), bytes(range(32))


def test_an_audit_is_told_with_who_looked_and_what_it_cost() -> None:
    audit = Audit(
        at_s=100.0,
        expert=PEER,
        model="prose",
        model_digest=DIGEST,
        verdict=Verdict.DIFFERED,
        positions=10,
        mean=Difference(0.25, 1.5, 3),
        by=(PeerId("second"), PeerId("third")),
        against=PEER,
        is_signed=True,
        is_excluded=True,
        tokens=64,
    )
    found = json.loads(json.dumps(_audit(audit)))
    assert found["verdict"] == "differed"
    assert found["by"] == ["second", "third"]
    assert (found["variation"], found["nats"], found["tokens"]) == (0.25, 1.5, 64)
    assert found["digest"] == DIGEST.hex()


def test_an_account_says_until_when_and_why() -> None:
    account = Account(0.0, 100.0, failed=1.0, excluded_until_s=186_500.0, why="it lies")
    found = _account((PEER, DIGEST), account, 0.0, 100.0)
    assert found["standing"] == "excluded"
    assert found["excluded_until"] == 186_500.0
    assert "it lies" in found["why"]


def test_a_node_that_judges_nobody_has_found_nothing() -> None:
    assert audits_fields(None)["accounts"] == []
