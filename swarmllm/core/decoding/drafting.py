"""The drafts of one answer: guesses that stand behind the text while a round asks about them.

Our own expert drafts token by token: each of its lists is an answer to the round as well as a step
of the draft, so at the end there is one list more than there are tokens, and it need not be asked
again. A look-up is there at once. A remote expert answers a round and goes on by itself in the same
breath (`ScoreDraft`): if what it says comes true to the end of the round, the tokens behind it are
the next draft. `core.decoding.speculation` says whether a draft pays, and how long it should be.

Laws: while a draft is made nobody else is asked; whatever becomes of the drafter, the round begins
with what there is of the draft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmllm.core.decoding.consent import alone, written_of
from swarmllm.core.decoding.guide import Guide
from swarmllm.core.decoding.members import Ask, Members, Question
from swarmllm.core.decoding.round import CAUGHT_UP, Experts, Reply, Round
from swarmllm.core.decoding.sampling import draw, numbers
from swarmllm.core.decoding.speculation import DRAFT_MAX, Drafter, LookUp, Speculation
from swarmllm.core.decoding.writing import Writing
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import Candidate
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.messages import STEPS_MAX, PeerId
from swarmllm.wire.sparse import SparseList, likeliest_id

# Beyond this a step of our own expert is not waited for.
STEP_MAX_S: Final = 0.5


@dataclass(slots=True)
class _Own:
    """A draft that our own expert is making in round `number`. `expected` tokens of it are
    accepted, on average; `reached` is the probability that all are."""

    drafter: Candidate
    number: int
    guide: Guide
    room: int
    began_at: float
    until: float
    lists: list[SparseList] = field(default_factory=list)
    expected: float = 0.0
    reached: float = 1.0


class Drafting:
    """`drafted` and `accepted` count the tokens of all rounds."""

    def __init__(
        self, order: GenerateRequest, writing: Writing, members: Members, known: Speculation
    ) -> None:
        self._order = order
        self._writing, self._text = writing, writing.text
        self._members = members
        self._known = known
        self._look_up = LookUp()
        self._own: _Own | None = None
        # Of the round under way: who made its draft, and what each of its tokens is measured by.
        self._drafter: Drafter | None = None
        self._measures: list[float] = []
        # The remote expert that drafts, and its tokens behind the text, with what it gave to each.
        self._leader: PeerId | None = None
        self._ahead: list[tuple[int, float]] = []
        # Of the round under way: how many tokens it goes on behind it, and how long that takes.
        self._steps, self._steps_s = 0, 0.0
        self.drafted = self.accepted = 0

    # --- how it stands --------------------------------------------------------------------------

    @property
    def until(self) -> float | None:
        """How long our own expert's next step is waited for; None: it makes no draft now."""
        return None if self._own is None else self._own.until

    @property
    def is_stuck(self) -> bool:
        """Whether the drafter will not answer."""
        return self._own is not None and not self._members.question_of(self._own.drafter.peer)

    def is_step(self, question: Question) -> bool:
        """Whether this is a question of the draft."""
        return self._own is not None and question.round == self._own.number

    # --- making a draft -------------------------------------------------------------------------

    def begin(self, pool: ExpertPool, current: Round) -> list[Ask]:
        """Begin a draft for this round, if one pays. Our own expert's first step; nothing where it
        makes none, and then the guesses are there, if there are any."""
        self._drafter, self._measures = None, []
        self._steps, self._steps_s = 0, 0.0
        room = self._room()
        if room <= 0:
            return []
        looked, measures, gain = self._looked_up(room)
        own = self._own_drafter(pool, current) if self._known.may_begin("local") else None
        if own is not None and self._known.gain("local", *self._known.usual("local")) >= gain:
            guide = self._writing.guide.fork()
            self._own = _Own(own, current.number, guide, room, pool.now, pool.now)
            self._drafter = "local"
            self._members.begin_round()
            return self._step(pool, self._own)
        if own is None and self._order.speculation in {"auto", "remote"}:
            remote = self._from_remote(room)
            if len(remote) > len(looked):
                self._drafter, self._measures = "remote", [measure for _, measure in remote]
                self._text.guess(*(token for token, _ in remote))
                looked = ()
            self._go_ahead(pool, room - len(self._text.guesses) - 1)
        if looked:
            self._drafter, self._measures = "lookup", measures
            self._text.guess(*looked)
        return []

    def answered(
        self, pool: ExpertPool, question: Question, lists: Sequence[SparseList], took_s: float
    ) -> list[Ask]:
        """Our own expert's answer; its next step, or nothing if the draft is at its end."""
        own = self._own
        assert own is not None
        if not lists:
            return self._step(pool, own)
        if question.upto - question.base == 1:
            self._known.stepped("local", took_s)
        own.lists.append(lists[0])
        token = self._token(own, lists[0])
        if token is None:
            return []
        self._text.guess(token)
        return self._step(pool, own)

    def round(self, current: Round, experts: Experts, now: float) -> Round:
        """The round of the draft as it is, in place of `current`; no draft is made from now on."""
        own, self._own = self._own, None
        upto, guesses = len(self._text), len(self._text.guesses)
        positions = range(upto - guesses - 1, upto)
        made = Round(current.number, positions, self._order, experts, now)
        if self._steps:
            made.drafter, made.steps = self._leader, self._steps
            made.steps_s = self._steps_s
        if own is not None:
            made.asked_at = own.began_at
            if len(own.lists) == len(positions):
                made.poll.answered_by_own(
                    own.drafter, Reply(tuple(own.lists), 0, now - own.began_at)
                )
        return made

    def _step(self, pool: ExpertPool, own: _Own) -> list[Ask]:
        """Ask what comes behind the draft so far."""
        own.until = pool.now + STEP_MAX_S
        drafter, last = own.drafter, self._text.last
        return self._members.ask(drafter.peer, drafter.record, own.number, last, pool)

    def _token(self, own: _Own, found: SparseList) -> int | None:
        """The next token of the draft, by our own expert's list of it; None at the draft's end."""
        guide, order, text = own.guide, self._order, self._text.tokens
        if len(self._measures) >= own.room or guide.is_done() or guide.forced():
            return None
        try:
            pooled = alone(found, order, guide.allowed())
        except LocalError:
            return None  # Whoever decides about the text will find the same, and say so.
        if pooled is None:
            return None
        rng = numbers(order.sampling.seed, self._text.index)
        token, logprob = draw(pooled, order.sampling, rng, text, written_of(order, text))
        measure = math.exp(logprob)
        reached, count = own.reached * self._known.odds("local", measure), len(self._measures) + 1
        is_worth = self._known.is_worth("local", reached, count, own.expected)
        if token in order.stop_tokens or not is_worth:
            return None
        try:
            guide.took(token)
        except LocalError:
            return None
        own.reached, own.expected = reached, own.expected + reached
        self._measures.append(measure)
        return token

    def _room(self) -> int:
        """How many tokens a draft may have."""
        order = self._order
        # What becomes of others changes nothing of a subset's answers (`core.agent.subsets`), and
        # what is known of drafts depends on all.
        is_apart = order.only.among is not None
        if order.speculation == "off" or order.quality < 1 or is_apart:
            return 0
        left = order.max_tokens - self._text.index - 1
        return min(left, DRAFT_MAX, self._members.room(len(self._text)) - 1)

    def _looked_up(self, room: int) -> tuple[tuple[int, ...], list[float], float]:
        """A draft of what followed the same words before, what its tokens are measured by, and the
        tokens a second that may come of it; none where it does not pay."""
        order, known = self._order, self._known
        if order.speculation in {"local", "remote"} or order.grammar is not None:
            return (), [], 0.0
        looked, matched = self._look_up.find(self._text.tokens, room)
        share, expected, reached, count = known.odds("lookup", matched), 0.0, 1.0, 0
        for token in looked:
            reached *= share
            is_worth = known.is_worth("lookup", reached, count + 1, expected)
            if token in order.stop_tokens or not is_worth:
                break
            expected, count = expected + reached, count + 1
        gain = known.gain("lookup", expected, count) if count else 0.0
        return looked[:count], [float(matched)] * count, gain

    def _go_ahead(self, pool: ExpertPool, room: int) -> None:
        """How far the remote expert goes on behind this round."""
        if self._leader is None or self._leader not in self._members:
            return
        step_s = pool.step_s(self._members.record_of(self._leader))
        steps, seconds = self._known.ahead(len(self._text.guesses), step_s)
        self._steps, self._steps_s = max(0, min(steps, room, STEPS_MAX)), seconds

    def _from_remote(self, room: int) -> list[tuple[int, float]]:
        """What a remote expert has drafted behind the text, as far as it pays."""
        found: list[tuple[int, float]] = []
        expected, reached = 0.0, 1.0
        guide = self._writing.guide.fork()
        for token, measure in self._ahead[:room]:
            reached *= self._known.odds("remote", measure)
            is_worth = self._known.is_worth("remote", reached, len(found) + 1, expected)
            if token in self._order.stop_tokens or not is_worth or not _takes(guide, token):
                break
            expected += reached
            found.append((token, measure))
        return found

    def _own_drafter(self, pool: ExpertPool, current: Round) -> Candidate | None:
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

    # --- what came of it ------------------------------------------------------------------------

    def replied(self, question: Question, size_bytes: int, lists: int, took_s: float) -> None:
        """An expert has answered a round's question with so many lists."""
        if lists and size_bytes:
            self._known.listed(size_bytes, lists)
        elif lists and question.upto - question.base == 1:
            self._known.stepped("local", took_s)

    def look_ahead(self, current: Round, leader: PeerId | None, last: int | None) -> None:
        """The round is over, of whose experts `leader` weighs most. `last`: the token behind all of
        its positions; None: the text has left the draft before. What its drafter has written behind
        that is the next draft."""
        self._leader, self._ahead = leader, []
        reply = current.poll.replies.get(current.drafter) if current.drafter is not None else None
        if reply is None:
            return
        others = [r.rtt_s for p, r in current.poll.replies.items() if p != current.drafter]
        if others:
            self._known.stepped("remote", (reply.rtt_s - max(others)) / current.steps)
        behind = reply.lists[len(current.positions) - 1 :]
        chain = [(likeliest_id(one), math.exp(float(one.logprobs.max()))) for one in behind]
        if last is None:
            self._known.tried("remote")
            return
        is_right = chain[0][0] == last
        self._known.verified("remote", [chain[0][1]], int(is_right), is_cut=False)
        if is_right:
            self._ahead = chain[1:]

    def finished(
        self, current: Round, now: float, tokens: int, drafted: int, accepted: int, *, is_cut: bool
    ) -> None:
        """The round has brought `tokens`: `accepted` of the `drafted`, and others. `is_cut`: for
        another reason than a token that was not accepted."""
        if current.is_first or current.allowed is not None or not tokens:
            return
        if self._drafter is not None:
            measures = self._measures[:drafted]
            self._known.verified(self._drafter, measures, accepted, is_cut=is_cut)
        self.drafted += drafted
        self.accepted += accepted
        began_at = current.clock.started_at
        draft_s = began_at - current.asked_at
        self._known.finished(tokens, drafted, now - began_at, draft_s, self._drafter)


def _takes(guide: Guide, token: int) -> bool:
    try:
        return guide.takes(token)
    except LocalError:
        return False  # Whoever decides about the text will find the same, and say so.
