"""Our own expert's draft: the lists of an engine on this machine, one after the other, with the
token that is drawn from each of them.

Each list is an answer to the round as well as a step of the draft: at its end there is one list
more than there are tokens, and our own expert need not be asked again. While the others are asked
it goes ahead, as if all of the draft came true; if that does, and the token behind it, the rest of
its chain of lists is the beginning of the next draft, and takes no time.

There is no second chain, for the case that a token is rejected: it would be of use only where both
the place of the first rejection and the token drawn there were foreseen. By an estimate the two
likeliest guesses are right in one of three rejections, which is worth 2 % of a round of 300 ms.

Laws: at most one step is open at a time; a round waits for the step of a chain that has not come
true, for without it nobody would draft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.decoding.consent import alone, written_of
from swarmllm.core.decoding.guide import Guide
from swarmllm.core.decoding.members import Ask, Members, Question
from swarmllm.core.decoding.round import CAUGHT_UP, Reply, Round
from swarmllm.core.decoding.sampling import draw, numbers
from swarmllm.core.decoding.speculation import DRAFT_MAX, Speculation
from swarmllm.core.decoding.writing import Writing
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import Candidate
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.wire.sparse import SparseList

# Beyond this a step of our own expert is not waited for.
STEP_MAX_S: Final = 0.5


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


class OwnDraft:
    """`measures`: what our own expert gives to each token of the draft under way. `has_tried`: it
    has made one for this round."""

    def __init__(
        self, order: GenerateRequest, writing: Writing, members: Members, known: Speculation
    ) -> None:
        self._order, self._writing, self._text = order, writing, writing.text
        self._members, self._known = members, known
        self._chain: Chain | None = None
        self._asked_at = 0.0  # When the others were asked about the last draft.
        self.until: float | None = None
        self.measures: list[float] = []
        self.has_tried = False

    # --- how it stands --------------------------------------------------------------------------

    @property
    def is_stuck(self) -> bool:
        """Whether a step is waited for that will not be answered."""
        return self.until is not None and not self._is_asked(self._chain)

    def is_step(self, question: Question) -> bool:
        """Whether this question to our own expert is one of its chain."""
        return self._chain is not None and question.round == self._chain.asked_in

    def _is_asked(self, chain: Chain | None) -> bool:
        return chain is not None and self._members.question_of(chain.drafter.peer) is not None

    def candidate(self, pool: ExpertPool, current: Round) -> Candidate | None:
        """Our own expert, if it can go on at once."""
        if self._order.speculation in {"lookup", "remote"}:
            return None
        return next(
            (
                c
                for c in current.free(pool)
                if pool.is_local(c.peer) and c.member and c.missing <= CAUGHT_UP
            ),
            None,
        )

    # --- making a draft -------------------------------------------------------------------------

    def resume(self, pool: ExpertPool, number: int, room: int) -> list[Ask] | None:
        """Round `number` begins: what has come true is the beginning of its draft, and what has not
        is waited for; None: there is neither."""
        self.measures, self.has_tried = [], False
        chain = self._chain
        if chain is None:
            return None
        if not self._is_asked(chain):
            chain.asked_in = None
        if chain.is_alive and (chain.links or chain.asked_in is not None):
            return self._draft(pool, chain, number, room)
        if chain.asked_in is None:
            self._chain = None
            return None
        self.until = pool.now + STEP_MAX_S
        return []

    def begin(self, pool: ExpertPool, drafter: Candidate, number: int, room: int) -> list[Ask]:
        """A new draft for round `number`, of at most `room` tokens: its first step."""
        self._chain, self.has_tried = Chain(drafter, self._writing.guide.fork()), True
        return self._draft(pool, self._chain, number, room)

    def answered(
        self, pool: ExpertPool, question: Question, lists: Sequence[SparseList], took_s: float
    ) -> list[Ask] | None:
        """Our own expert's answer: its next step, or nothing if the draft is at its end. None: it
        has nothing to do with the text any more, and now another draft can begin."""
        chain = self._chain
        assert chain is not None
        chain.asked_in = None
        if lists and question.upto - question.base == 1:
            self._known.stepped("local", took_s)
        if not chain.is_alive:
            self._chain = self.until = None
            return None
        if lists:  # Else it has taken in a piece of the text.
            chain.links.append(self._link(chain, lists[0]))
        return self.go_ahead(pool) if self.until is None else self._go_on(pool, chain)

    def go_ahead(self, pool: ExpertPool) -> list[Ask]:
        """Our own expert's next step behind the draft that the others are asked about; nothing
        where it has made none, or will hardly be right that far."""
        chain = self._chain
        if chain is None or not chain.is_alive or chain.asked_in is not None:
            return []
        while (found := chain.next) is not None and len(chain.links) < chain.length_max:
            token, measure = found
            reached = chain.reached * self._known.odds("local", measure)
            if not self._known.may_go_ahead(reached, pool.now - self._asked_at):
                break
            self._guess(chain, token, reached)
            if chain.is_at_end:
                return self._step(pool, chain, chain.number + 1)
        return []

    def _draft(self, pool: ExpertPool, chain: Chain, number: int, room: int) -> list[Ask]:
        self._members.begin_round()
        chain.begin(number, room, self._length_max(room))
        return self._go_on(pool, chain)

    def _go_on(self, pool: ExpertPool, chain: Chain) -> list[Ask]:
        """The draft's next step; at its end there is nothing to wait for any more."""
        while (found := chain.next) is not None and chain.guessed < chain.room:
            token, measure = found
            reached, count = chain.reached * self._known.odds("local", measure), chain.guessed + 1
            is_made = count < len(chain.links)
            if not self._known.is_worth("local", reached, count, chain.expected, is_made=is_made):
                break
            self._guess(chain, token, reached)
            self.has_tried = True
            self.measures.append(measure)
        if chain.is_at_end:
            self.until = pool.now + STEP_MAX_S
            return [] if chain.asked_in is not None else self._step(pool, chain, chain.number)
        self.until = None
        return []

    def _guess(self, chain: Chain, token: int, reached: float) -> None:
        self._text.guess(token)
        chain.guessed += 1
        chain.reached, chain.expected = reached, chain.expected + reached

    def _step(self, pool: ExpertPool, chain: Chain, number: int) -> list[Ask]:
        """Ask what comes behind the guesses so far."""
        drafter, chain.asked_in = chain.drafter, number
        return self._members.ask(drafter.peer, drafter.record, number, self._text.last, pool)

    def _link(self, chain: Chain, found: SparseList) -> Link:
        """Our own expert's list of what comes behind the guesses, and the token that it draws."""
        guide, order, text = chain.guide, self._order, self._text.tokens
        if guide.is_done() or guide.forced():
            return Link(found, None)
        try:
            pooled = alone(found, order, guide.allowed())
            if pooled is None:
                return Link(found, None)
            rng = numbers(order.sampling.seed, self._text.index)
            token, logprob = draw(pooled, order.sampling, rng, text, written_of(order, text))
            if token in order.stop_tokens:
                return Link(found, None)
            guide.took(token)
        except LocalError:
            return Link(found, None)  # Whoever decides about the text will find it, and say so.
        return Link(found, token, math.exp(logprob))

    def _length_max(self, room: int) -> int:
        """How many lists a chain may have. With a grammar it ends with the draft: there a round can
        have a second one, in which our own expert must have a part at once."""
        if self._order.grammar is not None:
            return 0
        left = self._order.max_tokens - self._text.index
        return min(left, room + DRAFT_MAX, self._members.room(len(self._text)))

    # --- what becomes of it ---------------------------------------------------------------------

    def tell(self, made: Round, now: float) -> None:
        """The round of the draft begins, with what our own expert says of its positions."""
        chain, self.until, self._asked_at = self._chain, None, now
        lists = chain.lists(len(made.positions)) if chain is not None and chain.is_alive else ()
        if chain is not None and len(lists) == len(made.positions):
            made.poll.answered_by_own(chain.drafter, Reply(lists, 0, now - made.asked_at))
        else:  # There is none, or it has not answered in time.
            self._chain = None

    def decided(self, tokens: Sequence[int], *, is_over: bool) -> bool:
        """The text goes on with `tokens`. Whether all that our own expert has made of it stands.
        `is_over`: the text has gone on by itself behind them, or is at its end."""
        chain = self._chain
        if chain is None:
            return False
        chain.verdict(tokens)
        chain.is_alive = chain.is_alive and not is_over
        return chain.is_alive
