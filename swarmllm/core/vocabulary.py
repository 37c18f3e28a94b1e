"""The vocabulary as one value: the bytes of each token, the ids that begin and end a text, and the
chat template. Detokenisation needs nothing else.

Turning text into ids (tokenisation) is the work of the `Text` port, for only llama.cpp knows every
vocabulary; whoever implements it hands out this value once and then answers `encode`.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import VOCABULARY_MAX

PIECES_BYTES_MAX: Final = 64 << 20  # Of all tokens; the longest published vocabulary has 3 MB.
TEMPLATE_BYTES_MAX: Final = 1 << 16  # The longest published chat template has some 20 kB.


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text to encode. With `parse_special` the names of control tokens that it spells
    (`<|im_end|>`) become these tokens; without, they stay text: only a template may write them,
    never what a person or another program says."""

    text: str
    parse_special: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`bos` begins a text if `add_bos` says so (None: there is none); `eog` are all ids that end an
    answer; `bos_text` and `eos_text` are how templates spell those two tokens.

    `fingerprint` (32 bytes) is equal for models whose tokens mean the same, and `chat_digest` (8
    bytes) for those whose conversations are written alike; see protocols/identity.md. With
    `space_prefix` the tokenizer puts a space in front of a text (SentencePiece), which
    detokenisation takes away again. `pieces` are the bytes of all tokens, one behind another, and
    `ends[i]` is where those of token i end; control tokens have none.
    """

    fingerprint: bytes
    bos: int | None
    add_bos: bool
    eog: frozenset[int]
    pieces: bytes = field(repr=False)
    ends: array[int] = field(repr=False)
    chat_template: str = field(default="", repr=False)
    chat_digest: bytes = bytes(8)
    bos_text: str = ""
    eos_text: str = ""
    space_prefix: bool = False
    source: str = "the vocabulary"

    def __post_init__(self) -> None:
        assert 0 < len(self.ends) <= VOCABULARY_MAX, f"{len(self.ends)} tokens"
        assert len(self.pieces) == self.ends[-1] <= PIECES_BYTES_MAX, "pieces and ends disagree"
        assert len(self.chat_template.encode(errors="replace")) <= TEMPLATE_BYTES_MAX
        assert all(0 <= token < self.size for token in self.eog)

    @property
    def size(self) -> int:
        return len(self.ends)

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for control tokens. LocalError for an id outside
        of the vocabulary."""
        if not 0 <= token < len(self.ends):
            raise LocalError(
                f"token id {token} is outside of the {len(self.ends):,} tokens of {self.source}"
            )
        return self.pieces[self.ends[token - 1] if token else 0 : self.ends[token]]

    def begin(self, ids: Sequence[int]) -> list[int]:
        """The ids with BOS in front, where texts have one and it is not there yet."""
        if self.bos is None or not self.add_bos or (ids and ids[0] == self.bos):
            return [*ids]
        return [self.bos, *ids]

    def decode(self, ids: Iterable[int]) -> str:
        """A whole text. U+FFFD stands for bytes that are no UTF-8."""
        stream = self.decoder(at_start=True)
        return "".join([*map(stream.push, ids), stream.finish()])

    def decoder(self, *, at_start: bool = False) -> Detokenizer:
        """A stream of text. `at_start`: these tokens begin a text, and do not go on with one."""
        return Detokenizer(self, strip=at_start and self.space_prefix)


def check_text(text: str) -> None:
    """UsageError for half a surrogate pair, which no UTF-8 text can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise UsageError(
            f"the text holds U+{ord(text[e.start]):04X} at position {e.start},"
            " which is no character: give it as valid UTF-8"
        ) from e


def ends_of(pieces: Iterable[bytes]) -> array[int]:
    """Where each of them ends when they stand one behind another."""
    return array("I", accumulate(map(len, pieces)))


class Detokenizer:
    """Streaming detokenisation: tokens become text as soon as no later token can change it, so what
    comes out in pieces is what would come out at once."""

    def __init__(self, vocabulary: Vocabulary, *, strip: bool) -> None:
        self._vocabulary = vocabulary
        self._strip = strip
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished, and for
        control tokens."""
        piece = self._vocabulary.piece(token)
        if self._strip:
            piece = piece.removeprefix(b" ")
            self._strip = False
        return self._utf8.decode(piece)

    def finish(self) -> str:
        """U+FFFD if a character was left unfinished."""
        return self._utf8.decode(b"", final=True)
