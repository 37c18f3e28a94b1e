"""Ed25519 admission rule: which keys and signatures are verified at all, so that every
implementation agrees.

RFC 8032 leaves open what becomes of keys of small order, of encodings that are not the shortest,
and of the cofactor, and libraries differ in each (Chalkias, Garillot, Nikolaenko 2020, "Taming the
many EdDSAs"). A halt that one half of a swarm takes for genuine and the other does not would split
it. So the doubtful ones are refused here, before any library sees them; for what is left, a
signature is good if and only if [S]B = R + [k]A holds without the cofactor, as OpenSSL and all that
descends from the reference code check it.
"""

from __future__ import annotations

from typing import Final

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
# Of the four points of order 8, or -_Y8.
_Y8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL: Final = frozenset((0, 1, _P - 1, _Y8, _P - _Y8))
"""The y coordinates of the eight points whose order divides 8. For such a key anybody can sign,
some messages at least."""


def is_sound(public_key: bytes, signature: bytes) -> bool:
    """Whether key and signature are in the one form that is looked at: A and R canonical and not of
    small order, S below the group's order.

    Says nothing about whether the signature is good. False for wrong lengths."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    return (
        _is_plain_point(public_key)
        and _is_plain_point(signature[:32])
        and int.from_bytes(signature[32:], "little") < _ORDER
    )


def _is_plain_point(encoded: bytes) -> bool:
    y = int.from_bytes(encoded, "little") & (2**255 - 1)  # The highest bit is the sign of x.
    return y < _P and y not in _SMALL
