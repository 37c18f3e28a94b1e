"""The Text port over 512 made-up tokens, to go with `ScriptedModel`: every byte is a token, the
rest are short words and marks.

Small enough to be read in a test's output, and awkward where real vocabularies are: characters of
several tokens, special tokens without text, and words that begin with a space.
"""

from __future__ import annotations

import codecs
from typing import Final

SIZE: Final = 512
BOS: Final = 510
EOS: Final = 511
_SYLLABLES: Final = [
    "ba",
    "be",
    "bi",
    "bo",
    "da",
    "de",
    "di",
    "do",
    "ka",
    "ke",
    "ki",
    "ko",
    "la",
    "le",
    "li",
    "lo",
]
WORDS: Final = {
    256 + i: (
        " " + _SYLLABLES[i // 16] + _SYLLABLES[i % 16] if i < 240 else _SYLLABLES[i - 240]
    ).encode()
    for i in range(254)
}


class ScriptedText:
    """`runtime.ports.Text`. The fingerprint is that of `ScriptedModel`."""

    fingerprint = bytes(32)
    size = SIZE
    bos = BOS
    add_bos = True

    def __init__(self, stop_tokens: frozenset[int] = frozenset({EOS})) -> None:
        """Scripted models know no end of text; without stop tokens every answer has its full
        length."""
        self.stop_tokens = stop_tokens

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decoder(self) -> ScriptedStream:
        return ScriptedStream()


class ScriptedStream:
    """`runtime.ports.TextStream`."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._utf8.decode(bytes([token]) if token < 256 else WORDS.get(token, b""))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)
