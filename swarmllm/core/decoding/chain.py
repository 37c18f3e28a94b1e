"""A chain is what our own expert makes of the text to come: list by list, each token drawn from the
list behind the token before it.

A beginning of it is the draft of a round. Behind that the expert goes on while the others are
asked; if the whole draft comes true, and the first token behind it, the rest is the beginning of
the next draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmllm.core.decoding.guide import Guide
from swarmllm.core.peers.router import Candidate
from swarmllm.wire.sparse import SparseList


@dataclass(frozen=True, slots=True)
class Link:
    """A list, the token that our own expert draws from it, and its probability there. No token: the
    chain cannot go on here."""

    list: SparseList
    token: int | None
    measure: float = 0.0


@dataclass(slots=True)
class Chain:
    """Of the tokens the first `guessed` stand behind the text. `expected` of them are accepted, on
    average, and `reached` is the probability that all are.

    `asked_in`: the round whose number the open question has, which is about the list behind the
    last link. `is_alive`: so far all of it has come true. A draft has at most `room` tokens, and a
    chain at most `length_max`.
    """

    drafter: Candidate
    guide: Guide
    links: list[Link] = field(default_factory=list)
    asked_in: int | None = None
    is_alive: bool = True
    number: int = 0
    room: int = 0
    length_max: int = 0
    guessed: int = 0
    reached: float = 1.0
    expected: float = 0.0

    def begin(self, number: int, room: int, length_max: int) -> None:
        """From here on it is the draft of round `number`, of which nothing is guessed yet."""
        self.number, self.room, self.length_max = number, room, length_max
        self.guessed, self.reached, self.expected = 0, 1.0, 0.0

    @property
    def next(self) -> tuple[int, float] | None:
        """The token behind the guesses, and its probability; None: it is not known, or there is
        none."""
        if self.is_at_end:
            return None
        link = self.links[self.guessed]
        return None if link.token is None else (link.token, link.measure)

    @property
    def is_at_end(self) -> bool:
        """Whether the list behind the last guess is not there yet."""
        return self.guessed >= len(self.links)

    def lists(self, count: int) -> tuple[SparseList, ...]:
        """The first lists, as many as are there."""
        return tuple(link.list for link in self.links[:count])

    def verdict(self, decided: Sequence[int]) -> None:
        """The text goes on with these tokens: what stands behind them, if they are what it said."""
        links = self.links
        said = [link.token for link in links[: len(decided)]]
        self.links = links[len(decided) :]
        is_longer = bool(self.links) or (self.asked_in is not None and len(said) == len(links))
        self.is_alive = said == [*decided] and is_longer
