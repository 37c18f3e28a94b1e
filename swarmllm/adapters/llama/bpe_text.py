"""Text to ids and back for byte-level BPE vocabularies, where every token is a string of bytes.

Special tokens are unknown to the tokenizer underneath: text that spells one out stays text, so no
prompt can forge the end of a turn. Decoding joins bytes and not strings, since one character may be
spread over several tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

from swarmllm.adapters.llama.fingerprint import NORMAL, USER_DEFINED
from swarmllm.errors import LocalError, UsageError


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: printable bytes are themselves, the others are
    moved up to U+0100 and on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(moved)) for b in range(256)]


ALPHABET = byte_alphabet()
# The others occur in no text.
UTF8_BYTES = frozenset(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}
BYTE_OF = {character: byte for byte, character in enumerate(ALPHABET)}


def shown(token: bytes) -> str:
    """How GGUF files and `tokenizers` spell a token."""
    return "".join([ALPHABET[b] for b in token])


def build_tokenizer(
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    patterns: Sequence[str],
    *,
    ignore_merges: bool,
    added: Iterable[str] = (),
) -> Tokenizer:
    """`patterns` split the text one after another; `ignore_merges` takes a word that is a token as
    it is (LLaMA-3's way).

    `added` are ordinary tokens that are cut out of the text before everything else (GGUF's
    user-defined ones).
    """
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=ignore_merges))
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in added])
    return tokenizer


class ByteStream:
    """Streaming decode: what comes out in pieces is what comes out at once."""

    def __init__(self, text: BpeText) -> None:
        self._text = text
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished, and for
        special tokens."""
        return self._utf8.decode(self._text.bytes_of(token))

    def finish(self) -> str:
        """U+FFFD if a character was left unfinished."""
        return self._utf8.decode(b"", final=True)


class BpeText:
    """The `Text` port for one vocabulary. `types` gives GGUF's type of each id from 0 on; only two
    of them have text.

    Some vocabularies lack tokens for a few bytes that hardly any text holds; what needs one of them
    cannot be encoded.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        types: bytes,
        *,
        fingerprint: bytes,
        bos: int,
        stop_tokens: frozenset[int],
        source: str,
        add_bos: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._types = types
        self._bytes: dict[int, bytes] = {}  # At most `size` entries: filled as ids are seen.
        self._missing = bytes(
            b for b in sorted(UTF8_BYTES) if tokenizer.token_to_id(ALPHABET[b]) is None
        )
        self.source = source
        self.fingerprint = fingerprint
        self.bos = bos
        self.add_bos = add_bos
        self.stop_tokens = stop_tokens

    def marked(
        self, *, bos: int, add_bos: bool, stop_tokens: frozenset[int], source: str
    ) -> BpeText:
        """The same vocabulary, whose texts begin and end as another file says."""
        return BpeText(
            self._tokenizer,
            self._types,
            fingerprint=self.fingerprint,
            bos=bos,
            stop_tokens=stop_tokens,
            source=source,
            add_bos=add_bos,
        )

    @property
    def size(self) -> int:
        return len(self._types)

    def encode(self, text: str) -> list[int]:
        """Ordinary text only. UsageError for half a surrogate pair, which no UTF-8 text can hold,
        and for a character that this vocabulary has no tokens for."""
        try:
            data = text.encode()
        except UnicodeEncodeError as e:
            raise UsageError(
                f"the text holds U+{ord(text[e.start]):04X} at position {e.start}, which is no character: give it as valid UTF-8"
            ) from e
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if (
            self._missing
            and data.translate(None, self._missing) != data
            and b"".join(map(self.bytes_of, ids)) != data
        ):
            raise self._unspelled(text)
        return ids

    def _unspelled(self, text: str) -> UsageError:
        for at, character in enumerate(text):
            if any(byte in self._missing for byte in character.encode()):
                return UsageError(
                    f"the text holds U+{ord(character):04X} at position {at}, for which {self.source} has no token: leave it out"
                )
        raise AssertionError("a text without a missing byte")

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token stands for; none for special tokens. LocalError for an id outside
        of the vocabulary."""
        found = self._bytes.get(token)
        if found is None:
            if not 0 <= token < len(self._types):
                raise LocalError(
                    f"token id {token} is outside of the {len(self._types):,} tokens of {self.source}"
                )
            found = self._bytes[token] = self._spell(token)
        return found

    def _spell(self, token: int) -> bytes:
        kind = self._types[token]
        if kind not in (NORMAL, USER_DEFINED):
            return b""
        text = str(self._tokenizer.id_to_token(token))
        if kind == USER_DEFINED or any(character not in BYTE_OF for character in text):
            return text.encode()  # Stored as plain text, and not in the printable alphabet.
        return bytes([BYTE_OF[character] for character in text])

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.bytes_of, ids)).decode(errors="replace")

    def decoder(self) -> ByteStream:
        return ByteStream(self)
