"""The text of one answer: the prompt and the tokens chosen so far, with the context hash of every
beginning.

The requester owns the text; what an expert holds is a cache of a beginning of it, named by length
and hash.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmllm.wire import context


class Text:
    """Grows by one token or several. `index` counts the tokens that were chosen.

    While a draft is verified its tokens, the *guesses*, stand behind it and count as text for all
    who ask; then all of them are taken back, and what was accepted is appended.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.tokens = list(prompt)
        self._prompt = len(prompt)
        self._digests = context.digests(prompt)
        self._guesses = 0

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

    @property
    def guesses(self) -> tuple[int, ...]:
        return tuple(self.tokens[len(self.tokens) - self._guesses :])

    def append(self, *tokens: int) -> None:
        """What has been decided. There must be no guesses."""
        assert not self._guesses, f"{self._guesses} guesses stand behind the text"
        self._extend(tokens)

    def guess(self, *tokens: int) -> None:
        """What is likely to come, to be asked about together."""
        self._extend(tokens)
        self._guesses += len(tokens)

    def take_back(self) -> tuple[int, ...]:
        """The guesses, which are gone then."""
        taken, kept = self.guesses, len(self.tokens) - self._guesses
        del self.tokens[kept:], self._digests[kept + 1 :]
        self._guesses = 0
        return taken

    def _extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.tokens.append(token)
            self._digests.append(context.extend(self._digests[-1], token))
