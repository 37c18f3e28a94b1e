"""The vectors of identity.md, computed here from the document's words where that can be done
without the code under test."""

from __future__ import annotations

import importlib.util
import json
import struct
import zlib
from hashlib import blake2b, sha256
from typing import Any

import pytest

from swarmllm.adapters.libp2p.directory import _key_of
from swarmllm.core.capacity.table import check
from swarmllm.errors import RemoteError
from swarmllm.messages import CapacityRecord, Charter, HaltDigest
from swarmllm.wire.codec import decode
from swarmllm.wire.tokenizer import unseal
from tests import ROOT

SWARM: Any = json.loads((ROOT / "protocols" / "vectors" / "swarm.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "vector", SWARM["vocabularies"], ids=[one["name"] for one in SWARM["vocabularies"]]
)
def test_fingerprints(vector: Any) -> None:  # ID-8, TOK-1, TOK-2
    def counted(text: bytes) -> bytes:
        return struct.pack(">I", len(text)) + text

    one = vector["tokenizer"]
    encoding = b"swarmllm/vocabulary/2" + counted(one["model"].encode())
    encoding += counted(one["pre"].encode())
    encoding += bytes([one["space_prefix"] + 2 * one["trims_spaces"]])
    encoding += struct.pack(">II", 0 if one["unknown"] is None else one["unknown"] + 1, 5)
    chat = b"swarmllm/chat/1"
    for token in one["ids"].values():
        chat += struct.pack(">I", 0 if token is None else token + 1)
    chat += bytes([{None: 0, False: 1, True: 2}[one["add_bos"]]])
    chat += counted(one["trimming"].encode()) + counted(one["template"].encode())
    for text, kind in zip(one["texts"], one["kinds"], strict=True):
        data = bytes([kind]) + counted(text.encode())
        if kind in (1, 6) or (kind == 4 and not (text[0] in "<[" and text[-1] in ">]")):
            encoding += data
        else:
            encoding += b"\0"
            chat += data
    encoding += counted(struct.pack(f"<{len(one['scores'])}f", *one["scores"]))
    encoding += struct.pack(">I", len(one["merges"]))
    encoding += b"".join(counted(merge.encode()) for merge in one["merges"])
    encoding += counted(bytes.fromhex(one["charsmap"]))
    assert (encoding.hex(), chat.hex()) == (vector["encoding"], vector["chat"])
    assert sha256(encoding).hexdigest() == vector["fingerprint"]
    assert sha256(chat).hexdigest()[:16] == vector["chat_digest"]


@pytest.mark.parametrize("vector", SWARM["vocabularies"], ids=lambda one: one["name"])
def test_sealed_sections_are_read_as_what_they_say(vector: Any) -> None:  # TOK-3
    sections = [bytes.fromhex(vector[name]) for name in ("encoding", "chat")]
    data = zlib.compress(b"".join(struct.pack(">I", len(one)) + one for one in sections))
    digests = bytes.fromhex(vector["fingerprint"]), bytes.fromhex(vector["chat_digest"])
    found = unseal(data, *digests)
    assert found.digests() == digests
    assert found.template == vector["tokenizer"]["template"]
    assert [text.decode() for text in found.texts] == vector["tokenizer"]["texts"]


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
