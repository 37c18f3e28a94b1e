"""Armour: the text form in which signed records are mailed and carried by hand, as in PGP's ASCII
armour: an edge, readable lines, an empty line, the record in base64, and the other edge."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

_LINE_CHARS: Final = 64


def armoured(begin: str, lines: Iterable[tuple[str, str]], data: bytes, end: str) -> str:
    """The text of one block, with its last line end. `lines` are names and values."""
    text = base64.b64encode(data).decode()
    block = [
        begin,
        *(f"{name}: {value}" for name, value in lines),
        "",
        *(text[at : at + _LINE_CHARS] for at in range(0, len(text), _LINE_CHARS)),
        end,
    ]
    return "\n".join(block) + "\n"
