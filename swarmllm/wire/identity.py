"""Peer ids: a peer's id is its public key in another spelling.

libp2p wraps an Ed25519 key into a protobuf (`type` = 1, `data` = the 32 bytes), that into an
identity multihash, and spells the result in base58 (libp2p specs, `peer-ids`). Keys of other types
hash into ids from which no key can be read; this swarm does not use them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import PeerId

_PREFIX: Final = bytes.fromhex("002408011220")
"""Multihash identity (00) of 36 bytes (24): field 1 (08) is Ed25519 (01), field 2 (12) holds 32
bytes (20)."""

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
# Every id with this prefix has exactly so many letters and begins with 12D3KooW.
_LETTERS: Final = 52


def peer_id_of(public_key: bytes) -> PeerId:
    """The libp2p peer id of a raw Ed25519 public key (32 bytes). LocalError for any other
    length."""
    if len(public_key) != 32:
        raise LocalError(
            f"an Ed25519 public key has 32 bytes, not {len(public_key)};"
            " use the raw key without any wrapping"
        )
    return PeerId(_base58(_PREFIX + public_key))


def public_key_of(peer: PeerId) -> bytes:
    """The raw Ed25519 public key (32 bytes) inside a peer id. RemoteError for anything that is not
    such an id."""
    # The length is checked first: the conversion costs the square of it.
    if len(peer) != _LETTERS or not all(letter in _DIGITS for letter in peer):
        raise RemoteError(
            f"peer id {peer[:64]!r}: not an Ed25519 peer id (12D3KooW and 44 more letters)"
        )
    number = 0
    for letter in peer:
        number = number * 58 + _DIGITS[letter]
    size = len(_PREFIX) + 32
    if number.bit_length() > 8 * (size - 1):
        raise RemoteError(f"peer id {peer!r}: not an Ed25519 peer id (other multihash)")
    data = number.to_bytes(size, "big")
    if not data.startswith(_PREFIX) or _base58(data) != peer:
        raise RemoteError(f"peer id {peer!r}: not an Ed25519 peer id (other multihash)")
    return data[len(_PREFIX) :]


def _base58(data: bytes) -> str:
    """Base58 with Bitcoin's alphabet; each leading zero byte is a leading 1."""
    number = int.from_bytes(data, "big")
    letters: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def swarm_hash(name: str) -> bytes:
    """Which swarm is meant, in eight bytes: BLAKE2b over its name in UTF-8. It keeps swarms apart
    that do not want to meet; who wants to mislead finds another name with the same hash, or just
    says the same name."""
    return blake2b(name.encode(), digest_size=8).digest()
