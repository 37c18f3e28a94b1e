"""What names and addresses in records are made of: ASCII characters from a list of our own.

Records travel from peer to peer and their texts are shown to people. What Unicode, Python or a
terminal calls printable changes with their versions, and peers must agree on what a record may
hold; so the characters are listed here, once and for ever.
"""

from __future__ import annotations

import re
from typing import Final

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
NAME_CHARACTERS: Final = _LETTERS + " ._-+:/(),@"
"""Of model names and domains. Nothing that a shell, a markup language or a terminal gives a meaning
to."""
ADDRESS_CHARACTERS: Final = _LETTERS + "/.:-_"
"""Of multiaddrs: protocol names, host names, IPv4 and IPv6 addresses, ports, peer ids."""

_NAME: Final = re.compile(f"[{re.escape(NAME_CHARACTERS)}]+")
_ADDRESS: Final = re.compile(f"/[{re.escape(ADDRESS_CHARACTERS)}]+")
_NOT_IN_NAMES: Final = re.compile(f"[^{re.escape(NAME_CHARACTERS)}]")
_LETTER: Final = re.compile("[A-Za-z0-9]")


def is_name(text: str) -> bool:
    """Whether a model or a domain may be called so: one character at least, all of
    `NAME_CHARACTERS`, no space at either end."""
    return _NAME.fullmatch(text) is not None and text[0] != " " and text[-1] != " "


def is_address(text: str) -> bool:
    """Whether it could be a multiaddr by its characters; what it means is for `parse_addr` to
    say."""
    return _ADDRESS.fullmatch(text) is not None


def clip_name(text: str, size_max: int) -> str:
    """The beginning of `text` as a name of at most `size_max` bytes, with `_` for every character
    that names do not have.

    For what comes from files and configuration, such as a model's name. Empty where no letter or
    digit is left."""
    clipped = _NOT_IN_NAMES.sub("_", text.strip(" "))[:size_max].rstrip(" ")
    return clipped if _LETTER.search(clipped) else ""
