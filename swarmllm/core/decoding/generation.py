"""One answer: draft what is likely to come, ask K of N experts about all of it in parallel, pool
what comes back, and go token by token as far as the draft holds and one further; repeat.

A `Round` asks and waits; `Members` hold the sessions at experts; the `Ensemble` says whom to ask
and how much each counts; `Speculation` how long a draft should be, and a draft of no tokens is
strict mode. Here the text grows: a complete round becomes tokens, or the end. With
`quality` below 1 a round begins with one expert and goes on to K only where that one is unsure, or
would end the text. Any expert can take part in any token after catching up, and a death costs one
prefill elsewhere, never the answer; where nobody but the local expert is left, the user is told.
With a grammar only what it allows is drawn, what it leaves no choice about is written without a
round, and where the lists do not tell enough of what it allows, a second round asks for that alone
(`core.decoding.constrained`).

Laws: a request ends exactly once; no token is lost or doubled whoever dies; a token is the same
function of the lists and the seed whether it was drafted or not; a late answer still
counts for its own round and otherwise only for the expert's record; what passes
(`core.decoding.standing`) is waited for, up to `ROUND_MAX_S` a token, and what is final is said at
once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, assert_never

from swarmllm.core.decoding import notices as telling
from swarmllm.core.decoding import standing
from swarmllm.core.decoding.cascade import surprise
from swarmllm.core.decoding.consent import decide
from swarmllm.core.decoding.constrained import is_unsure, weighed
from swarmllm.core.decoding.drafting import Drafting
from swarmllm.core.decoding.ensemble import Ensemble
from swarmllm.core.decoding.members import Ask, Members
from swarmllm.core.decoding.pooling import Pooled
from swarmllm.core.decoding.revealing import heard, reveal
from swarmllm.core.decoding.round import Experts, Round
from swarmllm.core.decoding.sampling import likeliest, numbers
from swarmllm.core.decoding.speculation import Speculation
from swarmllm.core.decoding.standing import Standing
from swarmllm.core.decoding.writing import End, Writing
from swarmllm.core.events import Ended, EndReason, ExpertsWeighed, NodeEvent, Noticed, TokenChosen
from swarmllm.core.peers.pool import ExpertPool
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import HIDDEN_SHARE
from swarmllm.core.values import GenerateRequest
from swarmllm.errors import LocalError
from swarmllm.messages import Busy, ExpertReply, Need, PeerId, Refused, Scores
from swarmllm.wire.token_set import TokenSet

# An expert that says "busy, retry at once" must not become a tight loop.
BUSY_MIN_S: Final = 0.05
# After asking: the questions are on the wire by then, and the nearest engine is at work for longer.
PREPARE_S: Final = 0.001
# Keeps the draws of exploration apart from those of sampling.
EXPLORE_SALT: Final = 0x5EED

Step = Ask | NodeEvent


@dataclass(frozen=True, slots=True)
class Decided:
    """A token, its log-probability in `pooled`, and how much each expert counted."""

    token: int
    logprob: float
    weights: Sequence[float]
    pooled: Pooled


class Generation:
    """The machine of one request. Every method returns what to do; `ended` is final."""

    def __init__(
        self,
        request: int,
        session: int,
        order: GenerateRequest,
        settings: Settings,
        now: float,
        speculation: Speculation | None = None,
    ) -> None:
        """`speculation`: what is known of drafts; None: nothing."""
        self.request = request
        self.session = session
        self.order = order
        self.ended = False
        self._settings = settings
        self._writing = Writing(order)
        self._text, self._guide = self._writing.text, self._writing.guide
        # What was written before anybody was asked: told when it is known who is.
        self._untold: list[TokenChosen] = []
        exploring = random.Random(order.sampling.seed ^ EXPLORE_SALT)
        self._ensemble = Ensemble(order, exploring, settings)
        self._standing = Standing()
        self.members = Members(session, self._text, self._ensemble.gate.positions, settings)
        self._experts = Experts(self.members, self._ensemble, self._standing, settings)
        self._drafting = Drafting(order, self._writing, self.members, speculation or Speculation())
        self._failovers = 0
        self._local_only = 0
        self._level = telling.Level(order.k)
        self._is_kept = False  # The experts of the first round were weighed.
        self._round = Round(0, self._text.last, order, self._experts, now)

    def next_deadline(self) -> float:
        """When `timer` wants to be called."""
        if self._drafting.until is not None:
            return self._drafting.until
        current = self._round
        deadline = min(current.next_deadline(), current.silence.due_at(current.poll.replies))
        return min(deadline, current.asked_at + PREPARE_S) if self._guide.is_behind else deadline

    # --- inputs --------------------------------------------------------------------------------

    def start(self, pool: ExpertPool) -> list[Step]:
        end = self._writing.write_forced()
        self._untold = self._writing.told(self.request, 0)
        if end is not None:
            return self._end(*end)
        self._round = Round(0, self._text.last, self.order, self._experts, pool.now)
        return [*self._round.begin(pool)]

    def received(
        self, pool: ExpertPool, peer: PeerId, reply: ExpertReply, size_bytes: int
    ) -> list[Step]:
        """An expert's answer. RemoteError: it breaks the protocol; the expert is out of this
        answer, nothing else changed."""
        question = self.members.question_of(peer)
        if question is None or reply.round != question.round:
            return []  # Nobody waits for it any more.
        match reply:
            case Scores():
                return self._scored(pool, peer, reply, size_bytes)
            case Need(have=have):
                is_needy = self.members.needs(peer, have)
                is_current = question.round == self._round.number
                if not is_needy and is_current and peer in self._round.poll.asked:
                    return [*self._round.ask_on(pool, peer)]
                # Others take its place away faster than it computes: no breach, and no use either.
                if is_needy:
                    pool.rest(peer, self._standing.rebuffed(peer, standing.NEEDY))
                    self._experts.drop(peer, self._round.poll)
            case Busy(retry_after_ms=retry_ms):
                self.members.refused(peer)
                pool.rest(peer, max(BUSY_MIN_S, retry_ms / 1000))
                self._standing.waits(peer, standing.BUSY)
                self._round.poll.drop_out(peer)
            case Refused(code=code):
                record = self.members.record_of(peer)
                pool.rest(peer, self._standing.refused(peer, record, code))
                self._experts.drop(peer, self._round.poll)
            case _:
                assert_never(reply)
        return self._settle(pool)

    def lost(self, pool: ExpertPool, peer: PeerId) -> list[Step]:
        """The connection to an expert is gone, and with it the session there."""
        if peer not in self.members:
            return []
        self._failovers += self._experts.drop(peer, self._round.poll)
        self._standing.waits(peer, standing.LOST)
        return self._settle(pool)

    def misbehaved(self, pool: ExpertPool, peer: PeerId) -> list[Step]:
        """The expert broke the protocol; it is not asked again for this answer."""
        self._standing.excluded(peer, standing.BROKE)
        return self.lost(pool, peer)

    def timer(self, pool: ExpertPool) -> list[Step]:
        """A deadline may have come: go on with what is there, or look for others."""
        current, now = self._round, pool.now
        if self._drafting.until is not None:
            return self._verify(pool) if now >= self._drafting.until else []
        try:
            self._guide.allowed()
        except LocalError as error:
            return self._end("error", str(error))
        if not current.poll.replies and now >= current.gives_up_at():
            why = self._standing.reasons, pool.shortage(len(self._text))
            seconds, asked = now - current.clock.started_at, len(self._experts.ever_asked)
            return self._end(
                "error", telling.despair(asked, *why, seconds, is_final=current.is_hopeless)
            )
        told: list[Step] = []
        if now >= current.silence.due_at(current.poll.replies):
            current.silence.broken()
            why = self._standing.reasons, pool.shortage(len(self._text))
            left_s = current.gives_up_at() - now
            said = telling.silence(len(current.poll.waiting), *why, left_s)
            told = [Noticed(self.request, said)]
        if current.is_overdue(now):
            current.miss(pool)
            if revealed := reveal(current, self._experts.hidden, pool, is_overdue=True):
                return [*told, *revealed]
            if current.poll.replies:
                return told + self._complete(pool)
            steps = current.retry(pool)
            self._failovers += bool(steps)
            return [*told, *steps]
        if current.wants_others(now):
            return told + self._settle(pool)
        return told

    def cancel(self, reason: Literal["stop", "cancelled"]) -> list[Step]:
        return self._end(reason)

    def halt(self, why: str) -> list[Step]:
        """The kill switch: not even a goodbye is sent."""
        self.members.clear()
        return self._end("halted", why)

    # --- what an answer brings -----------------------------------------------------------------

    def _scored(
        self, pool: ExpertPool, peer: PeerId, scores: Scores, size_bytes: int
    ) -> list[Step]:
        members, current = self.members, self._round
        question, reply = self._experts.take(pool, peer, scores, self.order.vocab_size)
        if self._drafting.is_step(question) and pool.is_local(peer):
            is_ahead = self._drafting.until is None
            steps = self._drafting.answered(pool, question, reply.lists, reply.rtt_s)
            is_made = not is_ahead and self._drafting.until is None
            return self._verify(pool) if is_made else [*steps]
        self._drafting.replied(question, size_bytes, len(reply.lists), reply.rtt_s)
        is_late = question.round != current.number
        has_part = not is_late and peer in current.poll.asked
        if has_part and reply.lists:
            current.answered(pool, peer, replace(reply, size_bytes=size_bytes))
        elif has_part:
            heard(current, self._experts.hidden, pool, peer, size_bytes)
        steps = current.expose(pool)
        if peer in members and is_late:
            steps += current.rejoin(pool, peer)
        elif peer in members and has_part and not reply.lists:
            steps += current.ask_on(pool, peer)
        return [*steps, *self._settle(pool)]

    # --- from round to round -------------------------------------------------------------------

    def _settle(self, pool: ExpertPool) -> list[Step]:
        """Finish the round if it is complete; ask others in place of those who dropped out."""
        if self.ended:
            return []
        if self._drafting.until is not None:
            return self._verify(pool) if self._drafting.is_stuck else []
        if revealed := reveal(self._round, self._experts.hidden, pool):
            return [*revealed, *self._round.refill(pool)]
        return self._complete(pool) if self._round.is_complete else [*self._round.refill(pool)]

    def _complete(self, pool: ExpertPool) -> list[Step]:
        """There are answers enough; one alone that is unsure is a reason to ask the others after
        all."""
        current = self._round
        if current.is_narrow and current.answers_wanted < self.order.k:
            current.is_narrow = False
            alone = min(surprise(reply.lists[0]) for reply in current.poll.replies.values())
            if self._ensemble.cascade.widen(alone) and (steps := current.ask_all(pool)):
                return [*steps]
        return self._finish(pool)

    def _finish(self, pool: ExpertPool) -> list[Step]:
        """Pool, sample, tell, as far as the draft holds; and begin the next round."""
        current, replies = self._round, self._round.poll.replies
        if current.is_first and not self._is_kept:
            self._ensemble.conclude(pool)
        used = self._ensemble.best(replies, current.answers_wanted)
        used.sort(key=lambda peer: (not pool.is_local(peer), peer))
        steps: list[Step] = self._keep(pool) if current.is_first and not self._is_kept else []
        guesses, index = self._text.take_back(), self._text.index
        draft = guesses[: len(current.positions) - 1]  # Behind it our own expert is ahead.
        held, accepted = len(self._text), 0
        decided: list[Decided] = []
        follows: list[Step] | None = None  # In place of the next round.
        end: End | None = None
        while True:
            found = self._decide(pool, used, len(decided))
            if not isinstance(found, Decided):
                follows, is_right = found, True
                break
            decided.append(found)
            end = self._writing.append(found.token)
            is_right = draft[accepted : accepted + 1] == (found.token,)
            accepted += is_right
            if end is not None or self._writing.forced or not is_right:
                break
        # For each token and not for each round: what is hidden must not depend on drafts.
        pool.allowance.earn(self._settings[HIDDEN_SHARE] * len(decided))
        is_over = end is not None or bool(self._writing.forced)
        stands = self._drafting.decided([one.token for one in decided], is_over=is_over)
        self.members.cut(held + (len(guesses) if stands else accepted))
        self._drafting.finished(
            *(current, pool.now, len(decided), len(draft), accepted), is_cut=is_right
        )
        is_whole = bool(decided) and accepted == len(draft) < len(decided)
        leader = current.poll.leader(pool, used, self._ensemble.weights(used))
        self._drafting.look_ahead(current, leader, decided[-1].token if is_whole else None)
        if decided:
            steps += self._told(pool, used, decided, index)
            steps += self._writing.told(self.request, current.number)
        if end is not None:
            follows = self._end(*end)
        return [*steps, *(self._next(pool) if follows is None else follows)]

    def _decide(
        self, pool: ExpertPool, used: Sequence[PeerId], place: int
    ) -> Decided | list[Step] | None:
        """The token behind the round's position `place`; or what has to be done before it is known,
        with which this round is over. None: it has to be asked about again."""
        current, replies = self._round, self._round.poll.replies
        lists, weights = [replies[p].lists[place] for p in used], self._ensemble.weights(used)
        try:
            allowed = self._guide.allowed()
        except LocalError as error:
            return self._end("error", str(error))
        if current.allowed is not None:
            lists = weighed(lists, [replies[p].log_mass for p in used])
        elif allowed is not None and is_unsure(lists, weights, allowed):
            if place:
                return None
            self.members.cut(len(self._text))
            if again := self._ask_allowed(pool, used, allowed):
                return again
            if not any(allowed.holds(one.ids).any() for one in lists):
                return self._end("error", telling.UNLISTED)
        decided = Decided(
            *decide(
                *(self.order, lists, weights, self._ensemble.holders(used)),
                *(numbers(self.order.sampling.seed, self._text.index), self._text.tokens, allowed),
            )
        )
        is_local = all(pool.is_local(peer) for peer in used)
        # One that was asked alone does not end a text where the user wants others to have a say.
        is_alone = current.answers_wanted < self.order.k and self.order.quality > 0
        if decided.token in self.order.stop_tokens and not is_local and is_alone:
            return [*current.ask_all(pool)] or decided
        return decided

    def _told(
        self, pool: ExpertPool, used: Sequence[PeerId], decided: Sequence[Decided], index: int
    ) -> list[Step]:
        """What the user hears of the tokens that the round has brought."""
        current = self._round
        is_local = all(pool.is_local(peer) for peer in used)
        self._local_only += is_local * len(decided)
        said = self._level.change(
            len(used),
            current.answers_wanted,
            is_local,
            lambda: current.poll.known(current.free(pool)),
        )
        chosen = [
            TokenChosen(
                request=self.request,
                index=index + place,
                token=one.token,
                logprob=one.logprob,
                round=current.number,
                k=len(used),
                round_s=pool.now - current.asked_at,
                experts=current.poll.uses(used, one.weights, place, len(decided)),
                agreement=one.pooled.agreement,
                likeliest=likeliest(one.pooled, self.order.likeliest),
                shared=len(decided),
            )
            for place, one in enumerate(decided)
        ]
        return [*([Noticed(self.request, said)] if said else []), *chosen]

    def _ask_allowed(
        self, pool: ExpertPool, used: Sequence[PeerId], allowed: TokenSet
    ) -> list[Step]:
        """A round about the allowed tokens alone, by those whose answers count. Nothing if nobody
        can be asked that."""
        before = self._round
        again = Round(
            *(before.number + 1, self._text.last, self.order, self._experts, pool.now), allowed
        )
        steps = again.begin(pool, before, used)
        if steps:
            self._round = again
        return [*steps]

    def _next(self, pool: ExpertPool) -> list[Step]:
        """The next round, after a draft if one pays."""
        number = self._round.number + 1
        self._round = Round(number, self._text.last, self.order, self._experts, pool.now)
        steps = self._drafting.begin(pool, self._round)
        return self._verify(pool) if self._drafting.until is None else [*steps]

    def _verify(self, pool: ExpertPool) -> list[Step]:
        """Ask about the draft, however far it has come; without one, about the next token."""
        self._round = self._drafting.round(self._round, self._experts, pool.now)
        steps = self._round.begin(pool)
        if self._round.is_complete:
            return [*steps, *self._complete(pool)]
        return [*steps, *self._drafting.go_ahead(pool)]

    def _keep(self, pool: ExpertPool) -> list[Step]:
        """After the first round: tell who was weighed, and let those go that this answer will
        hardly need again."""
        poll = self._round.poll
        probed = [p for p in poll.replies if p in self.members]
        kept = self._ensemble.best(probed, self.order.k + self.order.extra, pool)
        self._is_kept = True
        found = tuple(self._ensemble.verdict(pool, probed, kept))
        known = poll.known(self._round.free(pool))
        gone = sorted(set(probed) - set(kept))
        told = ExpertsWeighed(self.request, found, known)
        untold, self._untold = self._untold, []
        return [told, *(self.members.close(peer) for peer in gone), *untold]

    # --- telling the user, and the end ---------------------------------------------------------

    def _end(self, reason: EndReason, error: str = "") -> list[Step]:
        assert not self.ended
        self.ended = True
        ended = Ended(
            self.request,
            reason,
            self._text.index - len(self._text.guesses),
            self._failovers,
            self._local_only,
            error,
            self._drafting.drafted,
            self._drafting.accepted,
        )
        untold, self._untold = self._untold, []
        return [*untold, *self.members.close_all(), ended]
