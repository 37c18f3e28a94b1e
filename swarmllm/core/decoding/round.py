"""A round asks several experts in parallel for the distributions behind the same positions of the
text, until enough of them have answered.

It ends with the answers that were wanted, as soon as those still to come would change little, or at
its deadline with those that are there; with none it goes on to ask others. The first round is not
won by who is quickest: whoever may still change what is known of the prompt is waited for.

A round knows nothing of tokens that are drawn: it says when it is complete, and its owner looks at
`replies`. Strict mode asks about one position, speculation about several; where our own expert has
made the draft, what it says of them is there from the beginning.

Laws: an answer counts for its own round only; whoever has not answered in time is noted down for it
once a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from swarmllm.core.decoding import notices as telling
from swarmllm.core.decoding import standing
from swarmllm.core.decoding.ensemble import Ensemble
from swarmllm.core.decoding.members import Ask, Members, Question
from swarmllm.core.decoding.patience import RoundClock, gives_up_after_s
from swarmllm.core.decoding.standing import Standing
from swarmllm.core.events import ExpertUse
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.peers.router import PREFILL_TOKENS, Candidate
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import HEDGE_COST
from swarmllm.core.trust.evidence import HiddenTokens
from swarmllm.core.values import GenerateRequest
from swarmllm.messages import REFUSED_CONTEXT, PeerId, Scores
from swarmllm.wire.ext import answers_allowed, answers_drafts
from swarmllm.wire.sparse import SparseList
from swarmllm.wire.token_set import TokenSet

# Tokens missing, up to which an expert answers in a step and not after a prompt: the longest draft,
# and some that were forced.
CAUGHT_UP: Final = 48


@dataclass(frozen=True, slots=True)
class Experts:
    """What one answer knows of its experts, from round to round. `ever_asked` holds no more than
    the ensemble knows."""

    members: Members
    ensemble: Ensemble
    standing: Standing
    settings: Settings
    ever_asked: set[PeerId] = field(default_factory=set)

    @property
    def hidden(self) -> HiddenTokens:
        """The tokens of the prompt that no expert has been told yet."""
        return self.ensemble.trust.hidden

    def drop(self, peer: PeerId, poll: Poll) -> bool:
        """Its session is gone. Whether others have to take up what it was working on."""
        poll.drop_out(peer)
        return self.members.drop(peer)

    def take(
        self, pool: ExpertPool, peer: PeerId, reply: Scores, vocab_size: int
    ) -> tuple[Question, Reply]:
        """What an expert was asked, and what it says; all that does not depend on the round is
        noted. RemoteError: it says something else than it was asked."""
        members = self.members
        question = members.question_of(peer)
        assert question is not None
        lists = question.lists_in(peer, reply, vocab_size)
        log_mass = question.log_mass_in(peer, reply)
        if question.allowed is None:
            self.ensemble.told(peer, question.evidence, reply.target_logprobs)
        members.answered(peer)
        self.standing.answered(peer)
        if question.round == 0 and self.hidden.is_about(question.positions):
            position = question.positions[0]
            logprob = self.hidden.listen(peer, position, lists[0])
            if logprob is not None:
                self.ensemble.learn(peer, position, logprob)
            lists = ()  # They say nothing of the round's own positions.
        took_s = pool.now - question.sent_at
        if not question.steps:  # They say nothing of a round.
            # A draft is taken in as it is verified, list by list, which is no catching up.
            is_round = len(question.positions) > 1
            count = question.upto - question.base
            pool.replied(peer, took_s, min(count, PREFILL_TOKENS - 1) if is_round else count)
        return question, Reply(lists, 0, took_s, log_mass)


@dataclass(frozen=True, slots=True)
class Reply:
    """`lists[i]` is the distribution behind the round's position i; in a round about allowed
    tokens, that among them, and `log_mass` is what the expert gives to all of them."""

    lists: tuple[SparseList, ...]
    size_bytes: int
    rtt_s: float
    log_mass: float = 0.0


@dataclass(slots=True)
class Poll:
    """Who was asked in a round, and what came back. `dropped_out`: without an answer; `missed`: let
    the deadline pass, and may still answer. `bytes_before`: what came back before the answer."""

    asked: dict[PeerId, Candidate] = field(default_factory=dict)
    replies: dict[PeerId, Reply] = field(default_factory=dict)
    dropped_out: set[PeerId] = field(default_factory=set)
    missed: set[PeerId] = field(default_factory=set)
    bytes_before: dict[PeerId, int] = field(default_factory=dict)

    @property
    def waiting(self) -> list[PeerId]:
        """Asked, and neither answered nor dropped out."""
        return [p for p in self.asked if p not in self.replies and p not in self.dropped_out]

    @property
    def expected(self) -> int:
        """Answers that there are or may still be."""
        return len(self.replies) + len(self.waiting)

    def known(self, free: Sequence[Candidate]) -> int:
        """How many experts there are with those who were not asked."""
        return len({*self.asked, *(candidate.peer for candidate in free)})

    def answered_by_own(self, own: Candidate, reply: Reply) -> None:
        """Our own expert has said all that it would be asked."""
        self.asked[own.peer], self.replies[own.peer] = own, reply

    def leader(
        self, pool: ExpertPool, used: Sequence[PeerId], weights: Sequence[float]
    ) -> PeerId | None:
        """Of the remote experts that can draft, the one that weighs most."""
        able = [
            (weight, peer)
            for peer, weight in zip(used, weights, strict=True)
            if not pool.is_local(peer) and answers_drafts(self.asked[peer].record.ext)
        ]
        return max(able)[1] if able else None

    def drop_out(self, peer: PeerId) -> None:
        """It will not answer; an answer that it has given still counts."""
        if peer in self.asked and peer not in self.replies:
            self.dropped_out.add(peer)

    def reject(self, peer: PeerId) -> None:
        """What it answered does not count either."""
        self.replies.pop(peer, None)
        self.drop_out(peer)

    def uses(
        self, used: Sequence[PeerId], weights: Sequence[float], place: int, tokens: int
    ) -> tuple[ExpertUse, ...]:
        """What a token was made of, the one at `place` of those that the round has brought: they
        share what the answers weighed on the wire."""
        parts = [(peer, self.asked[peer].record.model, self.replies[peer]) for peer in used]
        return tuple(
            ExpertUse(p, m, w, _share(r.size_bytes, place, tokens), r.rtt_s, True)
            for (p, m, r), w in zip(parts, weights, strict=True)
        )


def _share(whole: int, place: int, count: int) -> int:
    """All shares add up to the whole."""
    return whole * (place + 1) // count - whole * place // count


class Round:
    """`answers_wanted` answers of the best experts complete it. Times are on the clock of whoever
    asks, in seconds. `allowed`: it is about these tokens alone."""

    def __init__(
        self,
        number: int,
        positions: range,
        request: GenerateRequest,
        experts: Experts,
        now: float,
        allowed: TokenSet | None = None,
    ) -> None:
        self.allowed = allowed
        # When these positions were asked about first, and what came back for them then, in bytes.
        self.asked_at = now
        self.number = number
        self.is_first = number == 0
        self.positions = positions
        self.poll = Poll()
        self.clock = RoundClock(now, experts.settings)
        # With `quality` below 1 one expert is asked, and the others only where it is unsure.
        self.is_narrow = not self.is_first and request.quality < 1
        self.answers_wanted = 1 if self.is_narrow else request.k
        self._request = request
        self._experts = experts
        # Whether there was anybody to ask, be it one who rests ...
        self._has_known = False
        # ... or anybody known who could be asked if it were reached.
        self._has_hope = False
        self.silence = telling.Silence(now)
        # Who goes on by itself behind the last position, for how many tokens, and for how long.
        self.drafter: PeerId | None = None
        self.steps, self.steps_s = 0, 0.0

    # --- how it stands -------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Whether somebody has answered and nobody is waited for any longer: before the first token
        for whoever may change what is known of the prompt, from then on for those that a token is
        made of."""
        replies, waiting, ensemble = self.poll.replies, self.poll.waiting, self._experts.ensemble
        if not replies or not waiting:
            return bool(replies)
        if len(replies) < self.answers_wanted:
            return False
        if self.is_first:
            return not ensemble.evidence_awaited(replies, waiting)
        return ensemble.is_quorum(replies, waiting, self.answers_wanted)

    @property
    def is_hopeless(self) -> bool:
        """Whether all that keeps experts from answering is final, and there is nobody else."""
        return self._experts.standing.is_hopeless and not self._has_known

    def gives_up_at(self) -> float:
        """When this round, if nobody answers it, ends the request."""
        return self.clock.started_at + gives_up_after_s(
            is_first=self.is_first,
            is_idle=not self._has_known and not self.poll.waiting,
            was_asked=bool(self._experts.ever_asked),
            is_hopeless=self._experts.standing.is_hopeless,
            has_hope=self._has_hope,
        )

    def next_deadline(self) -> float:
        times = [self.clock.deadline_at]
        if self.poll.expected < self.answers_wanted:
            times.append(self.clock.retry_at)
        if not self.poll.replies:
            times.append(self.gives_up_at())
        return min(times)

    def is_overdue(self, now: float) -> bool:
        return now >= self.clock.deadline_at and bool(self.poll.asked)

    def wants_others(self, now: float) -> bool:
        """Whether it is time to look for somebody new."""
        return now >= self.clock.retry_at and self.poll.expected < self.answers_wanted

    # --- asking --------------------------------------------------------------------------------

    def begin(
        self, pool: ExpertPool, before: Round | None = None, used: Sequence[PeerId] = ()
    ) -> list[Ask]:
        """Ask as many as are wanted and some more as hedges. Whoever still owes an answer to an
        earlier round is likelier late than lost, so each of them takes the place of a hedge that
        would have to catch up for long.

        After a round `before` those whose answers counted there (`used`) are asked about the
        allowed tokens alone, and others in place of those who do not know that question; nothing if
        nobody does."""
        members, request = self._experts.members, self._request
        members.begin_round()
        if before is not None:
            self.is_narrow, self.answers_wanted = False, before.answers_wanted
            self.asked_at = before.asked_at
            self.poll.bytes_before = {peer: before.poll.replies[peer].size_bytes for peer in used}
            steps: list[Ask] = []
            for peer in used:
                known = before.poll.asked[peer]
                if answers_allowed(known.record.ext) and peer in members:
                    steps += self._ask(pool, replace(known, missing=len(self.positions)))
            missing = len(used) - len(self.poll.asked)
            return steps + self.widen(pool, missing) if missing > 0 else steps
        if self.is_narrow:
            return self.widen(pool, 1)
        count, there = request.k + request.extra, len(self.poll.replies)
        needed = max(request.k, count - members.open_questions())
        return self.widen(pool, count - there, needed=needed - there)

    def widen(self, pool: ExpertPool, count: int, needed: int | None = None) -> list[Ask]:
        """Ask up to `count` experts that have no part in this round yet (before the first token: as
        many as are worth probing), beyond the first `needed` of them (None: all) only those that
        need not catch up for long."""
        free = self.free(pool)
        candidates = {c.peer: c for c in free}
        is_probing = self.is_first and not self.poll.asked
        hedge_s = self._experts.settings[HEDGE_COST]
        steps: list[Ask] = []
        for place, peer in enumerate(self._pick(pool, free, count, is_probing=is_probing)):
            candidate = candidates[peer]
            is_hedge = needed is not None and place >= needed and not is_probing
            is_behind = not candidate.member or candidate.missing > CAUGHT_UP
            if is_hedge and is_behind and pool.catch_up_s(candidate) > hedge_s:
                continue
            steps += self._ask(pool, candidate)
        self.clock.looked(pool.now)
        return steps

    def free(self, pool: ExpertPool) -> list[Candidate]:
        """Who could be asked in this round and was not."""
        experts, poll, total = self._experts, self.poll, self.positions.stop
        for peer, member in experts.members:
            if member.record.context_max < total:
                experts.standing.refused(peer, member.record, REFUSED_CONTEXT)
        free = [
            c
            for c in pool.candidates(experts.members.missing(total), total, self._request.only)
            if (c.peer not in poll.asked or c.peer in poll.dropped_out)
            and experts.standing.may_ask(c.peer, c.record)
            and experts.members.question_of(c.peer) is None
            and (self.allowed is None or answers_allowed(c.record.ext))
        ]
        self._has_known = bool(free)
        self._has_hope = self._has_known or pool.hopes(total, self._request.only)
        return experts.ensemble.fitted(pool, free)

    def _pick(
        self, pool: ExpertPool, free: Sequence[Candidate], count: int, *, is_probing: bool
    ) -> list[PeerId]:
        ensemble = self._experts.ensemble
        picked = ensemble.probe(pool, free) if is_probing else pool.pick(count, free)
        return picked if picked or self.poll.expected else pool.suspect(free)

    def _ask(self, pool: ExpertPool, candidate: Candidate) -> list[Ask]:
        peer = candidate.peer
        self.poll.asked[peer] = candidate
        self.poll.dropped_out.discard(peer)
        self._experts.ever_asked.add(peer)
        more_s = self.steps_s if peer == self.drafter else 0.0
        self.clock.waits_for(peer, pool.patience_s(candidate) + more_s, pool.now)
        return self.ask_on(pool, peer)

    def ask_on(self, pool: ExpertPool, peer: PeerId) -> list[Ask]:
        """The next question to an expert that has a part in this round: it has taken in a piece of
        the text, or has lost one."""
        record = self.poll.asked[peer].record
        steps = self.steps if peer == self.drafter else 0
        positions = self.positions
        if self.is_first and (cut := self._experts.hidden.cut) is not None:
            if self._experts.hidden.has_said(peer):
                return []  # It waits until all have said what they expect.
            positions = range(cut, cut + 1)
        return self._experts.members.ask(
            peer, record, self.number, positions, pool, self.allowed, steps
        )

    def refill(self, pool: ExpertPool) -> list[Ask]:
        """Ask others in place of those who dropped out."""
        short = self.answers_wanted - self.poll.expected
        if short <= 0:
            return []
        if self.poll.asked and not self.poll.waiting:
            self.clock.extend(pool.now)
        return self.widen(pool, short)

    def retry(self, pool: ExpertPool) -> list[Ask]:
        """Nobody has answered in time: ask others, too."""
        self.clock.extend(pool.now)
        return self.widen(pool, self.answers_wanted + self._request.extra)

    def ask_all(self, pool: ExpertPool) -> list[Ask]:
        """A round that began with one expert becomes one of all K."""
        self.answers_wanted = self._request.k
        return self.widen(pool, self._request.k - len(self.poll.replies))

    def rejoin(self, pool: ExpertPool, peer: PeerId) -> list[Ask]:
        """Its answer to an earlier round has come after all: where this one waits for somebody's
        prompt, it is asked again."""
        if not any(self.poll.asked[p].missing > CAUGHT_UP for p in self.poll.waiting):
            return []
        found = next((c for c in self.free(pool) if c.peer == peer), None)
        if found is None or len(self.poll.replies) >= self.answers_wanted:
            return []
        return self._ask(pool, found)

    # --- what comes back -----------------------------------------------------------------------

    def answered(self, pool: ExpertPool, peer: PeerId, reply: Reply) -> None:
        """Once somebody has answered, it is clearer how long the others are worth waiting for."""
        poll, now = self.poll, pool.now
        size = reply.size_bytes + self.poll.bytes_before.get(peer, 0)
        poll.replies[peer] = replace(reply, size_bytes=size)
        if len(poll.replies) < self.answers_wanted:
            needed_s = max((pool.patience_s(poll.asked[p]) for p in poll.waiting), default=0.0)
            self.clock.answers_missing(needed_s, now)
        elif self.is_first:
            ensemble = self._experts.ensemble
            awaited = ensemble.evidence_awaited(poll.replies, poll.waiting)
            self.clock.evidence_awaited(awaited, now)
        else:
            self.clock.enough_answered(now)

    def expose(self, pool: ExpertPool) -> list[Ask]:
        """Part from those who claim our own expert's model and were shown not to have it."""
        experts, steps = self._experts, []
        for peer in experts.ensemble.contradicted():
            if peer in experts.members:
                experts.ensemble.trust.refuted(pool, peer)
                experts.standing.excluded(peer, standing.CONTRADICTED)
                self.poll.reject(peer)
                steps.append(experts.members.close(peer))
        return steps

    def miss(self, pool: ExpertPool) -> None:
        """Whoever has not answered in time is noted down for it, once a round. Where enough have
        answered, nobody has missed anything by being slower, except before the first token, for
        which it was waited."""
        late = self.poll.waiting
        if self.is_first and self._experts.hidden.cut is not None:
            late = self._experts.hidden.owing(late)
        elif len(self.poll.replies) >= self.answers_wanted:
            ensemble = self._experts.ensemble
            late = ensemble.evidence_awaited(self.poll.replies, late) if self.is_first else []
        for peer in late:
            if peer not in self.poll.missed:
                self.poll.missed.add(peer)
                self._experts.standing.waits(peer, standing.SILENT)
                pool.missed(peer)
