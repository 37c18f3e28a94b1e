"""Text of strangers for people to read: what a terminal would obey, reorder or hide is written out,
as Python writes it in a literal.

Names of models, addresses, answers, errors that quote a peer's value: all of it may hold characters
that set a terminal's title, write its clipboard, clear it, show a word backwards, or show nothing
at all. `cli.output`, `cli.screen` and `runtime.logs` are the door through which such text goes out,
and this is what all three do to it.

The characters are a list of our own. `str.isprintable` and `unicodedata` would answer differently
on other versions of Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

RANGES: Final = (
    (0x00, 0x1F),  # C0: escape, backspace, bell, carriage return
    (0x7F, 0x9F),  # DEL and C1: CSI, OSC and DCS in one character
    (0xAD, 0xAD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers: letters without a shape
    (0x17B4, 0x17B5),  # Khmer vowels without a shape
    (0x180B, 0x180F),  # Mongolian selectors and separator
    (0x200B, 0x200F),  # zero-width space and joiners, left-to-right and right-to-left mark
    (0x2028, 0x202E),  # line and paragraph separator, embeddings and overrides of direction
    (0x2060, 0x206F),  # word joiner, invisible operators, isolates
    (0x3164, 0x3164),  # Hangul filler
    # lone surrogates: bytes of file names that are no UTF-8, halves of JSON escapes
    (0xD800, 0xDFFF),
    (0xFDD0, 0xFDEF),  # no characters
    (0xFE00, 0xFE0D),  # variation selectors; the two that emoji take, FE0E and FE0F, stay
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # half-width Hangul filler
    (0xFFF0, 0xFFFB),  # interlinear annotations
    (0xFFFE, 0xFFFF),  # no characters
    (0x13430, 0x1343F),  # Egyptian format controls
    (0x1BCA0, 0x1BCA3),  # shorthand format controls
    (0x1D173, 0x1D17A),  # musical format controls
    (0xE0000, 0xE0FFF),  # tags and variation selectors: whole sentences that nobody sees
)
_STAY: Final = "\n\t"  # In text of several lines.


def _class_of(ranges: tuple[tuple[int, int], ...], but: str = "") -> str:
    """The inside of a regular expression's brackets."""
    kept = [ord(char) for char in but]
    parts = []
    for first, last in ranges:
        at = first
        for stays in sorted(code for code in kept if first <= code <= last):
            parts.append((at, stays - 1))
            at = stays + 1
        parts.append((at, last))
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in parts if first <= last)


# Kept, for `json.dumps` makes another one for each value.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ANY: Final = re.compile(f"[{_class_of(RANGES)}]")
_BUT_LINES: Final = re.compile(f"[{_class_of(RANGES, _STAY)}]")


def one_line(text: object) -> str:
    """For a place of one line: line breaks and tabs are written out, too. Anything but a string is
    shown as `str` shows it."""
    return _ANY.sub(_written, str(text))


def flowing(text: object) -> str:
    """For text of any number of lines, such as an answer: line feeds and tabs stay as they are."""
    return _BUT_LINES.sub(_written, str(text))


def runs(text: str, *, flows: bool) -> Iterator[tuple[str, bool]]:
    """The same in pieces, each with whether it is a character written out, so that those can be
    shown fainter."""
    at = 0
    for found in (_BUT_LINES if flows else _ANY).finditer(text):
        if found.start() > at:
            yield text[at : found.start()], False
        yield _written(found), True
        at = found.end()
    if at < len(text):
        yield text[at:], False


def json_of(value: object) -> str:
    """JSON on one line. Parsed, it is `value` exactly; as it stands, it can be shown anywhere: the
    same characters are JSON escapes."""
    return _ANY.sub(_in_json, _ENCODER.encode(value))


def _written(found: re.Match[str]) -> str:
    char = found[0]
    code = ord(char)
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    return (
        f"\\x{code:02x}"
        if code <= 0xFF
        else f"\\u{code:04x}"
        if code <= 0xFFFF
        else f"\\U{code:08x}"
    )


def _in_json(found: re.Match[str]) -> str:
    """In a JSON text such characters stand only in strings, and C0 among them is escaped
    already."""
    code = ord(found[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
