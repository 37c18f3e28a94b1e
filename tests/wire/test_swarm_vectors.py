"""The vectors of identity.md, computed here from the document's words where that can be done
without the code under test."""

from __future__ import annotations

import importlib.util
import json
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import pytest

from swarmllm.adapters.libp2p.directory import _key_of
from swarmllm.core.capacity.table import check
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, Charter, HaltDigest
from swarmllm.wire.codec import decode

ROOT = Path(__file__).resolve().parents[2]
SWARM: Any = json.loads((ROOT / "protocols" / "vectors" / "swarm.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "vector", SWARM["vocabularies"], ids=[one["name"] for one in SWARM["vocabularies"]]
)
def test_fingerprints(vector: Any) -> None:  # ID-8
    def counted(text: str) -> bytes:
        return len(text.encode()).to_bytes(4, "big") + text.encode()

    parts = [
        bytes((kind,)) + counted(text) if kind in (1, 6) else b"\0"
        for text, kind in vector["tokens"]
    ]
    data = b"swarmllm/vocabulary/1" + counted(vector["pre"]) + b"".join(parts)
    assert sha256(data).hexdigest() == vector["fingerprint"]


def test_swarm_tags() -> None:  # ID-5
    for vector in SWARM["swarm_tags"]:
        assert blake2b(vector["name"].encode(), digest_size=8).hexdigest() == vector["tag"]


def test_the_private_charter_and_its_greeting() -> None:  # ID-6, ID-7
    vector = SWARM["private_charter"]
    key, data = bytes.fromhex(vector["public_key"]), bytes.fromhex(vector["charter"])
    expected = Charter(1, bytes(32), (key,), (key,), (key,), (), (), 1, 1, 3, 0, (), 0, 0)
    assert decode(data, (Charter,)) == expected
    assert sha256(data).hexdigest() == vector["swarm"]
    assert decode(bytes.fromhex(vector["greeting"]), (HaltDigest,)) == HaltDigest(
        sha256(data).digest(), 1, bytes(8)
    )


def test_the_key_of_a_value_is_text() -> None:  # ID-13
    assert bytes.fromhex(SWARM["dht"]["value_key"]).decode() == _key_of(
        SWARM["private_charter"]["peer"]
    )


@pytest.mark.parametrize(
    "vector", SWARM["senseless_records"], ids=[one["name"] for one in SWARM["senseless_records"]]
)
def test_senseless_records(vector: Any) -> None:  # CAP-1
    record: CapacityRecord = decode(bytes.fromhex(vector["hex"]), (CapacityRecord,))
    with pytest.raises(RemoteError):
        check(SWARM["private_charter"]["peer"], record)


def test_the_file_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location(
        "make_swarm_vectors", ROOT / "scripts" / "make_swarm_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = (ROOT / "protocols" / "vectors" / "swarm.json").read_text(encoding="utf-8")
    assert written == script.text(), "run scripts/make_swarm_vectors.py"
