"""The published vectors say what this implementation does: what is taken, what is refused, and what
is in force by it. Read without the script that wrote them."""

from __future__ import annotations

import importlib.util
import json
from hashlib import sha256
from typing import Any

import pytest

from swarmllm.core.governance.admission import GOVERNING
from swarmllm.core.governance.book import Book
from swarmllm.core.governance.held_out import digest_of, held_out_in
from swarmllm.core.governance.mandate import Mandate, mandate_of, read_terms
from swarmllm.core.governance.tiers import decide, read_action
from swarmllm.core.halt.state import HaltState
from swarmllm.core.settings.table import BY_CODE
from swarmllm.messages.declare import domain_of
from swarmllm.testing.operators import verify
from swarmllm.wire.signed import key_id, open_record
from tests import ROOT

PATH = ROOT / "protocols" / "vectors" / "governance.json"
VECTORS: Any = json.loads(PATH.read_text(encoding="utf-8"))
RECORDS = {one["name"]: bytes.fromhex(one["hex"]) for one in VECTORS["records"]}


def mandate() -> Mandate:
    opened = open_record(bytes.fromhex(VECTORS["charter"]))
    swarm = sha256(opened.payload).digest()
    terms = read_terms(bytes.fromhex(VECTORS["terms"]))
    found = mandate_of(swarm, HaltState(swarm, (opened,)).charters, terms)
    assert isinstance(found, Mandate)
    return found


def book_with(names: list[str], ctl_digest: bytes = bytes(8)) -> tuple[Book, Any]:
    book = Book(mandate(), BY_CODE, verify)

    def outcome_with(also: Any) -> Any:
        released = [*book.cases, *(case.id for case in also)]
        return book.outcome(released, ctl_digest, also)

    for name in names:
        taken = book.take([RECORDS[name]], outcome_with)
        assert taken.news, f"{name}: {taken.rejected}"
    return book, outcome_with


def named(key: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("one", VECTORS[key], ids=lambda one: one["name"])


@named("scenes")
def test_what_is_in_force(one: Any) -> None:  # GOV-6, GOV-10, GOV-11, GOV-13 to GOV-17
    book, outcome_with = book_with(one["records"], bytes.fromhex(one["ctl_digest"]))
    outcome = outcome_with(())
    assert {str(code): value for code, value in outcome.values.items()} == one["settings"]
    assert outcome.phase == one["phase"]
    packed = b"".join(name + digest for name, digest in sorted(book.groups().items()))
    assert sha256(packed).hexdigest()[:16] == one["set_digest"]
    assert len(one["proposals"]) == len(book.cases)
    for id, expected in one["proposals"].items():
        standing = outcome.standings[bytes.fromhex(id)]
        assert standing.decision.tier == expected["tier"]
        assert standing.decision.escalated == expected["escalated"]
        assert (standing.yes, standing.no, standing.needs) == (
            expected["yes"],
            expected["no"],
            expected["needs"],
        )
        assert standing.passed == expected["passed"]
        assert standing.is_withdrawn == expected["withdrawn"]
        assert bool(standing.void) == expected["void"]
        assert book.cases[bytes.fromhex(id)].digest.hex() == expected["group_digest"]


@named("refused")
def test_what_is_refused_changes_nothing(one: Any) -> None:  # GOV-8, GOV-9
    book, outcome_with = book_with(["five"])
    before = dict(book.groups())
    taken = book.take([bytes.fromhex(one["hex"])], outcome_with)
    assert not taken.news
    (rejected,) = taken.rejected
    assert rejected.penalise == one["strike"]
    assert book.groups() == before


@pytest.mark.parametrize("one", VECTORS["actions"], ids=lambda one: f"{one['type']} {one['hex']}")
def test_every_action_has_its_tier(one: Any) -> None:  # GOV-4, GOV-5, GOV-7
    def bounds(code: int) -> Any:
        return BY_CODE[code].bounds if code in BY_CODE else None

    decision = decide(read_action(bytes.fromhex(one["hex"])), 0, one["evidence"], BY_CODE, bounds)
    assert (decision.tier, decision.can_be_done) == (one["tier"], one["can_be_done"])


def test_terms_and_scope() -> None:  # GOV-1, GOV-2
    found = mandate()
    assert found.scope.hex() == VECTORS["scope"]
    keys = {name: bytes.fromhex(key["public_key"]) for name, key in VECTORS["keys"].items()}
    assert {*found.voters} == {key_id(keys[f"voter {i}"]) for i in (1, 2, 3)}
    assert {*found.agents} == {key_id(keys[f"agent {i}"]) for i in (1, 2)}
    assert VECTORS["domains"] == {kind.__name__: domain_of(kind).decode() for kind in GOVERNING}


def test_held_out_text_that_a_charter_pins() -> None:  # GOV-28
    found = VECTORS["held_out"]
    assert digest_of(found["texts"]).hex() == found["digest"]
    backwards = {kind: texts[::-1] for kind, texts in reversed(found["texts"].items())}
    assert digest_of(backwards).hex() == found["digest"]
    assert digest_of({"code": [*found["texts"]["code"], ""]}).hex() != found["digest"]
    for one in found["pins"]:
        held = held_out_in(bytes.fromhex(one["ext"]))
        said = None if held is None else {"name": held.name, "digest": held.digest.hex()}
        assert said == one["pins"], one["name"]


def test_the_file_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location(
        "make_governance_vectors", ROOT / "scripts" / "make_governance_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert PATH.read_text(encoding="utf-8") == made.text(), "run scripts/make_governance_vectors.py"
