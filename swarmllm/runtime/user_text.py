"""Texts as people type them: Unicode, whatever the locale took them for."""

from __future__ import annotations

import os

from swarmllm.errors import UsageError


def check_text(text: str, what: str) -> str:
    """The same text. UsageError if it holds half of a surrogate pair, by which Python writes a byte
    that is not text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        found = (
            f"the byte 0x{half - 0xDC00:02x}"
            if 0xDC80 <= half <= 0xDCFF
            else f"U+{half:04X}, half a character"
        )
        raise UsageError(
            f"{what} is not valid UTF-8: {found} stands at position {error.start};"
            " convert it to UTF-8 first"
        ) from error
    return text


def typed_text(word: str, what: str) -> str:
    """The text of an argument of the command line. Where the locale is not UTF-8's, Python may have
    taken its bytes for something else. UsageError if its bytes are not UTF-8."""
    if word.isascii():
        return word
    try:
        word.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(word).decode()
        except UnicodeError:
            return check_text(word, what)
    return word
