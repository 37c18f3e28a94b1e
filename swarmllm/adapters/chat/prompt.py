"""A conversation becomes token ids: the chat template writes it, the tokenizer encodes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from swarmllm.adapters.chat.template import ChatTemplate, token_ranges
from swarmllm.core.chat import ChatMessage, ChatPrompt
from swarmllm.core.thinking import Thinking, marks_of
from swarmllm.core.vocabulary import Span, Vocabulary


class ChatPrompter:
    """Of one model: its template over its tokenizer (`encode`, without BOS)."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        encode: Callable[[Sequence[Span]], list[int]],
        special_names: Mapping[int, str],
    ) -> None:
        """`special_names`: how each control token is spelled. LocalError for a template that cannot
        be read."""
        self._vocabulary = vocabulary
        self._encode = encode
        self._special_names = special_names
        self._template = ChatTemplate(
            vocabulary.chat_template,
            tuple(special_names.values()),
            bos_text=vocabulary.bos_text,
            eos_text=vocabulary.eos_text,
        )
        self._end_tokens = self._end_of_turn()
        self._marks = marks_of(vocabulary.chat_template, special_names.values())

    def prompt(self, messages: Sequence[ChatMessage]) -> ChatPrompt:
        """UsageError, LocalError: see `ChatTemplate.render`. BOS stands in front exactly once,
        whether the template writes it or not."""
        rendered = self._template.render(messages)
        ids = self._encode(rendered.spans)
        sizes = [self._size(token) for token in ids]
        own = token_ranges(rendered.own, rendered.text, sizes)
        begun = self._vocabulary.begin(ids)
        shift = len(begun) - len(ids)
        shifted = tuple((start + shift, end + shift) for start, end in own)
        thinking = self._thinking(rendered.spans[-1] if rendered.spans else Span(""))
        return ChatPrompt(tuple(begun), shifted, self._end_tokens, rendered.stop, thinking)

    def _thinking(self, last: Span) -> Thinking | None:
        if self._marks is None:
            return None
        opening, closing = self._marks
        tokens = ((id, name) for id, name in self._special_names.items() if name in self._marks)
        is_open = last.parse_special and last.text.rstrip().endswith(opening)
        return Thinking(opening, closing, is_open, tuple(sorted(tokens)))

    def _size(self, token: int) -> int:
        """Bytes of the rendered text that it stands for."""
        name = self._special_names.get(token)
        return len(self._vocabulary.piece(token) if name is None else name.encode())

    def _end_of_turn(self) -> frozenset[int]:
        """The control token that the template writes behind an assistant's message."""
        written = self._template.turn_end()
        ids = self._encode([Span(written, parse_special=True)]) if written else []
        return frozenset(ids[:1]) if ids and ids[0] in self._special_names else frozenset()
