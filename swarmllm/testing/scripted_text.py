"""The Text port over 512 made-up tokens, to go with `ScriptedModel`: every byte is a token, the
rest are short words and marks.

Small enough to be read in a test's output, and awkward where real vocabularies are: characters of
several tokens, special tokens without text, and words that begin with a space.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import trio

from swarmllm.adapters.chat.prompt import ChatPrompter
from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.vocabulary import Span, Vocabulary, ends_of

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
    """`runtime.ports.Text`. The fingerprint is that of `ScriptedModel`.

    `<bos>` and `<eos>` are how its two control tokens are spelled.
    """

    def __init__(
        self,
        stop_tokens: frozenset[int] = frozenset({EOS}),
        *,
        add_bos: bool = True,
        chat_template: str = "",
    ) -> None:
        """Scripted models know no end of text; without stop tokens every answer has its full
        length. Conversations are written as `chat_template` says, else with role labels."""
        pieces = [bytes([i]) if i < 256 else WORDS.get(i, b"") for i in range(SIZE)]
        self.vocabulary = Vocabulary(
            fingerprint=bytes(32),
            bos=BOS,
            add_bos=add_bos,
            eog=stop_tokens,
            pieces=b"".join(pieces),
            ends=ends_of(pieces),
            bos_text="<bos>",
            eos_text="<eos>",
            chat_template=chat_template,
            source="the scripted vocabulary",
        )

    async def ready(self) -> Vocabulary:
        await trio.lowlevel.checkpoint()
        return self.vocabulary

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> ChatPrompt:
        await trio.lowlevel.checkpoint()
        return ChatPrompter(self.vocabulary, _ids_of, {BOS: "<bos>", EOS: "<eos>"}).prompt(messages)

    async def encode(self, text: str | Sequence[Span], *, add_bos: bool = False) -> list[int]:
        await trio.lowlevel.checkpoint()
        spans = [Span(text)] if isinstance(text, str) else text
        ids = _ids_of(spans)
        return self.vocabulary.begin(ids) if add_bos else ids


def _ids_of(spans: Sequence[Span]) -> list[int]:
    return [token for span in spans for token in _encoded(span)]


def _encoded(span: Span) -> list[int]:
    if not span.parse_special:
        return list(span.text.encode())
    marks = {"<bos>": [BOS], "<eos>": [EOS]}
    parts = re.split("(<bos>|<eos>)", span.text)
    return [token for part in parts for token in marks.get(part) or part.encode()]
