"""Which signatures count: exactly those of the published vectors, whoever asks and whatever the
library thinks of the doubtful ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.keyfile import ephemeral_key
from swarmllm.errors import RemoteError
from swarmllm.messages import Envelope, ExpertRecord, Halt, Signed
from swarmllm.testing.edwards import is_good, torsion
from swarmllm.wire.codec import encode
from swarmllm.wire.ed25519 import is_sound
from swarmllm.wire.envelope import unseal
from swarmllm.wire.signed import good_signers, open_record
from tests import ROOT

VECTORS = json.loads((ROOT / "protocols/vectors/ed25519.json").read_text("utf-8"))["signatures"]
KEYS = ephemeral_key()


def each(function: Callable[[bytes, bytes, bytes, Any], None]) -> Any:
    def test(vector: Any) -> None:
        key, message, signature = (
            bytes.fromhex(vector[name]) for name in ("public_key", "message", "signature")
        )
        function(key, message, signature, vector)

    return pytest.mark.parametrize("vector", VECTORS, ids=[one["name"] for one in VECTORS])(test)


@each
def test_the_rule_and_the_library_say_together_what_the_vectors_say(  # ENV-5
    key: bytes, message: bytes, signature: bytes, vector: Any
) -> None:
    assert is_sound(key, signature) == vector["sound"]
    assert (is_sound(key, signature) and KEYS.verify(key, message, signature)) == vector["valid"]
    assert is_good(key, message, signature) == vector["equation"]


@each
# ENV-5
def test_nothing_doubtful_reaches_the_library(
    key: bytes, message: bytes, signature: bytes, vector: Any
) -> None:
    """A library that accepts everything makes no difference to what is refused by the form
    alone."""
    record = encode(Halt(bytes(32), bytes(16), 1, 0, 0))
    asked: list[bytes] = []

    def gullible(public_key: bytes, _message: bytes, _signature: bytes) -> bool:
        asked.append(public_key)
        return True

    opened = open_record(encode(Signed(record, (key + signature,))))
    if vector["sound"]:
        assert good_signers(opened, frozenset({key}), gullible) == {key}
    else:
        with pytest.raises(RemoteError, match="bad signature"):
            good_signers(opened, frozenset({key}), gullible)
    sealed = encode(
        Envelope(key, encode(ExpertRecord(1, "prose", bytes(32), bytes(32), 1, ())), signature)
    )
    if vector["sound"]:
        assert unseal(sealed, (ExpertRecord,), gullible, 512)
    else:
        with pytest.raises(RemoteError, match="bad signature"):
            unseal(sealed, (ExpertRecord,), gullible, 512)
    assert asked == [key, key] * vector["sound"]


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_what_a_library_signs_is_sound_and_right_by_the_book(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    assert is_sound(private.public_key().public_bytes_raw(), private.sign(message))


def test_a_library_signature_is_right_by_the_book() -> None:
    assert is_good(KEYS.public_key, b"message", KEYS.sign(b"message"))
    assert not is_good(KEYS.public_key, b"message", KEYS.sign(b"other"))


@pytest.mark.parametrize("times", range(8))
def test_every_point_whose_order_divides_8_is_refused_as_a_key(times: int) -> None:
    assert not is_sound(torsion().times(times).encoded, KEYS.sign(b""))


@pytest.mark.parametrize("sizes", [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)])
def test_wrong_lengths_are_not_sound(sizes: tuple[int, int]) -> None:
    assert not is_sound(b"\2" * sizes[0], b"\2" * sizes[1])
