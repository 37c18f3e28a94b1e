"""Ed25519 by the book (RFC 8032, section 5.1), slow and plain: to make signatures that no library
would, and to say what is right of them.

For tests and published vectors only; nothing here is safe with a secret key.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha512
from typing import Final

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, P) % P
_ROOT: Final = pow(2, (P - 1) // 4, P)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int

    def __add__(self, other: Point) -> Point:
        product = _D * self.x * other.x * self.y * other.y % P
        x = (self.x * other.y + other.x * self.y) * pow(1 + product, -1, P)
        y = (self.y * other.y + self.x * other.x) * pow(1 - product, -1, P)
        return Point(x % P, y % P)

    def times(self, factor: int) -> Point:
        found, power = NEUTRAL, self
        while factor:
            if factor & 1:
                found += power
            power += power
            factor >>= 1
        return found

    @property
    def encoded(self) -> bytes:
        return (self.y | (self.x & 1) << 255).to_bytes(32, "little")


NEUTRAL: Final = Point(0, 1)


def decoded(data: bytes) -> Point | None:
    """The point in 32 bytes, also from an encoding that is not the shortest; None if there is
    none."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % P
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * _ROOT % P
    if x * x % P != square:
        return None
    return Point(P - x if x and x & 1 != sign else x, y)


_BASE = decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert _BASE is not None
BASE: Final = _BASE


def torsion() -> Point:
    """A point of order 8: some point times the order of the base."""
    for y in range(2, 100):
        point = decoded(y.to_bytes(32, "little"))
        if point is not None and (found := point.times(ORDER)).times(4) != NEUTRAL:
            return found
    raise AssertionError("every second point has one of its order")


def challenge(r: bytes, public_key: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + public_key + message).digest(), "little") % ORDER


def is_good(
    public_key: bytes, message: bytes, signature: bytes, *, cofactored: bool = False
) -> bool:
    """By the equation alone, [S]B = R + [k]A, or eight times both sides. Any encoding and any S
    will do."""
    a, r = decoded(public_key), decoded(signature[:32])
    if a is None or r is None:
        return False
    left = BASE.times(int.from_bytes(signature[32:], "little"))
    right = r + a.times(challenge(signature[:32], public_key, message))
    factor = 8 if cofactored else 1
    return left.times(factor) == right.times(factor)
