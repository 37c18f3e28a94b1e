"""The published vectors say what this implementation does: each valid one is accepted as described,
each invalid one refused."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, ExpertRecord, SessionRecord
from swarmllm.messages.declare import domain_of
from swarmllm.wire.codec import CODES, decode, encode
from swarmllm.wire.context import digests
from swarmllm.wire.envelope import seal, unseal
from swarmllm.wire.framing import FrameReader
from swarmllm.wire.identity import peer_id_of, public_key_of
from swarmllm.wire.sparse import decode_list
from swarmllm.wire.sparse_encoding import encode_logits
from tests import ROOT
from tests.wire.test_envelope import verify

KINDS: tuple[type[Any], ...] = tuple(CODES)
BY_NAME = {kind.__name__: kind for kind in KINDS}
SIGNED: tuple[type[Any], ...] = (CapacityRecord, ExpertRecord, SessionRecord)


def load(name: str) -> Any:
    return json.loads((ROOT / "protocols" / "vectors" / name).read_text(encoding="utf-8"))


CODEC, FRAMING, IDENTITY = load("codec.json"), load("framing.json"), load("identity.json")
CONTEXT, ENVELOPE, SPARSE = load("context.json"), load("envelope.json"), load("sparse.json")


def named(vectors: Any) -> dict[str, Any]:
    """For pytest: cases with their names as ids."""
    return {
        "argvalues": vectors,
        "ids": [one.get("name") or one.get("type") or str(i) for i, one in enumerate(vectors)],
    }


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def fields_of(message: Any) -> dict[str, object]:
    return {f.name: plain(getattr(message, f.name)) for f in fields(message)}


@pytest.mark.parametrize("vector", **named(CODEC["valid"]))
def test_valid_messages(vector: Any) -> None:
    data = bytes.fromhex(vector["hex"])
    message: Any = decode(data, (BY_NAME[vector["type"]],))
    assert fields_of(message) == vector["fields"]
    assert encode(message) == data


@pytest.mark.parametrize("vector", **named(CODEC["invalid"]))
def test_invalid_messages(vector: Any) -> None:
    with pytest.raises(RemoteError):
        decode(bytes.fromhex(vector["hex"]), KINDS)


@pytest.mark.parametrize("vector", **named(FRAMING["valid"]))
def test_valid_streams(vector: Any) -> None:
    reader = FrameReader(FRAMING["frame_max"])
    found = [
        frame.hex() for chunk in vector["chunks"] for frame in reader.feed(bytes.fromhex(chunk))
    ]
    assert found == vector["frames"]


@pytest.mark.parametrize("vector", **named(FRAMING["invalid"]))
def test_invalid_streams(vector: Any) -> None:
    reader = FrameReader(FRAMING["frame_max"])
    *first, last = vector["chunks"]
    assert [reader.feed(bytes.fromhex(chunk)) for chunk in first] == [[]] * len(first)
    with pytest.raises(RemoteError):
        reader.feed(bytes.fromhex(last))


@pytest.mark.parametrize("vector", **named(IDENTITY["valid"]))
def test_valid_peer_ids(vector: Any) -> None:
    assert peer_id_of(bytes.fromhex(vector["public_key"])) == vector["peer"]
    assert public_key_of(vector["peer"]).hex() == vector["public_key"]


@pytest.mark.parametrize("vector", **named(IDENTITY["invalid"]))
def test_invalid_peer_ids(vector: Any) -> None:
    with pytest.raises(RemoteError):
        public_key_of(vector["peer"])


@pytest.mark.parametrize("vector", **named(CONTEXT["valid"]))
def test_context_hashes(vector: Any) -> None:
    assert [digest.hex() for digest in digests(vector["tokens"])] == vector["digests"]


@pytest.mark.parametrize("vector", **named(ENVELOPE["valid"]))
def test_valid_envelopes(vector: Any) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(ENVELOPE["seed"]))
    data = bytes.fromhex(vector["hex"])
    author, payload = unseal(data, SIGNED, verify, len(data))
    assert author == ENVELOPE["peer"]
    assert type(payload).__name__ == vector["type"]
    assert fields_of(payload) == vector["fields"]
    assert domain_of(type(payload)).decode() == ENVELOPE["domains"][vector["type"]]
    # Ed25519 is deterministic, so sealing again gives the same bytes.
    assert seal(payload, bytes.fromhex(ENVELOPE["public_key"]), private.sign) == data


@pytest.mark.parametrize("vector", **named(ENVELOPE["invalid"]))
def test_invalid_envelopes(vector: Any) -> None:
    with pytest.raises(RemoteError):
        unseal(bytes.fromhex(vector["hex"]), SIGNED, verify, 4_096)


@pytest.mark.parametrize("vector", **named(SPARSE["valid"]))
def test_valid_lists(vector: Any) -> None:
    data = bytes.fromhex(vector["hex"])
    found = decode_list(data, vector["entries_max"], vector["vocab_size"])
    assert found.ids.tolist() == vector["ids"]
    assert np.abs(found.logprobs - np.array(vector["logprobs"])).max() <= SPARSE["tolerance"]
    assert found.tail == pytest.approx(vector["tail"], abs=SPARSE["tolerance"])
    if "logits" in vector:
        logits = np.array(vector["logits"], np.float32)
        assert found.ids[np.argmax(found.logprobs)] == np.argmax(logits)
        assert encode_logits(logits, vector["entries_max"], vector["tail_max"]) == data


@pytest.mark.parametrize("vector", **named(SPARSE["invalid"]))
def test_invalid_lists(vector: Any) -> None:
    with pytest.raises(RemoteError):
        decode_list(bytes.fromhex(vector["hex"]), vector["entries_max"], vector["vocab_size"])


def test_the_files_are_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location(
        "make_wire_vectors", ROOT / "scripts" / "make_wire_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, text in script.files().items():
        assert (ROOT / "protocols" / "vectors" / name).read_text(encoding="utf-8") == text, (
            f"{name}: run scripts/make_wire_vectors.py"
        )
