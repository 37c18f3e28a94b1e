"""The declaration of a wire message: `@message` turns a class into a frozen dataclass and enters it
into the table of all messages.

A message is declared once, where it is defined: its type code, the protocol on whose streams it
travels, and who may send it there. The codec, the lanes of a connection, the filter of a halted
node and the table in protocols/README.md are all made from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, dataclass_transform

EXPERT: Final = "expert"
HALT: Final = "halt"
TOKENIZER: Final = "tokenizer"
LEDGER: Final = "ledger"
GOV: Final = "gov"
MEMBER: Final = "member"
ASKER: Final = "asker"
ANSWERER: Final = "answerer"
BOTH: Final = "both"


@dataclass(frozen=True, slots=True)
class Declaration:
    """`code` is the type code, for ever: a message that changes its meaning or its fields gets a
    new one. `stream` is the protocol on whose streams it travels (empty: only within other
    messages), `sender` who may send it there: the side that opened the stream and asks, the side
    that answers, or both. `infers`: it makes, asks for or delivers tokens, which a halted node
    never does.

    `domain` is what a signature of this message begins with (empty: it is never signed), so that a
    signature made for one purpose proves nothing in another; each ends in its only zero byte, so
    none is the beginning of another. `size_max` is the most bytes that the signed record takes,
    signatures included."""

    code: int
    stream: str
    sender: str
    infers: bool
    domain: bytes
    size_max: int


DECLARED: Final[dict[type, Declaration]] = {}
"""Every message, in the order of declaration."""

_Class = TypeVar("_Class", bound=type)


@dataclass_transform(frozen_default=True)
def message(
    *,
    code: int,
    stream: str = "",
    sender: str = "",
    infers: bool = False,
    domain: bytes = b"",
    size_max: int = 0,
) -> Callable[[_Class], _Class]:
    """Declare a message. A method `fault` may say what the bounds of single fields cannot: a
    sentence, empty if nothing is wrong."""
    assert 0 < code < 0x80, f"type code {code} must fit one byte"
    assert all(other.code != code for other in DECLARED.values()), f"type code {code} is taken"
    assert not domain or (domain.find(b"\0") == len(domain) - 1 and size_max > 0), (
        f"domain {domain!r}: one zero, at the end, and a size"
    )
    assert not domain or all(other.domain != domain for other in DECLARED.values()), (
        f"domain {domain!r} is taken"
    )

    def declare(kind: _Class) -> _Class:
        made: Any = dataclass(frozen=True, slots=True)(kind)
        DECLARED[made] = Declaration(code, stream, sender, infers, domain, size_max)
        found: _Class = made
        return found

    return declare


def domain_of(kind: type[Any]) -> bytes:
    """What a signature of this kind of record begins with."""
    domain = DECLARED[kind].domain
    assert domain, f"{kind.__name__} has no signature domain"
    return domain


def kinds_on(stream: str, *senders: str) -> tuple[type[Any], ...]:
    """The messages that these senders may send on streams of this protocol, by type code."""
    found = [
        kind
        for kind, one in DECLARED.items()
        if one.stream == stream and one.sender in (*senders, BOTH)
    ]
    return tuple(sorted(found, key=lambda kind: DECLARED[kind].code))
