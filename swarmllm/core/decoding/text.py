"""The text of one answer: the prompt and the tokens chosen so far, with the context hash of every
beginning.

The requester owns the text; what an expert holds is a cache of a beginning of it, named by length
and hash.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmllm.wire import context


class Text:
    """Grows by one token or several. `index` counts the tokens that were chosen."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self.tokens = list(prompt)
        self._prompt = len(prompt)
        self._digests = context.digests(prompt)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def index(self) -> int:
        return len(self.tokens) - self._prompt

    @property
    def last(self) -> range:
        """The position of its last token, behind which the next one is asked for."""
        return range(len(self.tokens) - 1, len(self.tokens))

    def digest(self, length: int) -> bytes:
        """The context hash of the first `length` tokens."""
        return self._digests[length]

    def piece(self, base: int, upto: int) -> tuple[int, ...]:
        """The tokens base..upto - 1."""
        return tuple(self.tokens[base:upto])

    def append(self, *tokens: int) -> None:
        """What a round has yielded: one token in strict mode."""
        for token in tokens:
            self.tokens.append(token)
            self._digests.append(context.extend(self._digests[-1], token))
