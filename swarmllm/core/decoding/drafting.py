"""The drafts of one answer: guesses that stand behind the text while a round asks about them.

Our own expert drafts token by token (`core.decoding.own_draft`). A look-up is there at once. A
remote expert answers a round and goes on by itself in the same breath (`ScoreDraft`): if what it
says comes true to the end of the round, the tokens behind it are the next draft.
`core.decoding.speculation` says whether a draft pays, and how long it should be.

Laws: while a draft is made nobody else is asked; whatever becomes of the drafter, the round begins
with what there is of the draft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from swarmllm.core.decoding.guide import Guide
from swarmllm.core.decoding.members import Ask, Members, Question
from swarmllm.core.decoding.own_draft import OwnDraft
from swarmllm.core.decoding.round import Experts, Round
from swarmllm.core.decoding.speculation import DRAFT_MAX, Drafter, LookUp, Speculation
from swarmllm.core.decoding.writing import Writing
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import claimed_step_s
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.messages import STEPS_MAX, PeerId
from swarmllm.wire.sparse import SparseList, likeliest_id


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
        self._own = OwnDraft(order, writing, members, known)
        self._round: Round | None = None  # The one that a draft is made for.
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
        return self._own.until

    @property
    def is_stuck(self) -> bool:
        """Whether the drafter will not answer."""
        return self._own.is_stuck

    def is_step(self, question: Question) -> bool:
        """Whether this question to our own expert is one of its draft."""
        return self._own.is_step(question)

    # --- making a draft -------------------------------------------------------------------------

    def begin(self, pool: ExpertPool, current: Round) -> list[Ask]:
        """Begin a draft for this round, if one pays: our own expert's first step. If `until` is
        None then, there is nothing to wait for, and the guesses are there, if there are any."""
        self._drafter, self._measures = None, []
        self._steps, self._steps_s = 0, 0.0
        self._round = current
        steps = self._own.resume(pool, current.number, self._room())
        return self._choose(pool, current) if steps is None else steps

    def answered(
        self, pool: ExpertPool, question: Question, lists: Sequence[SparseList], took_s: float
    ) -> list[Ask]:
        """Our own expert's answer; its next step, or nothing if the draft is at its end."""
        steps = self._own.answered(pool, question, lists, took_s)
        assert self._round is not None
        return self._choose(pool, self._round) if steps is None else steps

    def go_ahead(self, pool: ExpertPool) -> list[Ask]:
        """The others are asked: what our own expert does meanwhile."""
        return self._own.go_ahead(pool)

    def _choose(self, pool: ExpertPool, current: Round) -> list[Ask]:
        """A draft for this round by whoever makes the best one, if any pays."""
        room = self._room()
        if room <= 0:
            return []
        looked, measures, gain = self._looked_up(room)
        own = self._own.candidate(pool, current)
        if own is not None and self._known.pays("local", gain):
            return self._own.begin(pool, own, current.number, room)
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

    def round(self, current: Round, experts: Experts, now: float) -> Round:
        """The round of the draft as it is, in place of `current`; no draft is made from now on."""
        upto, guesses = len(self._text), len(self._text.guesses)
        positions = range(upto - guesses - 1, upto)
        made = Round(current.number, positions, self._order, experts, now)
        made.asked_at = current.asked_at
        if self._steps:
            made.drafter, made.steps = self._leader, self._steps
            made.steps_s = self._steps_s
        self._own.tell(made, now)
        return made

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
        step_s = claimed_step_s(self._members.record_of(self._leader))
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

    # --- what came of it ------------------------------------------------------------------------

    def decided(self, tokens: Sequence[int], *, is_over: bool) -> bool:
        """The text goes on with `tokens`. Whether all that our own expert has made of it stands.
        `is_over`: the text has gone on by itself behind them, or is at its end."""
        return self._own.decided(tokens, is_over=is_over)

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
        if self._own.has_tried:
            self._drafter, self._measures = "local", self._own.measures
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
