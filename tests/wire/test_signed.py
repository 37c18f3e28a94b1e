"""Signatures add up only over one and the same record, and the published vectors say what this
implementation does.

Cites protocols/halt.md (HALT)."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import fields
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarmllm import messages
from swarmllm.core.halt.beacons import Beacons
from swarmllm.core.halt.charter import Rejected
from swarmllm.core.halt.state import Applied, HaltState, Known, validate
from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import HALT_RECORD_MAX, Halt, Resume, Signed
from swarmllm.messages.declare import DECLARED
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import (
    HALT_DOMAINS,
    add_signature,
    good_signers,
    key_id,
    merge,
    open_record,
    open_signed,
    sign_record,
)
from tests import ROOT
from tests.wire.strategies import mutate
from tests.wire.test_envelope import verify

VECTORS = json.loads((ROOT / "protocols" / "vectors" / "halt.json").read_text(encoding="utf-8"))
RECORDS = {one["name"]: bytes.fromhex(one["hex"]) for one in VECTORS["records"]}
PEOPLE = [Ed25519PrivateKey.from_private_bytes(bytes((i,)) * 32) for i in range(11)]
KEYS = [person.public_key().public_bytes_raw() for person in PEOPLE]
LIFT = Resume(bytes(32), 1, marks_of({bytes(16): 1}), 0)


def ids(cases: Any) -> dict[str, Any]:
    return {"argvalues": cases, "ids": [one.get("name") or one["type"] for one in cases]}


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def described(message: Any) -> dict[str, object]:
    return {f.name: plain(getattr(message, f.name)) for f in fields(message)}


# --- gathering signatures -------------------------------------------------------------------------


def test_signatures_gathered_on_several_machines_are_one_record() -> None:  # HALT-1
    both = sign_record(LIFT, [(KEYS[0], PEOPLE[0].sign), (KEYS[1], PEOPLE[1].sign)])
    first = sign_record(LIFT, [(KEYS[1], PEOPLE[1].sign)])
    assert add_signature(first, KEYS[0], PEOPLE[0].sign) == both
    assert add_signature(both, KEYS[0], PEOPLE[0].sign) == both
    second = sign_record(LIFT, [(KEYS[0], PEOPLE[0].sign)])
    assert merge(first, second) == merge(second, first) == merge(both, first) == both
    assert good_signers(open_record(both), frozenset(KEYS), verify) == set(KEYS[:2])


def test_signatures_over_different_records_do_not_add_up() -> None:
    other = Resume(bytes(32), 2, LIFT.lifts, 0)
    with pytest.raises(LocalError, match="different records"):
        merge(
            sign_record(LIFT, [(KEYS[0], PEOPLE[0].sign)]),
            sign_record(other, [(KEYS[1], PEOPLE[1].sign)]),
        )


def test_a_record_without_signers_with_too_many_or_with_rubbish_is_not_made() -> None:
    with pytest.raises(LocalError):
        sign_record(LIFT, [])
    with pytest.raises(LocalError):
        sign_record(LIFT, [(key, person.sign) for key, person in zip(KEYS, PEOPLE, strict=True)])
    with pytest.raises(LocalError, match="they have 32 and 64"):
        sign_record(LIFT, [(KEYS[0], lambda message: b"short")])


def test_every_signature_must_be_good_and_by_somebody_who_has_a_part_in_it() -> None:  # HALT-2
    both = open_record(sign_record(LIFT, [(KEYS[0], PEOPLE[0].sign), (KEYS[1], PEOPLE[1].sign)]))
    with pytest.raises(RemoteError, match="no part"):
        good_signers(both, frozenset(KEYS[:1]), verify)
    broken = Signed(
        both.payload, tuple(entry[:-1] + bytes((entry[-1] ^ 1,)) for entry in both.signatures)
    )
    with pytest.raises(RemoteError, match="bad signature"):
        good_signers(open_record(encode(broken)), frozenset(KEYS), verify)


def test_a_record_is_opened_as_one_of_the_kinds_that_are_expected_and_no_other() -> None:
    halt, resume, charter = (
        RECORDS[name] for name in ("halt 1 seq 5", "resume of 5 by two", "charter 1")
    )
    assert open_signed(halt, (Halt,)) == open_record(halt)
    with pytest.raises(RemoteError, match="must be one of Halt"):
        open_signed(resume, (Halt,))
    longer = charter + bytes(HALT_RECORD_MAX)
    with pytest.raises(RemoteError, match=f"exceeds {HALT_RECORD_MAX}"):
        open_signed(longer, (Halt, Resume))  # Before anything in it is read.


def test_no_domain_is_used_twice_or_begins_another() -> None:  # HALT-1
    every = [one.domain for one in DECLARED.values() if one.domain]
    assert set(every) > set(HALT_DOMAINS.values())
    assert len(set(every)) == len(every)
    assert not any(one != two and two.startswith(one) for one in every for two in every)


def test_a_mutated_record_is_never_valid() -> None:  # HALT-10
    rng = Random(20261123)
    state = played(HaltState(bytes.fromhex(VECTORS["swarm"])), "charter 1", "halt 1 seq 5")
    for name in ("halt 1 seq 6", "resume of 5 by two", "charter 2 without halt 2"):
        data = RECORDS[name]
        assert isinstance(validate(state, data, verify), Applied)
        for _ in range(400):
            injured = mutate(rng, data)
            assert injured == data or not isinstance(validate(state, injured, verify), Applied)


# --- vectors --------------------------------------------------------------------------------------


def played(state: HaltState, *names: str) -> HaltState:
    for name in names:
        outcome = validate(state, RECORDS[name], verify)
        assert isinstance(outcome, Applied)
        state = outcome.state
    return state


@pytest.mark.parametrize("name", VECTORS["keys"])
def test_keys_and_their_ids(name: str) -> None:  # HALT-3
    one = VECTORS["keys"][name]
    public_key = (
        Ed25519PrivateKey.from_private_bytes(bytes.fromhex(one["seed"]))
        .public_key()
        .public_bytes_raw()
    )
    assert (public_key.hex(), key_id(public_key).hex()) == (one["public_key"], one["key"])


@pytest.mark.parametrize("vector", **ids(VECTORS["records"]))
def test_valid_records(vector: Any) -> None:
    found = open_record(bytes.fromhex(vector["hex"]))
    assert type(found.record).__name__ == vector["type"]
    assert described(found.record) == vector["fields"]


@pytest.mark.parametrize("vector", **ids(VECTORS["messages"]))
def test_valid_messages(vector: Any) -> None:
    kind = getattr(messages, vector["type"])
    message = decode(bytes.fromhex(vector["hex"]), (kind,))
    assert described(message) == vector["fields"]
    assert encode(message) == bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("vector", **ids(VECTORS["invalid"]))
def test_invalid_records(vector: Any) -> None:  # HALT-2
    with pytest.raises(RemoteError):
        open_record(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", **ids(VECTORS["transcripts"]))
def test_transcripts(vector: Any) -> None:
    state = HaltState(bytes.fromhex(VECTORS["swarm"]))
    for step in vector["steps"]:
        outcome = validate(state, RECORDS[step["record"]], verify, 1)
        state = outcome.state if isinstance(outcome, Applied) else state
        word = (
            "applied"
            if isinstance(outcome, Applied)
            else "known"
            if isinstance(outcome, Known)
            else "refused"
        )
        assert word == step["outcome"], step["record"]
        assert step["strike"] == (word == "refused" and outcome.penalise)  # type: ignore[union-attr]
        assert state.version == step["charter_version"]
        assert [mark.hex() for mark in state.vectors.halts] == step["halts"]
        assert [mark.hex() for mark in state.vectors.lifts] == step["lifts"]
        assert (bool(state.standing), state.digest.hex()) == (step["halted"], step["ctl_digest"])


def test_domains_are_published() -> None:
    assert {kind.__name__: domain.decode() for kind, domain in HALT_DOMAINS.items()} == VECTORS[
        "domains"
    ]
    assert isinstance(open_record(RECORDS["halt 1 seq 5"]).record, Halt)


def test_the_file_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location(
        "make_halt_vectors", ROOT / "scripts" / "make_halt_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PATH.read_text(encoding="utf-8") == script.text(), (
        "run scripts/make_halt_vectors.py"
    )


def test_signs_of_life_are_heard_as_the_vectors_say() -> None:  # HALT-25
    told = VECTORS["beacons"]
    charter = bytes.fromhex(told["charter"])
    first = validate(HaltState(sha256(open_record(charter).payload).digest()), charter, verify, 1)
    assert isinstance(first, Applied)
    beacons = Beacons()
    for step in told["steps"]:
        opened = open_record(bytes.fromhex(step["hex"]))
        assert described(opened.record) == step["fields"]
        found = beacons.hear(
            first.state, opened, verify, told["start_ms"] + step["at_s"] * 1_000, step["at_s"]
        )
        word = "new" if found is None else "known" if isinstance(found, Known) else "refused"
        assert (word, isinstance(found, Rejected) and found.penalise) == (
            step["outcome"],
            step["strike"],
        ), step["name"]
        until = beacons.next_deadline(first.state.charter, step["at_s"])
        assert (None if until == math.inf else until) == step["serves_until_s"], step["name"]


# HALT-5, HALT-6
def test_a_halt_key_that_was_taken_out_never_comes_back_and_a_second_branch_is_no_strike() -> None:
    steps = {one["name"]: one["steps"] for one in VECTORS["transcripts"]}
    returned = steps["a key that was taken out comes back"]
    assert [step["outcome"] for step in returned[:3]] == ["applied", "applied", "refused"]
    branches = [
        (step["outcome"], step["strike"], step["charter_version"])
        for step in steps["two branches"][2:]
    ]
    assert branches == [("known", False, 2), ("refused", False, 2)]
