"""Our spelling of peer ids is libp2p's. Cites protocols/envelope.md (ENV)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.peer.id import ID

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import PeerId
from swarmllm.wire.identity import peer_id_of, public_key_of, swarm_hash


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(b"\xff" * 32)
def test_peer_ids_are_libp2ps_and_give_the_key_back(key: bytes) -> None:  # ENV-4
    peer = peer_id_of(key)
    assert peer == ID.from_pubkey(Ed25519PublicKey.from_bytes(key)).to_base58()
    assert public_key_of(peer) == key


@given(st.text(max_size=60))
@example("")
@example("1" * 52)
@example("z" * 52)
@example("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")
def test_any_text_is_a_peer_id_or_raises(text: str) -> None:  # ENV-4
    try:
        key = public_key_of(PeerId(text))
    except RemoteError:
        return
    assert peer_id_of(key) == text


def test_mutated_ids_are_another_peer_or_raise() -> None:  # ENV-4; 10^4 executions
    rng = Random(20261123)
    peer = peer_id_of(rng.randbytes(32))
    for _ in range(10_000):
        letters = list(peer)
        letters[rng.randrange(52)] = rng.choice(
            "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0OIl+"
        )
        text = "".join(letters)
        try:
            key = public_key_of(PeerId(text))
        except RemoteError:
            continue
        assert peer_id_of(key) == text


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(LocalError):
        peer_id_of(bytes(size))


def test_a_swarm_is_named_by_the_hash_of_its_name() -> None:
    assert swarm_hash("private").hex() == "2c5b4f6c5cb07666"
    assert len({swarm_hash(name) for name in ("", "a", "b", "Bücher", "private")}) == 5
