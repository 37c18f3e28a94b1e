"""Numbers in sentences for people."""

from __future__ import annotations


def several(count: int, one: str, more: str = "") -> str:
    """`count` and the word for so many of them; `more` is `one` with an s where it is not given."""
    return f"{count} {one if count == 1 else more or one + 's'}"
