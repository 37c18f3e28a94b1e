"""Text to ids by the `tokenizers` library, for LLaMA-3's byte-level BPE where there is no model
file, and so no llama.cpp to ask.

Control tokens are unknown to the tokenizer underneath: text that spells one out stays text, except
in spans that may write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Final

import trio
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from swarmllm.adapters.chat.prompt import ChatPrompter
from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.vocabulary import Span, Vocabulary, check_text

# Encoding goes at 1 MB/s: beyond this, everything else in the event loop would feel it.
LONG_TEXT_CHARS: Final = 4096


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: printable bytes are themselves, the others are
    moved up to U+0100 and on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(moved)) for b in range(256)]


ALPHABET = byte_alphabet()


def shown(token: bytes) -> str:
    """How GGUF files and `tokenizers` spell a token."""
    return "".join([ALPHABET[b] for b in token])


def build_tokenizer(
    vocab: dict[str, int], merges: list[tuple[str, str]], pattern: str
) -> Tokenizer:
    """`pattern` splits the text into words; one that is a token is taken as it is."""
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


class BpeText:
    """The `Text` port for a byte-level BPE whose tables are at hand without a model file."""

    def __init__(self, tokenizer: Tokenizer, special: Mapping[str, int], vocabulary: Vocabulary):
        """`special` are the names of control tokens with their ids."""
        self._tokenizer = tokenizer
        self._special = special
        # The longest first, as in llama.cpp.
        names = sorted(special, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)))
        self.vocabulary = vocabulary

    async def ready(self) -> Vocabulary:
        await trio.lowlevel.checkpoint()
        return self.vocabulary

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> ChatPrompt:
        # The template is one of ours: without a model file there is no stranger's.
        return await trio.to_thread.run_sync(self._prompter.prompt, messages)

    @cached_property
    def _prompter(self) -> ChatPrompter:
        names = {token: name for name, token in self._special.items()}
        return ChatPrompter(self.vocabulary, self.tokenize, names)

    async def encode(self, text: str | Sequence[Span], *, add_bos: bool = False) -> list[int]:
        spans = [Span(text)] if isinstance(text, str) else text
        if sum(len(span.text) for span in spans) > LONG_TEXT_CHARS:
            ids = await trio.to_thread.run_sync(self.tokenize, spans)
        else:
            await trio.lowlevel.checkpoint()
            ids = self.tokenize(spans)
        return self.vocabulary.begin(ids) if add_bos else ids

    def tokenize(self, text: str | Sequence[Span]) -> list[int]:
        """The same at once, without BOS."""
        spans = [Span(text)] if isinstance(text, str) else text
        ids: list[int] = []
        plain = ""
        for span in joined(spans):
            check_text(span.text)
            cut = self._names.split(span.text) if span.parse_special else [span.text]
            names = self._names.findall(span.text) if span.parse_special else []
            plain += cut[0]
            for name, after in zip(names, cut[1:], strict=True):
                ids += self._plain(plain)
                ids.append(self._special[name])
                plain = after
        return ids + self._plain(plain)

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Neighbours of one kind are one span: a control token may be spelled across their border."""
    for parse_special, group in groupby(spans, key=lambda span: span.parse_special):
        yield Span("".join(span.text for span in group), parse_special)
