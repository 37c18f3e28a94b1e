"""The drafts of one answer: guesses that stand behind the text while a round asks about them.

Our own expert drafts token by token (`core.decoding.chain`): each of its lists is an answer to the
round as well as a step of the draft, so at the end there is one list more than there are tokens,
and it need not be asked again. While the others are asked it goes ahead, as if all of the draft
came true; if that does, and the token behind it, the next draft is there already. A look-up is
there at once. A remote expert answers a round and goes on by itself in the same
breath (`ScoreDraft`): if what it says comes true to the end of the round, the tokens behind it are
the next draft. `core.decoding.speculation` says whether a draft pays, and how long it should be.

Laws: while a draft is made nobody else is asked; whatever becomes of the drafter, the round begins
with what there is of the draft; a round waits for our own expert's step in a chain that
has not come true, for without it nobody would draft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from swarmllm.core.decoding.chain import Chain, Link
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
        # What our own expert makes of the text to come; kept as long as it comes true.
        self._chain: Chain | None = None
        # The round that a draft is made for, and how long the next step of it is waited for.
        self._round: Round | None = None
        self._until: float | None = None
        self._asked_at = 0.0  # When the others were asked about the last draft.
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
        return self._until

    @property
    def is_stuck(self) -> bool:
        """Whether the drafter will not answer."""
        return self._until is not None and not self._is_asked(self._chain)

    def is_step(self, question: Question) -> bool:
        """Whether this question to our own expert is one of its chain."""
        return self._chain is not None and question.round == self._chain.asked_in

    def _is_asked(self, chain: Chain | None) -> bool:
        return chain is not None and self._members.question_of(chain.drafter.peer) is not None

    # --- making a draft -------------------------------------------------------------------------

    def begin(self, pool: ExpertPool, current: Round) -> list[Ask]:
        """Begin a draft for this round, if one pays: our own expert's first step. If `until` is
        None then, there is nothing to wait for, and the guesses are there, if there are any."""
        self._drafter, self._measures = None, []
        self._steps, self._steps_s = 0, 0.0
        self._round, chain = current, self._chain
        if chain is None:
            return self._choose(pool, current)
        if not self._is_asked(chain):
            chain.asked_in = None
        if chain.is_alive and (chain.links or chain.asked_in is not None):
            return self._draft(pool, chain, current)
        if chain.asked_in is None:
            self._chain = None
            return self._choose(pool, current)
        self._until = pool.now + STEP_MAX_S
        return []

    def answered(
        self, pool: ExpertPool, question: Question, lists: Sequence[SparseList], took_s: float
    ) -> list[Ask]:
        """Our own expert's answer; its next step, or nothing if the draft is at its end."""
        chain, current = self._chain, self._round
        assert chain is not None
        assert current is not None
        chain.asked_in = None
        if lists and question.upto - question.base == 1:
            self._known.stepped("local", took_s)
        if not chain.is_alive:
            self._chain = self._until = None
            return self._choose(pool, current)
        if lists:  # Else it has taken in a piece of the text.
            chain.links.append(self._link(chain, lists[0]))
        return self.go_ahead(pool) if self._until is None else self._go_on(pool, chain)

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

    def _choose(self, pool: ExpertPool, current: Round) -> list[Ask]:
        """A draft for this round by whoever makes the best one, if any pays."""
        room = self._room()
        if room <= 0:
            return []
        looked, measures, gain = self._looked_up(room)
        own = self._own_drafter(pool, current) if self._known.may_begin("local") else None
        if own is not None and self._known.gain("local", *self._known.usual("local")) >= gain:
            self._chain = Chain(own, self._writing.guide.fork())
            self._drafter = "local"
            return self._draft(pool, self._chain, current)
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

    def _draft(self, pool: ExpertPool, chain: Chain, current: Round) -> list[Ask]:
        """Our own expert's draft for this round: what it has made already, and more."""
        self._members.begin_round()
        room = self._room()
        chain.begin(current.number, room, self._length_max(room))
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
            self._drafter = "local"
            self._measures.append(measure)
        if chain.is_at_end:
            self._until = pool.now + STEP_MAX_S
            return [] if chain.asked_in is not None else self._step(pool, chain, chain.number)
        self._until = None
        return []

    def _guess(self, chain: Chain, token: int, reached: float) -> None:
        self._text.guess(token)
        chain.guessed += 1
        chain.reached, chain.expected = reached, chain.expected + reached

    def round(self, current: Round, experts: Experts, now: float) -> Round:
        """The round of the draft as it is, in place of `current`; no draft is made from now on."""
        chain, self._until, self._asked_at = self._chain, None, now
        upto, guesses = len(self._text), len(self._text.guesses)
        positions = range(upto - guesses - 1, upto)
        made = Round(current.number, positions, self._order, experts, now)
        if self._steps:
            made.drafter, made.steps = self._leader, self._steps
            made.steps_s = self._steps_s
        made.asked_at = current.asked_at
        lists = chain.lists(len(positions)) if chain is not None and chain.is_alive else ()
        if chain is not None and len(lists) == len(positions):
            made.poll.answered_by_own(chain.drafter, Reply(lists, 0, now - made.asked_at))
        else:  # There is none, or it has not answered in time.
            self._chain = None
        return made

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

    def decided(self, tokens: Sequence[int], *, is_over: bool) -> bool:
        """The text goes on with `tokens`. Whether all that our own expert has made of it stands.
        `is_over`: the text has gone on by itself behind them, or is at its end."""
        chain = self._chain
        if chain is None:
            return False
        chain.verdict(tokens)
        chain.is_alive = chain.is_alive and not is_over
        return chain.is_alive

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
