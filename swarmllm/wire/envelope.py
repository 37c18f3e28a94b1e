"""Signed envelopes: a payload, its author's key, and a signature that is good for this kind of
payload only.

The signed bytes begin with a domain, a constant per payload type, so that a signature made for one
purpose proves nothing in another (the same key also signs libp2p handshakes). The payload is signed
as the bytes that travel; the codec knows one encoding for each value, so these bytes and the value
are the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import Envelope, PeerId
from swarmllm.messages.declare import domain_of
from swarmllm.wire import codec
from swarmllm.wire.ed25519 import is_sound
from swarmllm.wire.identity import peer_id_of

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> whether it is good; never raises. Asked only about what
`wire.ed25519.is_sound` lets through."""

_Payload = TypeVar("_Payload")


def seal(payload: object, public_key: bytes, sign: Sign) -> bytes:
    """The payload in a signed envelope. `sign` is Ed25519 with the private half of `public_key`."""
    packed = codec.encode(payload)
    signature = sign(domain_of(type(payload)) + packed)
    if len(public_key) != 32 or len(signature) != 64:
        raise LocalError(
            f"an Ed25519 key of {len(public_key)} and signature of {len(signature)} bytes;"
            " they have 32 and 64"
        )
    return codec.encode(Envelope(public_key, packed, signature))


def unseal(
    data: bytes, kinds: Sequence[type[_Payload]], verify: Verify, size_max: int
) -> tuple[PeerId, _Payload]:
    """The author and the payload. RemoteError if it is longer than `size_max` bytes, malformed, of
    another kind, or badly signed.

    The cheap checks come first, so that rubbish costs microseconds and only a well-formed envelope
    costs a signature check.
    """
    if len(data) > size_max:
        raise RemoteError(f"envelope of {len(data)} bytes exceeds {size_max}")
    envelope = codec.decode(data, (Envelope,))
    payload = codec.decode(envelope.payload, kinds)
    author = peer_id_of(envelope.public_key)
    signed = domain_of(type(payload)) + envelope.payload
    if not is_sound(envelope.public_key, envelope.signature) or not verify(
        envelope.public_key, signed, envelope.signature
    ):
        raise RemoteError(f"{type(payload).__name__} of {author}: bad signature")
    return author, payload
